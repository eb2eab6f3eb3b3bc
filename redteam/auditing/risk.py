"""Which members are at most risk, and the one warning that needs no reference model; none of it is judged."""

from collections.abc import Sequence

from redteam.auditing.scoring import ScoreCache
from redteam.core import StatisticsError
from redteam.core.arrays import BoolArray
from redteam.data import Examples
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.row_risk import RowRisk
from redteam.statistics import Interval
from redteam.statistics.ranking import rank
from redteam.statistics.tpr import tpr_interval
from redteam.targets.target import Access, label_indices, own_label_log_odds

LISTED = 10
_TAIL = 0.01
_MUCH = 3 * _TAIL  # of non-members in the tail of members, before it is worth a line


def rows_at_risk(
    measures: Sequence[RowRisk], references: ReferenceScores | None, is_member: BoolArray, *, alpha: float
) -> tuple[tuple[int, Interval], ...]:
    """Return the members at most risk by the first of `measures` that can say: row of the pool and its interval.

    None without reference models, or where there are too few of them.
    """
    if references is None:
        return ()
    for measure in measures:
        if measure.lacking(references) is None:
            found = measure.list_rows(references, is_member, most=LISTED, alpha=alpha)
            ends = zip(found.value.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
            return tuple((row, Interval(*each, alpha)) for row, each in zip(found.rows, ends, strict=True))
    return ()


def tail_warning(
    cache: ScoreCache, pool: Examples, is_member: BoolArray, *, alpha: float, seed: int
) -> tuple[str, ...]:
    """Return a line where far more than one non-member in a hundred lies below 99 in 100 members; none otherwise.

    By the target's own log-odds, so before any reference model: members that are fitted so well leave the hard end to
    non-members, and likelihood ratios will tell members by it (Dodd et al. 2025). Its silence says nothing.
    """
    if Access.PROBABILITIES not in cache.access or pool.labels is None:
        return ()
    own = label_indices(cache.labels, pool, name=cache.name)
    odds = own_label_log_odds(cache.log_probabilities(pool), own)
    try:
        seen = tpr_interval(rank(-odds, ~is_member), fpr=_TAIL, alpha=alpha, seed=seed)
    except StatisticsError:
        return ()
    if seen.low <= _MUCH:
        return ()
    return (
        f"warning: {seen.value:.0%} [{seen.low:.0%}, {seen.high:.0%}] of non-members are harder for the target than 99 "
        "of 100 members: reference models will tell members by that, more than attacks without them show",
    )
