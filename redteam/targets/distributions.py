"""Probabilities as black boxes give them: in percent, rounded, or of the surest labels only; and their logarithms."""

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray

# A probability of exactly zero has no logarithm. The smallest normal double is below everything else that a
# black box can answer, so a zero stays below every other answer and no two different answers become equal.
FLOOR = float(np.finfo(np.float64).tiny)
HARD = "every probability is 0 or 1: they are taken for predicted labels, and audited as these"
TOLERANCE = 5e-3  # of a sum: what half precision loses, and no label that was left out
_DECIMALS = (2, 3, 4)
_LESS = 1 - 1e-9  # a label that was left out never ties with one that was not


def log_probabilities(probabilities: FloatArray) -> FloatArray:
    """Return natural logarithms, zeros raised to FLOOR (-708.4) and rounding above one cut, same shape."""
    values = np.clip(probabilities, FLOOR, 1.0)
    return np.log(values, out=values)


def probability_fault(probabilities: FloatArray) -> tuple[int, str] | None:
    """Return the first row of [n, k] that is not a distribution, rounded or not, and what is wrong with it; or None."""
    with np.errstate(all="ignore"):
        total = probabilities.sum(axis=1)
        wrong = (probabilities < 0).any(axis=1) | ~(np.abs(total - 1) <= TOLERANCE)
        if wrong.any():
            wrong[wrong] = ~_rounded(probabilities[wrong])
    return _first(probabilities, wrong, "give those of all labels") if wrong.any() else None


def partial_fault(given: FloatArray) -> tuple[int, str] | None:
    """Return the first row of [n, k], NaN where a label was left out, that no distribution begins with; or None."""
    stated = np.where(np.isnan(given), 0.0, given)
    with np.errstate(all="ignore"):
        wrong = (stated < 0).any(axis=1) | ~(stated.sum(axis=1) <= 1 + TOLERANCE)
        if wrong.any():
            wrong[wrong] = ~_rounded(stated[wrong], whole=False)
    return _first(stated, wrong, "which is more than there is") if wrong.any() else None


def _first(probabilities: FloatArray, wrong: BoolArray, advice: str) -> tuple[int, str]:
    row = int(wrong.argmax())
    if not np.isfinite(probabilities[row]).all():
        return row, "a probability is NaN or infinite"
    if (least := probabilities[row].min()) < 0:
        return row, f"a probability is negative ({least:.4g}); give probabilities, not logits"
    with np.errstate(over="ignore"):
        return row, f"the probabilities sum to {probabilities[row].sum():.4g}, not 1; {advice}"


def _rounded(values: FloatArray, *, whole: bool = True) -> BoolArray:
    """Tell which rows are a distribution rounded, or cut, to 2, 3 or 4 decimals; not `whole`: some labels of one."""
    found = np.zeros(len(values), dtype=np.bool_)
    for decimals in _DECIMALS:
        unit = 10.0**-decimals
        steps = values / unit
        written = (np.abs(steps - np.rint(steps)) < 1e-3).all(axis=1) & (values >= 0).all(axis=1)
        below = np.maximum(values - unit / 2, 0.0).sum(axis=1) <= 1 + 1e-6
        above = (values + unit).sum(axis=1) >= 1 - 1e-6
        found |= written & below & (above | (not whole))
    return found


def in_percent(given: FloatArray) -> bool:
    """Tell whether rows [n, k], NaN where a label was left out, are percentages: only together they are distributions.

    A sum of 2 or more is no rounding. The surest labels alone could be logits as well, which seldom reach 25.
    """
    if not len(given) or not np.isfinite(given[~np.isnan(given)]).all():
        return False
    with np.errstate(over="ignore"):
        total, partial = np.nansum(given, axis=1), np.isnan(given).any(axis=1)
    hundredth = given / 100.0
    fits = probability_fault(hundredth[~partial]) is None and partial_fault(hundredth[partial]) is None
    return bool((total >= np.where(partial, 25.0, 2.0)).all()) and fits


def normalised(values: FloatArray) -> tuple[FloatArray, int]:
    """Divide rows [n, k] by their sums; return how many of these were off by more than the precision of a float.

    Of a row that rounds to nothing but zeros no label is likelier than another.
    """
    total = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, total, out=np.full_like(values, 1.0 / max(1, values.shape[1])), where=total > 0)
    return shares, int((np.abs(total - 1) > 1e-5).sum())


def completed(given: FloatArray) -> FloatArray:
    """Fill rows [n, k] in which NaN stands for the labels that an answer left out.

    They share equally what is left of 1, and none gets more than the smallest probability given. The rule is the same
    for every row, whoever was a member.
    """
    missing = np.isnan(given)
    rest = np.maximum(0.0, 1.0 - np.nansum(given, axis=1))
    share = np.minimum(rest / np.maximum(1, missing.sum(axis=1)), np.nanmin(given, axis=1) * _LESS)
    return np.where(missing, share[:, None], given)


def widened(values: FloatArray, columns: int) -> FloatArray:
    """Return log-probabilities [n, k] with columns for labels that became known later; these answers left none out."""
    more = columns - values.shape[1]
    return values if more <= 0 else np.pad(values, ((0, 0), (0, more)), constant_values=np.log(FLOOR))


def hard(log_probabilities: FloatArray) -> bool:
    """Tell whether every row [n, k] is sure of one label and rules all others out: labels, written as probabilities."""
    if not len(log_probabilities) or log_probabilities.shape[1] < 2:
        return False
    lowest = np.sort(log_probabilities, axis=1)
    return bool((lowest[:, -1] == 0.0).all() and (lowest[:, -2] <= np.log(FLOOR)).all())
