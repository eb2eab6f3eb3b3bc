"""Membership advantage, TPR - FPR (S. Yeom et al., "Privacy risk in machine learning", CSF 2018)."""

import numpy as np
import numpy.typing as npt

from redteam.statistics import Interval
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.ranking import Counts, Floats, rank
from redteam.statistics.thresholds import ThresholdStrategy


def advantage_bound(tp: Counts, n_in: int, fp: Counts, n_out: int, alpha: float) -> Floats:
    """Return lower bounds on TPR - FPR at fixed thresholds, each wrong at most `alpha` of the time.

    `tp` of `n_in` members and `fp` of `n_out` non-members are found; half the error goes to each count.
    """
    return clopper_pearson_low(tp, n_in, alpha / 2) - clopper_pearson_high(fp, n_out, alpha / 2)


def advantage(
    scores: npt.ArrayLike, is_member: npt.ArrayLike, *, alpha: float, threshold: ThresholdStrategy
) -> Interval:
    """Return the advantage of the best threshold with a lower bound that honours how it was chosen.

    `scores`: shape (n,), higher says "member"; `is_member`: shape (n,), booleans. The value is the largest
    TPR - FPR in the sample, which flatters; the low end is wrong at most `alpha` of the time; the high end is
    always 1, since no attack bounds leakage from above. Raises StatisticsError as `rank` does. Yeom et al.,
    CSF 2018.
    """
    ranking = rank(scores, is_member)
    values, member = np.asarray(scores, dtype=np.float64), np.asarray(is_member)
    gap = np.cumsum(ranking.members) / ranking.n_members - np.cumsum(ranking.nonmembers) / ranking.n_nonmembers
    value = max(0.0, float(gap.max()))
    low = threshold.lower_bound(values[member], values[~member], advantage_bound, alpha=alpha)
    return Interval(value, min(low, value), 1.0, alpha)
