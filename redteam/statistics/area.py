"""The area under the ROC curve, and an interval that holds for small, tied and perfectly separated samples.

The usual interval, DeLong's variance and a normal quantile, believes that what was not seen does not exist.
Let 3 % of the members score below everybody: half of all samples of 25 hold none of them, look separated, and
get an interval without width. Here each end asks "and if one more example had come out worst?".

Clopper and Pearson's lower bound is the quantile of a Beta distribution: random weights, uniform on the
simplex, on the outcomes and on one more failure. Gaffke (2005) puts such weights on the values of any bounded
variable. We put them on the members and on the non-members, and one more outcome on one side: a member below
everybody, or a non-member above everybody; the lower end is the lower of the two. The variance of the
weighted AUC is DeLong's (1988), with the factors of that distribution. Its quantile is the lowest of three: two
that match its moments, a Beta (two moments, exact where scores separate) and a Pearson type III (three moments,
for rare ties), and at errors below 0.005 an end the quantile itself (`redteam.statistics.weights`): so far out no
few moments know the tail of rare scores on both sides. Being the lowest, it falls with the error. Sources: N.
Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable", Math.
Methods of Statistics 14, 2005; E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44, 1988.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from redteam.statistics import Interval, attainable_auc, require_rate
from redteam.statistics.ranking import Counts, Ranking
from redteam.statistics.weights import joined, weighted_quantile

_FAR_OUT = 0.005  # the error of an end below which matched moments are not enough


@dataclass(frozen=True)
class _Side:
    """Spread of one group's placements: `size` examples, second and third central moment."""

    size: int
    second: float
    third: float


@dataclass(frozen=True)
class _Moments:
    """The AUC and how it hangs on single examples.

    `tied` is the share of member-non-member pairs with equal scores; `cross` the mean over all pairs of
    (order of the pair) x (deviation of the member's placement) x (deviation of the non-member's placement).
    """

    auc: float
    one: _Side
    other: _Side
    tied: float
    cross: float


def area(ranking: Ranking) -> float:
    """Return the share of member-non-member pairs in which the member scores higher, ties counted half.

    The sum of pairs is exact in integers up to 4e18 pairs, so complete separation gives exactly 1.
    """
    return _share_won(ranking.members, ranking.nonmembers)


def _share_won(members: Counts, nonmembers: Counts) -> float:
    m, n = int(members.sum()), int(nonmembers.sum())
    below = 2 * (n - np.cumsum(nonmembers)) + nonmembers
    return int(members @ below) / (2 * m * n)


def area_interval(ranking: Ranking, *, alpha: float, low_share: float = 0.5) -> Interval:
    """Return the AUC with an interval that misses the population's AUC at most `alpha` of the time.

    The lower end may miss a share `low_share` of that, the upper end the rest. No end says more than complete
    separation of the sample would (`attainable_auc`), and an interval at a smaller `alpha` holds those at larger ones.
    The guarantee is exact for complete separation; else it rests on simulation at alpha 0.05 and 0.005
    (test_auc_coverage.py) and, where all members tie, on enumeration at 0.05 / 15, 1e-3 and 1e-4
    (test_auc_small_alpha.py). Raises StatisticsError where alpha or the share is not between 0 and 1.
    """
    require_rate("alpha", alpha)
    errors = alpha * require_rate("low_share", low_share), alpha * (1 - low_share)
    moments = _moments(ranking)
    low, high = _ends(moments, ranking, *errors)
    if min(errors) < _FAR_OUT:
        below, above = _beyond_moments(ranking, moments.auc, *errors)
        low, high = min(low, below), max(high, above)
    return Interval(moments.auc, max(0.0, min(low, moments.auc)), min(1.0, max(high, moments.auc)), alpha)


def _ends(moments: _Moments, ranking: Ranking, lower: float, upper: float) -> tuple[float, float]:
    """Return both ends by matched moments."""
    sizes = ranking.n_members, ranking.n_nonmembers
    low = _low(moments, lower, attainable_auc(*sizes, alpha=2 * lower))
    return low, 1.0 - _low(_mirrored(moments), upper, attainable_auc(*sizes, alpha=2 * upper))


