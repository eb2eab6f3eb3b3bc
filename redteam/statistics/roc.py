"""The ROC curve of membership scores and what it proves: one import for all of it.

Each function sorts the scores once. To take several numbers from one signal, `rank` it and use
`area_interval` and `tpr_interval` on the ranking.
"""

import numpy as np
import numpy.typing as npt

from redteam.statistics import Interval, smallest_resolvable_fpr
from redteam.statistics.advantage import advantage
from redteam.statistics.area import area, area_interval
from redteam.statistics.ranking import Floats, Ranking, rank
from redteam.statistics.tpr import tpr_interval

__all__ = [
    "Ranking",
    "advantage",
    "area",
    "area_interval",
    "auc",
    "auc_interval",
    "rank",
    "roc_curve",
    "smallest_resolvable_fpr",
    "tpr_at_fpr",
    "tpr_interval",
]


def roc_curve(scores: npt.ArrayLike, is_member: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return false-positive rates, true-positive rates and thresholds, one point for each distinct score.

    `scores`: shape (n,), higher says "member"; `is_member`: shape (n,), booleans. All three results have
    shape (distinct + 1,) and start at (0, 0) with threshold infinity; equal scores are one step. Raises
    StatisticsError as `rank` does. Agrees with scikit-learn's `roc_curve(drop_intermediate=False)`.
    """
    ranking = rank(scores, is_member)
    start = np.zeros(1)
    fpr = np.concatenate([start, np.cumsum(ranking.nonmembers) / ranking.n_nonmembers])
    tpr = np.concatenate([start, np.cumsum(ranking.members) / ranking.n_members])
    return fpr, tpr, np.concatenate([np.full(1, np.inf), ranking.scores])


def auc(scores: npt.ArrayLike, is_member: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: how often a member outscores a non-member, ties counted half.

    Arguments and errors as in `roc_curve`.

    >>> auc([0.9, 0.4, 0.7, 0.2], [True, True, False, False])
    0.75
    """
    return area(rank(scores, is_member))


def auc_interval(scores: npt.ArrayLike, is_member: npt.ArrayLike, *, alpha: float) -> Interval:
    """Return the AUC with a two-sided interval that misses the truth at most `alpha` of the time.

    Arguments and errors as in `roc_curve`; the method is in `redteam.statistics.area`.

    >>> rng = np.random.default_rng(0)
    >>> scores = np.concatenate([rng.normal(1, 1, 500), rng.normal(0, 1, 500)])
    >>> found = auc_interval(scores, np.repeat([True, False], 500), alpha=0.05)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.779, 0.748, 0.807)
    """
    return area_interval(rank(scores, is_member), alpha=alpha)


def tpr_at_fpr(scores: npt.ArrayLike, is_member: npt.ArrayLike, *, fpr: float, alpha: float, seed: int) -> Interval:
    """Return the TPR at one FPR with a two-sided interval that misses the truth at most `alpha` of the time.

    Arguments and errors as in `roc_curve`; the method, exact in finite samples, is in
    `redteam.statistics.tpr`.
    """
    return tpr_interval(rank(scores, is_member), fpr=fpr, alpha=alpha, seed=seed)
