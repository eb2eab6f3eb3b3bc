"""Has a model learned anything? One exact rule, for audits and experiments alike; standard library only.

A model that learned nothing has nothing to leak, and what attacks fail to find in it says nothing about one that did:
with the labels of another data set, another model's tokens or a training that failed, everything looks private. So a
model counts as trained where it is right on its own members more often than always answering their commonest label
would be, by an exact binomial test at 5 % (the lower end of Clopper and Pearson's one-sided 95 % interval lies above
that label's share). Thirty members suffice for a good model. Where all members have one label, no accuracy shows it.
"""

import math

ALPHA = 0.05
_SURE = 1e-4  # of a model that is worse than the commonest label, as no untrained one is


def has_learned(right: float, of: int, commonest: float) -> bool:
    """Tell whether `right` of `of` members are significantly more than the share `commonest` of them; NaN never is."""
    return 0 <= commonest < 1 and commonest * of < right <= of and _at_least(round(right), of, commonest) <= ALPHA


def fewest_right(of: int, commonest: float) -> int | None:
    """Return how many of `of` members must be right to show that something was learned; None where none suffice."""
    low, high = math.floor(commonest * of), of
    if not has_learned(of, of, commonest):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_learned(middle, of, commonest) else (middle, high)
    return high


def surely_worse(right: float, of: int, commonest: float) -> bool:
    """Tell whether `right` of `of` members are far fewer than always answering the commonest label would get."""
    if not (0 < commonest <= 1 and 0 <= right < commonest * of):
        return False
    return _at_least(of - round(right), of, 1 - commonest) <= _SURE


def _at_least(k: int, n: int, p: float) -> float:
    """Return P[Bin(n, p) >= k] for k above the mean n p, exact but for rounding."""
    if not 0 < p < 1:
        return float(k <= 0 or p >= 1)
    odds, mode = p / (1 - p), int((n + 1) * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    total, term = 0.0, math.exp(log)
    for i in range(k, n + 1):
        total += term
        if i > mode and term <= total * 1e-17:  # from here on, terms only fall
            break
        term *= (n - i) / (i + 1) * odds
    return min(1.0, total)
