"""How differently groups fare: paired differences of rates and means, gaps between groups, the worst of them.

A gap between the best and the worst of several groups is biased upwards: ten groups of 50 who fare alike, at a rate of
0.1, lie 0.13 apart on average. So pairs of groups are compared, all intervals holding at once, and a limit is broken
where that of some pair lies beyond it. Counts of single groups have the exact intervals of Clopper and Pearson
(Biometrika 26, 1934), which Newcombe's square-and-add rule joins to one of a difference (Statistics in Medicine 17,
1998, method 10 with exact ends in the place of Wilson's: at the small errors that many pairs leave to each, Wilson's
miss rare events of small groups far more often than they say).
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from redteam.core import StatisticsError
from redteam.statistics import Interval, normal_quantile, require_rate
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.ranking import Floats, finite_scores

_OF_DIRECTION = 0.8  # of the error of a paired difference; the rest is for how many pairs are discordant at all
_DRAWS, _MOST_DRAWS, _NUMBERS = 20_000, 400_000, 4_000_000  # at least 10 cells
Count = tuple[int, int]  # so many of how many


def paired_difference(first: int, second: int, n: int, *, alpha: float) -> Interval:
    """Return P[only the first event] - P[only the second] of `n` pairs, wrong at most `alpha` of the time.

    `first` pairs have the first event alone, `second` the second alone; the others say nothing of the difference.
    Given how many are discordant, the first's share of them is binomial, which makes the test of McNemar (Psychometrika
    12, 1947) exact; that share and the discordant share of all pairs each have an exact bound, and both hold at once.
    Raises StatisticsError for impossible counts.
    """
    low = _paired_low(first, second, n, require_rate("alpha", alpha) / 2)
    high = -_paired_low(second, first, n, alpha / 2)
    value = (first - second) / n
    return Interval(value, min(low, value), max(high, value), alpha)


def _paired_low(first: int, second: int, n: int, error: float) -> float:
    discordant = first + second
    if min(first, second) < 0 or not n >= 1 or discordant > n:
        raise StatisticsError(f"{first} and {second} of {n} pairs are no counts of discordant pairs")
    direction, amount = _OF_DIRECTION * error, (1 - _OF_DIRECTION) * error
    lean = 2 * float(clopper_pearson_low(first, discordant, direction)) - 1 if discordant else -1.0
    bound = clopper_pearson_low if lean > 0 else clopper_pearson_high
    return lean * float(bound(discordant, n, amount))


def hull(intervals: Sequence[Interval]) -> Interval:
    """Return the mean of several values with an interval that reaches over those of all.

    It misses any weighted mean of the true values at most as often as one of the intervals misses its own: to lie below
    all low ends such a mean takes the smallest true value below its own. Raises StatisticsError for none.
    """
    if not intervals:
        raise StatisticsError("no interval to reach over")
    low, high = min(one.low for one in intervals), max(one.high for one in intervals)
    return Interval(float(np.mean([one.value for one in intervals])), low, high, intervals[0].alpha)


def attainable_paired(n: int, *, alpha: float) -> float:
    """Return the lower bound on a paired difference where all of `n` pairs have the first event alone."""
    return _paired_low(n, 0, n, require_rate("alpha", alpha) / 2) if n else -1.0


def bounded_mean(values: npt.ArrayLike, *, least: float, most: float, alpha: float) -> Interval:
    """Return the mean of independent values, shape (n,), that lie between `least` and `most`, of whatever distribution.

    Each end is a quantile of the mean under weights uniform on the simplex, of the values and of one more that came out
    worst (N. Gaffke, Mathematical Methods of Statistics 14, 2005): Clopper and Pearson's where values are 0 and 1, and
    proven to keep its level there; for other values that is a conjecture, to which no exception is known. Of 5 and 12
    values of two sizes it missed at most 0.93 of the error allowed. The weights are drawn, with a seed of their own.
    Raises StatisticsError for values beyond the bounds or none at all.
    """
    own = np.sort(finite_scores("values", values))
    if own[0] < least - 1e-9 or own[-1] > most + 1e-9:
        raise StatisticsError(f"values from {own[0]:g} to {own[-1]:g} are not between {least:g} and {most:g}")
    error, mean = require_rate("alpha", alpha) / 2, float(own.mean())
    low = _weighted_low(own, least, error)
    high = -_weighted_low(-own[::-1], -most, error)
    return Interval(mean, min(low, mean), max(high, mean), alpha)


def _weighted_low(ascending: Floats, least: float, error: float) -> float:
    """Return the lower end; of many values neighbours count as the least of them, which only lowers it."""
    draws = int(min(_MOST_DRAWS, max(_DRAWS, 40 / error)))
    if error * draws < 20 or ascending[0] == ascending[-1]:  # so far out lie too few draws: an end for the least of all
        return least + float(ascending[0] - least) * float(error ** (1 / len(ascending)))
    values, sizes = np.unique(ascending, return_counts=True)  # the weights of equal values add up
    first = np.unique(np.linspace(0, len(values), min(len(values), _NUMBERS // draws), endpoint=False).astype(np.int64))
    values, sizes = np.append(least, values[first]), np.append(1, np.add.reduceat(sizes, first))
    rng, several = np.random.default_rng(0xFA1), sizes > 1
    weights = rng.standard_exponential((draws, len(sizes)))  # of a single value; several times as fast as a gamma
    weights[:, several] = rng.standard_gamma(sizes[several], (draws, int(several.sum())))
    means = (weights @ values) / weights.sum(axis=1)
    return float(np.quantile(means, error, method="lower"))


def attainable_mean(n: int, *, least: float, most: float, alpha: float) -> float:
    """Return the lower bound on the mean where all of `n` values are the largest."""
    return least + (most - least) * (require_rate("alpha", alpha) / 2) ** (1 / n) if n else least


def ratio_of_means(above: npt.ArrayLike, below: npt.ArrayLike, *, alpha: float) -> Interval:
    """Return the ratio of the means of two positive values of the same `n` draws, [n] each, by the delta method.

    On the scale of logarithms, where it is symmetric, with a quantile of Student's distribution. Raises StatisticsError
    for fewer than two draws, or a mean that is not positive.
    """
    x, y = finite_scores("values above", above), finite_scores("values below", below)
    if len(x) != len(y) or len(x) < 2 or not min(x.mean(), y.mean()) > 0:
        raise StatisticsError("a ratio of means takes two values or more of each, and positive means")
    spread = float(np.std(x / x.mean() - y / y.mean(), ddof=1)) / math.sqrt(len(x))
    reach = math.exp(float(stdtrit(len(x) - 1, 1 - require_rate("alpha", alpha) / 2)) * spread)
    value = float(x.mean() / y.mean())
    return Interval(value, value / reach, value * reach, alpha)


def newcombe(first: Count, second: Count, *, alpha: float, exact: bool = False) -> Interval:
    """Return the difference of two independent rates by Newcombe's method 10, of Wilson or of `exact` intervals.

    `first` and `second` are counts with their sizes, as (56, 70). Raises StatisticsError for impossible counts.
    """
    (p, low_p, high_p), (q, low_q, high_q) = (_ends(each, alpha, exact) for each in (first, second))
    value = p - q
    low = value - math.hypot(p - low_p, high_q - q)
    high = value + math.hypot(high_p - p, q - low_q)
    return Interval(value, min(low, value), max(high, value), alpha)


def _ends(count: Count, alpha: float, exact: bool) -> tuple[float, float, float]:
    k, n = count
    if exact:
        low, high = float(clopper_pearson_low(k, n, alpha / 2)), float(clopper_pearson_high(k, n, alpha / 2))
        return k / n, low, high
    if not 0 <= k <= n or n < 1:
        raise StatisticsError(f"{k} of {n} is no count; 0 <= k <= n, n >= 1")
    z, p = -normal_quantile(require_rate("alpha", alpha) / 2), k / n
    middle, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, (middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n)


def worst_gap(counts: Sequence[Count], *, alpha: float) -> tuple[tuple[int, int], Interval]:
    """Return the pair of groups whose gap is proven largest, the better first, and the largest gap of all pairs.

    `counts` are so many of how many in each group. Of the interval, which misses that gap at most `alpha` of the time,
    the value is the gap of the pair. Raises StatisticsError for fewer than two groups.
    """
    pairs = list(itertools.combinations(range(len(counts)), 2))
    if not pairs:
        raise StatisticsError("one group has no gap: at least two are needed")
    each = require_rate("alpha", alpha) / len(pairs)
    found = {pair: newcombe(counts[pair[0]], counts[pair[1]], alpha=each, exact=True) for pair in pairs}
    return _widest({pair: (one.value, one.low, one.high) for pair, one in found.items()}, alpha)


def widest_difference(intervals: Sequence[Interval], *, alpha: float) -> tuple[tuple[int, int], Interval]:
    """Return the same of values, one a group, each of whose intervals is wrong at most `alpha` / groups of the time."""
    pairs = list(itertools.combinations(range(len(intervals)), 2))
    if not pairs:
        raise StatisticsError("one group has no gap: at least two are needed")
    ends = {}
    for i, j in pairs:
        one, other = intervals[i], intervals[j]
        ends[i, j] = (one.value - other.value, one.low - other.high, one.high - other.low)
    return _widest(ends, alpha)


def _widest(ends: dict[tuple[int, int], tuple[float, float, float]], alpha: float) -> tuple[tuple[int, int], Interval]:
    """Return the pair with the largest lower end of its gap, the better first; the high end is that of any pair."""
    sizes = {pair: (abs(v), max(0.0, low, -high), max(-low, high)) for pair, (v, low, high) in ends.items()}
    worst = max(sizes, key=lambda pair: sizes[pair][1::-1])
    value, low, _ = sizes[worst]
    ordered = worst if ends[worst][0] >= 0 else worst[::-1]
    return ordered, Interval(value, min(low, value), max(value, *(high for _, _, high in sizes.values())), alpha)


def attainable_gap(sizes: Sequence[int], *, alpha: float) -> float:
    """Return the largest lower end of a gap that groups of such sizes could show."""
    pairs = list(itertools.combinations(sizes, 2))
    each = require_rate("alpha", alpha) / max(1, len(pairs))
    return max((newcombe((n, n), (0, m), alpha=each, exact=True).low for n, m in pairs if min(n, m)), default=0.0)


def lowest(intervals: Sequence[Interval], *, alpha: float) -> tuple[int, Interval]:
    """Return which group is proven lowest, and the lowest value of all groups.

    The high ends of `intervals`, one a group, together miss at most half of `alpha`, which the interval does in all:
    that the lowest is below a limit takes one group's. Raises StatisticsError where there is none.
    """
    if not intervals:
        raise StatisticsError("no group to compare")
    worst = min(range(len(intervals)), key=lambda i: (intervals[i].high, intervals[i].value))
    value = intervals[worst].value
    return worst, Interval(value, min(value, *(one.low for one in intervals)), intervals[worst].high, alpha)


def group_rate(count: Count, *, alpha: float) -> Interval:
    """Return a rate with its exact interval."""
    k, n = count
    half = require_rate("alpha", alpha) / 2
    return Interval(k / n, float(clopper_pearson_low(k, n, half)), float(clopper_pearson_high(k, n, half)), alpha)
