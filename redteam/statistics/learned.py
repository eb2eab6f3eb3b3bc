"""Has a model learned anything? One exact rule, for audits and experiments alike; standard library only.

A model that learned nothing has nothing to leak, and what attacks fail to find in it says nothing about one that did:
with the labels of another data set, another model's tokens or a training that failed, everything looks private. So a
model counts as trained where it is right on its own members more often than always answering their commonest label
would be, by an exact binomial test at 5 % (the lower end of Clopper and Pearson's one-sided 95 % interval lies above
that label's share). Thirty members suffice for a good model. Where all members have one label, no accuracy shows it.

Rows of one user are no independent draws, and that test would take a model that answers by user for a trained one. So
where rows name users who have several, each user counts once, by her shares: those lie in [0, 1], and the wealth of
bets on each lying above the commonest label's share multiplies by 1 / ALPHA at most with chance ALPHA where their mean
does not (an e-value; Waudby-Smith and Ramdas 2024, arXiv 2010.09686). Ten users suffice for a good model.
"""

import math
from collections.abc import Sequence

ALPHA = 0.05
_STAKES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the most that can be bet, fixed before any share is seen
_MOST = 1e12  # what a file says of more evidence than anybody needs
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


def wealth(shares: Sequence[float], commonest: float) -> float:
    """Return the evidence that the mean of users' shares of right rows lies above `commonest`: an e-value.

    The mean over fixed stakes of what betting on each share, in [0, 1], has made of 1; 0 where nothing can be bet.
    """
    if not 0 < commonest < 1:
        return 0.0
    bets = [stake / commonest for stake in _STAKES]
    logs = [math.fsum(math.log1p(bet * (share - commonest)) for share in shares) for bet in bets]
    if not all(math.isfinite(log) for log in logs):
        return 0.0
    return min(_MOST, sum(math.exp(min(log, 100.0)) for log in logs) / len(logs))


def users_show(evidence: float) -> bool:
    """Tell whether a `wealth` shows that something was learned; NaN never does."""
    return evidence >= 1 / ALPHA


def least_share(users: int, commonest: float) -> float | None:
    """Return which share of rows must be right, of all users alike, to show it; None where not even all would do."""
    if not users_show(wealth([1.0] * users, commonest)):
        return None
    low, high = commonest, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if users_show(wealth([middle] * users, commonest)) else (middle, high)
    return high


def surely_worse(right: float, of: int, commonest: float) -> bool:
    """Tell whether `right` of `of` members are far fewer than always answering the commonest label would get."""
    if not (0 < commonest <= 1 and 0 <= right < commonest * of):
        return False
    return _at_least(of - round(right), of, 1 - commonest) <= _SURE


def same_share(first: int, second: int, of_first: int, of_second: int) -> float:
    """Return the p-value of one share for both sides, two-sided, from so many of each (Fisher's exact test)."""
    total = first + second
    low, high = max(0, total - of_second), min(total, of_first)
    if not 0 <= low <= high:
        return 1.0

    def log(k: int) -> float:
        return _choose(of_first, k) + _choose(of_second, total - k) - _choose(of_first + of_second, total)

    seen = log(first)
    return min(1.0, math.fsum(math.exp(log(k)) for k in range(low, high + 1) if log(k) <= seen + 1e-9))


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


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
