"""The true-positive rate at a fixed false-positive rate, with a bound that is exact in finite samples.

The adversary thresholds the scores, and may accuse only a random part of those above the threshold: from a threshold
that a share p >= fpr of the non-members passes and a share q of the members, he gets the TPR q fpr / p at the FPR asked
for. The rate measured is the largest of these; where the ROC curve bends as that of a likelihood ratio does, it is the
curve itself. He matters: without him a bound has to live with a curve that is flat up to the FPR and rises just after
it, and loses most of what is there where curves are steep.

Lower end. The r-th highest non-member is the threshold, r fixed by the number of non-members and the FPR. The share p
of the population above it has the distribution Beta(r, n - r + 1), and given p the members above it are a binomial
count, whose chance is at most L max(1, p / fpr) where the rate is at most L. So the probability of so many members or
more is at most a mean over p of binomial tails, and the end is the largest L at which that mean is below the error: no
part of the error is spent on the threshold alone. Two ranks are tried, one at the FPR and one well inside it, which is
better where members separate almost completely; they share the error, and the mean is rounded upwards.

Upper end. The rate is at most the largest fpr Q / p over steps of p, with Q an upper bound on the curve at the end of
a step: the threshold enclosed by order statistics, the members by Clopper and Pearson, the error shared over both and
over the steps.

Where scores tie, breaking ties at random makes the scores a sample from a continuous distribution whose ROC curve is a
straight line across the tied block, so nothing above changes.
"""

import functools

import numpy as np
from scipy import optimize, special

from redteam.statistics import Interval, end_shares, require_rate, threshold_ranks
from redteam.statistics.binomial import clopper_pearson_high
from redteam.statistics.ranking import Floats, Ranking

_STEPS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)  # times the FPR; from there on each twice the last
_PRECISE = 1e-8
_GRID = 600  # steps of the threshold's own FPR
_REACH = 14.0  # standard deviations of it on either side


def tpr_interval(ranking: Ranking, *, fpr: float, alpha: float, seed: int) -> Interval:
    """Return the TPR at `fpr` with an interval that misses the population's at most `alpha` of the time.

    The value is the empirical ROC curve at `fpr`, linear across ties, its highest point where the curve is
    vertical. Each end spends alpha / 2. `seed` breaks ties, alike at every alpha, so that an interval at a
    smaller alpha holds those at larger ones. Raises StatisticsError where a rate is not between 0 and 1.
    """
    require_rate("fpr", fpr)
    value = _empirical(ranking, fpr)
    error = require_rate("alpha", alpha) / 2
    low = _low(ranking, fpr, error, seed)
    high = _high(ranking, fpr, error, seed)
    # Curves that bend the other way, and random order inside a tied block, can put an end past the value.
    return Interval(value, min(low, value), max(high, value), alpha)


def _low(ranking: Ranking, fpr: float, error: float, seed: int) -> float:
    """Return the better of the lower ends at both ranks."""
    m, n = ranking.n_members, ranking.n_nonmembers
    shares = end_shares(error)
    return max(
        _end_at(_members_above(ranking, r, seed), m, n, r, fpr, share)
        for r, share in zip(threshold_ranks(n, fpr), shares, strict=True)
    )


def _end_at(found: int, m: int, n: int, r: int, fpr: float, error: float) -> float:
    """Return the largest L whose chance of `found` or more members above the r-th non-member is below `error`."""
    if found == 0:
        return 0.0
    points, masses = threshold_steps(n, r, fpr)

    def excess(rate: float) -> float:
        return _tail(rate, points, masses, found, m) - error

    if excess(_PRECISE) >= 0:
        return 0.0
    if excess(1.0) < 0:
        return 1.0
    root: float = optimize.brentq(excess, _PRECISE, 1.0, xtol=_PRECISE)
    return max(0.0, root - 2 * _PRECISE)


@functools.lru_cache(maxsize=64)
def threshold_steps(n: int, r: int, fpr: float) -> tuple[Floats, Floats]:
    """Return points p / fpr, rising, and the probability of each step that ends there; they sum to 1 or a little more.

    p is the share of all above the r-th highest of `n` non-members: a mean over the steps of what rises with p is never
    too small.
    """
    mean = r / (n + 1)
    spread = np.sqrt(mean * (1 - mean) / (n + 2))
    low, high = max(0.0, mean - _REACH * spread), min(1.0, mean + _REACH * spread + 30.0 / n)
    edges = np.unique(np.append(np.linspace(low, high, _GRID + 1), np.clip(fpr, low, high)))
    below, above = special.betainc(r, n - r + 1, edges), special.betaincc(r, n - r + 1, edges)
    masses = np.where(below[1:] < 0.5, np.diff(below), -np.diff(above))  # whichever is small keeps its digits
    masses[0] += below[0]
    masses[-1] += above[-1]
    return edges[1:] / fpr, masses


def _tail(rate: float, points: Floats, masses: Floats, found: int, m: int) -> float:
    """Return the mean chance of `found` or more of m members where the rate is `rate`; points are p over the FPR."""
    chance = np.minimum(1.0, rate * np.maximum(1.0, points))
    return float(masses @ special.betainc(found, m - found + 1, chance))


def _high(ranking: Ranking, fpr: float, error: float, seed: int) -> float:
    """Return an upper bound on fpr q(p) / p over all p >= fpr."""
    steps = _steps(fpr)
    highest, before = 0.0, 1.0
    for step, times in enumerate(steps):
        share = error / 2 if step == 0 else error / (2 * (len(steps) - 1))
        highest = max(highest, _curve_below(ranking, times * fpr, share, seed) / before)
        before = times
    return min(1.0, highest)


def _steps(fpr: float) -> tuple[float, ...]:
    """Return the ends of the steps of p as multiples of the FPR, the first at or beyond 1 the last of them."""
    steps = [*_STEPS]
    while steps[-1] * fpr < 1.0:
        steps.append(2 * steps[-1])
    while len(steps) > 1 and steps[-2] * fpr >= 1.0:
        steps.pop()
    return tuple(steps)


def _curve_below(ranking: Ranking, fpr: float, error: float, seed: int) -> float:
    """Return an upper bound on the curve at `fpr` that is wrong at most `error` of the time."""
    n = ranking.n_nonmembers
    outer = n + 1 if fpr >= 1.0 else _first_rank_below(n, fpr, error / 2)
    if outer > n:
        return 1.0
    return float(clopper_pearson_high(_members_above(ranking, outer, seed), ranking.n_members, error / 2))


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
