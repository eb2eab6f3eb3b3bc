"""What a sample could ever show, from its size alone.

Standard library only, so that a saved report can be judged without the ML stack.

A perfect attack separates the members from the non-members completely. The lower bound it would get is the
ceiling of the sample: a limit at or above the ceiling cannot be found broken, whatever the model does.
`alpha` is always the two-sided error of the interval, as given to `auc_interval` and `tpr_at_fpr`.
"""

import math
from collections.abc import Callable

from redteam.errors import StatisticsError

_FEWEST = 2  # on either side; with fewer there is no interval
_MOST = 10**9  # on either side; beyond it "no sample would do" is the honest answer


def require_rate(name: str, value: float) -> float:
    """Return `value` where it lies strictly between 0 and 1; raise StatisticsError where it does not."""
    if not 0.0 < value < 1.0:  # written so that NaN fails too
        raise StatisticsError(f"{name} is {value}; it must lie between 0 and 1, both excluded")
    return value


def tpr_share(alpha: float) -> float:
    """Return the error that one of the four bounds inside a TPR interval may spend.

    Each side of the interval needs a bound on the threshold and a bound on the members above it.
    """
    return require_rate("alpha", alpha) / 4


def smallest_resolvable_fpr(n: int, *, alpha: float = 0.05) -> float:
    """Return the smallest false-positive rate at which `n` non-members can support a TPR above 0.

    Below it, not even the highest non-member score is above the true threshold with enough confidence, and
    `tpr_at_fpr(..., alpha=alpha)` has the lower end 0: (1 - fpr)^n > alpha / 4, some 4.4 / n at 5 %.
    """
    return 1.0 if n < 1 else -math.expm1(math.log(tpr_share(alpha)) / n)


def auc_ceiling(members: int, nonmembers: int, *, alpha: float) -> float:
    """Return the lower bound on the AUC that complete separation of so many examples supports.

    It is (alpha / 2)^(1 / min(members, nonmembers)), and no valid bound can be higher: where a share 1 - AUC
    of the smaller group scores on the wrong side of the whole other group, all of a sample misses that share
    with probability AUC^min. 0 below two examples on either side, where there is no interval.
    """
    smaller = min(members, nonmembers)
    return _root(require_rate("alpha", alpha) / 2, smaller) if smaller >= _FEWEST else 0.0


def tpr_ceiling(members: int, nonmembers: int, *, fpr: float, alpha: float) -> float:
    """Return the lower bound on the TPR at `fpr` that complete separation of so many examples supports.

    0 where so few non-members cannot resolve `fpr`; otherwise Clopper and Pearson (1934) with every member
    found.
    """
    require_rate("fpr", fpr)
    if min(members, nonmembers) < _FEWEST or fpr < smallest_resolvable_fpr(nonmembers, alpha=alpha):
        return 0.0
    return _root(tpr_share(alpha), members)


def ceiling(metric: str, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None) -> float:
    """Return the ceiling of `metric`: "auc", or "tpr" with its `fpr`; raise StatisticsError for any other."""
    if metric == "auc":
        return auc_ceiling(members, nonmembers, alpha=alpha)
    if metric == "tpr" and fpr is not None:
        return tpr_ceiling(members, nonmembers, fpr=fpr, alpha=alpha)
    raise StatisticsError(f"no ceiling for {metric!r} at FPR {fpr}; 'auc', or 'tpr' with an FPR, has one")


def examples_needed(metric: str, limit: float, *, alpha: float, fpr: float | None = None) -> tuple[int, int] | None:
    """Return the fewest members and non-members whose ceiling exceeds `limit`; None where no 10^9 do.

    As many of each for the AUC, whose ceiling is that of the smaller group; for the TPR each on its own,
    since the non-members must resolve the FPR and the members must carry the bound.
    """

    def exceeds(members: int, nonmembers: int) -> bool:
        return ceiling(metric, members, nonmembers, alpha=alpha, fpr=fpr) > limit

    if metric == "auc":
        both = _smallest(lambda n: exceeds(n, n))
        return None if both is None else (both, both)
    members = _smallest(lambda m: exceeds(m, _MOST))
    nonmembers = _smallest(lambda n: exceeds(_MOST, n))
    return None if members is None or nonmembers is None else (members, nonmembers)


def _root(probability: float, n: int) -> float:
    return math.exp(math.log(probability) / n)


def _smallest(holds: Callable[[int], bool]) -> int | None:
    """Return the smallest n for which a condition holds that, once true, stays true."""
    high = _FEWEST
    while not holds(high):
        if high == _MOST:
            return None
        high = min(2 * high, _MOST)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return max(high, _FEWEST)
