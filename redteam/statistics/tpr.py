"""The true-positive rate at a fixed false-positive rate, with a bound that is exact in finite samples.

The threshold that gives the population this FPR is unknown, so it is enclosed first, by order statistics of
the non-members alone: at least `r` of them lie above it with known binomial probability. Given the
non-members, the members above a fixed threshold are a binomial count, which Clopper and Pearson bound. Where
scores tie, the rate is that of the randomised test, a straight line across the tied block; breaking ties at
random makes it a sample from a continuous distribution with that very ROC curve, so nothing above changes.

Half of the error of each end goes to the threshold and half to the members. The two cannot share: where the
curve is flat up to the FPR and rises steeply just after it, the lower end misses with the sum of both.
"""

import numpy as np
from scipy import special

from redteam.statistics import Interval, require_rate, smallest_resolvable_fpr, tpr_share
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.ranking import Ranking


def tpr_interval(ranking: Ranking, *, fpr: float, alpha: float, seed: int) -> Interval:
    """Return the TPR at `fpr` with an interval that misses the population's at most `alpha` of the time.

    The value is the empirical ROC curve at `fpr`, linear across ties, its highest point where the curve is
    vertical. Each end spends alpha / 4 on the threshold and alpha / 4 on the members. The lower end is 0
    where `fpr` is below `smallest_resolvable_fpr`. `seed` breaks ties, alike at every alpha, so that an interval at a
    smaller alpha holds those at larger ones. Raises StatisticsError where a rate is not between 0 and 1.
    """
    require_rate("fpr", fpr)
    share, n = tpr_share(alpha), ranking.n_nonmembers
    value = _empirical(ranking, fpr)
    low, high = 0.0, 1.0
    inner = _last_rank_above(n, fpr, share)
    if inner > 0:
        found = _members_above(ranking, inner, seed)
        low = float(clopper_pearson_low(found, ranking.n_members, share))
    outer = _first_rank_below(n, fpr, share)
    if outer <= n:
        found = _members_above(ranking, outer, seed)
        high = float(clopper_pearson_high(found, ranking.n_members, share))
    # Random order inside a tied block can, rarely, put a bound past the interpolated value; widening is safe.
    return Interval(value, min(low, value), max(high, value), alpha)


def _empirical(ranking: Ranking, fpr: float) -> float:
    allowed = fpr * ranking.n_nonmembers
    if abs(allowed - round(allowed)) < 1e-9:  # 0.29 x 100 is 28.999999999999996
        allowed = round(allowed)
    above = np.cumsum(ranking.nonmembers)
    block = min(int(np.searchsorted(above, allowed, side="right")), len(above) - 1)
    tied = int(ranking.nonmembers[block])
    crossed = 1.0 - (int(above[block]) - allowed) / tied if tied else 1.0
    found = int(ranking.members[:block].sum()) + crossed * int(ranking.members[block])
    return min(found / ranking.n_members, 1.0)


def _last_rank_above(n: int, fpr: float, error: float) -> int:
    """Return the largest r for which the r-th highest non-member is above the true threshold.

    That fails where fewer than r non-members are above the threshold: P[Bin(n, fpr) <= r - 1] <= error.
    """
    if fpr < smallest_resolvable_fpr(n, alpha=4 * error):
        return 0
    return max(1, _binomial_quantile(n, fpr, error))


def _first_rank_below(n: int, fpr: float, error: float) -> int:
    """Return the smallest r for which the r-th highest non-member is not above the true threshold.

    That fails where r or more non-members are above the threshold: P[Bin(n, fpr) >= r] <= error. n + 1: none
    is.
    """
    return n + 1 - _binomial_quantile(n, 1.0 - fpr, error)


def _binomial_quantile(n: int, p: float, error: float) -> int:
    """Return the largest r in 0..n with P[Bin(n, p) <= r - 1] <= error."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if special.bdtr(float(middle - 1), n, p) <= error:
            low = middle
        else:
            high = middle - 1
    return low


def _members_above(ranking: Ranking, r: int, seed: int) -> int:
    """Return how many members are above the r-th highest non-member once ties are broken at random.

    The order within a tied block depends on the seed and the block alone, so that a higher rank never finds fewer.
    """
    above = np.cumsum(ranking.nonmembers)
    block = int(np.searchsorted(above, r, side="left"))
    tied, level = int(ranking.nonmembers[block]), int(ranking.members[block])
    found = int(ranking.members[:block].sum())
    if not level:
        return found
    rng = np.random.default_rng([seed, block])
    others, own = rng.random(tied), rng.random(level)
    lower = int(above[block]) - r  # of the block's non-members, below the one sought
    return found + int(np.count_nonzero(own > np.partition(others, lower)[lower]))