def _beyond_moments(ranking: Ranking, auc: float, lower: float, upper: float) -> tuple[float, float]:
    """Return the ends whose error is small by the quantile of the weighted AUC; else, or where separated, 1 and 0."""
    members, nonmembers = joined(ranking.members, ranking.nonmembers)
    shift = auc - _share_won(members, nonmembers)  # what joining scores has moved
    low, high = 1.0, 0.0
    if auc < 1.0 and lower < _FAR_OUT:
        low = _weighted(members, nonmembers, lower) + shift
    if auc > 0.0 and upper < _FAR_OUT:
        high = 1.0 - _weighted(members[::-1], nonmembers[::-1], upper) + shift
    return low, high


def _weighted(members: Counts, nonmembers: Counts, error: float) -> float:
    """Return the lower quantile with one more member below everybody, or with one more non-member above."""
    return min(weighted_quantile(members, nonmembers, error), weighted_quantile(nonmembers[::-1], members[::-1], error))


def _moments(ranking: Ranking) -> _Moments:
    m, n, auc = ranking.n_members, ranking.n_nonmembers, area(ranking)
    weight_m, weight_n = ranking.members / m, ranking.nonmembers / n
    # Placements less their mean: non-members below each member's block, members above each non-member's.
    over = 1.0 - np.cumsum(weight_n) + weight_n / 2 - auc
    under = np.cumsum(weight_m) - weight_m / 2 - auc
    one = _Side(m, float(weight_m @ over**2), float(weight_m @ over**3))
    other = _Side(n, float(weight_n @ under**2), float(weight_n @ under**3))
    tied = float(weight_m @ weight_n)
    under *= weight_n
    beaten = under.sum() - np.cumsum(under) + under / 2
    return _Moments(auc, one, other, tied, float((weight_m * over) @ beaten))


def _mirrored(moments: _Moments) -> _Moments:
    """Return the moments of 1 - AUC."""
    one, other = moments.one, moments.other
    return _Moments(
        1.0 - moments.auc,
        _Side(one.size, one.second, -one.third),
        _Side(other.size, other.second, -other.third),
        moments.tied,
        -moments.cross,
    )


def _low(moments: _Moments, error: float, attainable: float) -> float:
    if moments.auc == 1.0:
        return attainable
    swapped = _Moments(moments.auc, moments.other, moments.one, moments.tied, moments.cross)
    return max(0.0, min(_weighted_low(moments, error), _weighted_low(swapped, error), attainable))


def _weighted_low(moments: _Moments, error: float) -> float:
    """Return the `error` quantile of the AUC under random weights, with one more example of the side `one`.

    That example loses all its pairs. Deviations are taken from the new mean: theirs shift, the others'
    shrink.
    """
    one, other, auc = moments.one, moments.other, moments.auc
    kept = one.size / (one.size + 1)
    mean = kept * auc
    shift = auc - mean
    one_second = kept * (one.second + shift**2) + (1 - kept) * mean**2
    one_third = kept * (one.third + 3 * one.second * shift + shift**3) - (1 - kept) * mean**3
    other_second, other_third = kept**2 * other.second, kept**3 * other.third
    cross = kept**2 * (moments.cross + shift * other.second)
    both = max(0.0, kept * (auc - moments.tied / 4) - mean**2 - one_second - other_second)
    k, j = one.size + 2, other.size + 1  # a Dirichlet over K points has variance factor 1 / (K + 1)
    variance = one_second / k + other_second / j + both / (k * j)
    third = 2 * one_third / (k * (k + 1)) + 2 * other_third / (j * (j + 1)) + 6 * cross / (k * j)
    if variance <= 0.0:
        return mean
    return min(_beta_quantile(mean, variance, error), _pearson_quantile(mean, variance, third, error))


def _beta_quantile(mean: float, variance: float, error: float) -> float:
    size = mean * (1 - mean) / variance - 1
    return float(special.betaincinv(mean * size, (1 - mean) * size, error)) if size > 0 else 0.0


def _pearson_quantile(mean: float, variance: float, third: float, error: float) -> float:
    deviation = math.sqrt(variance)
    skewness = third / deviation**3
    if abs(skewness) < 1e-4:  # the shape below would pass 4e8, where a normal is nearer than rounding
        return mean + deviation * float(special.ndtri(error))
    shape = 4 / skewness**2
    tail = special.gammaincinv if skewness > 0 else special.gammainccinv
    steps = (float(tail(shape, error)) - shape) / math.sqrt(shape)
    return mean + deviation * (steps if skewness > 0 else -steps)
