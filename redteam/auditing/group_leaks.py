"""Leakage by group as numbers that can be limited: the largest AUC within a group, and the widest gap between two.

They are measured where a policy limits them, of the attack that settles limits, by its first judged signal. All groups
with ten members and ten non-members share the error of a number; the breakdown by group describes the same.
"""

from collections.abc import Callable, Sequence

import numpy as np

from redteam.auditing.grading import Looked
from redteam.auditing.measure import Measured
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.plugins.attack import Attack
from redteam.report import Limit
from redteam.report.values import Evidence, rule_of
from redteam.statistics import Interval, attainable_auc
from redteam.statistics.area import area_interval
from redteam.statistics.fairness import widest_difference
from redteam.statistics.ranking import rank

_FEWEST = 10  # of either side
BY_GROUP, GAP = "auc_by_group", "auc_group_gap"
_Part = tuple[FloatArray, BoolArray]


def planned(attacks: Sequence[Attack], looked: Looked, limits: Sequence[Limit]) -> tuple[str, ...]:
    """Return the ids of the numbers that are limited, of `attacks`, all of which apply; none without groups."""
    groups = len(_rows(looked))
    if not attacks or not groups:
        return ()
    primary = max(attacks, key=lambda attack: attack.strength)
    signal, unit = (primary.judged or primary.signals)[0], looked.units.unit
    names = (BY_GROUP, GAP) if groups > 1 else (BY_GROUP,)
    limited = {limit.metric for limit in limits}
    return tuple(f"{rule_of(primary.id, name, unit=unit)}:{signal}" for name in names if name in limited)


def measure(
    ids: Sequence[str], measured: Sequence[Measured], looked: Looked, level: Callable[[str], float]
) -> tuple[Evidence, ...]:
    """Return the numbers of `ids`, each at its `level`; none where the attack gave no scores."""
    found = []
    for identifier in ids:
        rule, _, signal = identifier.partition(":")
        own = [one for one in measured if one.signal == signal and rule.startswith(f"{one.attack}.")]
        if own:
            parts = [_part(own[0].scores, rows, looked) for rows in _rows(looked)]
            found.append(_evidence(own[0], identifier, parts, looked, level(identifier)))
    return tuple(found)


def _rows(looked: Looked) -> list[IntArray]:
    """Return the rows of each group that has enough on either side, by the names of the groups."""
    if looked.pool.groups is None or looked.grade == "C":
        return []
    names, own = np.unique(np.array(looked.pool.groups, dtype=object), return_inverse=True)
    every = [np.flatnonzero(own == g).astype(np.int64) for g in range(len(names))]
    sides = [looked.units.within(rows).is_member for rows in every]
    return [rows for rows, s in zip(every, sides, strict=True) if min(int(s.sum()), int((~s).sum())) >= _FEWEST]


def _part(scores: FloatArray, rows: IntArray, looked: Looked) -> _Part:
    part = looked.units.within(rows)
    return part.score(scores[rows]), part.is_member


def _evidence(own: Measured, identifier: str, parts: Sequence[_Part], looked: Looked, alpha: float) -> Evidence:
    name = identifier.partition(":")[0].rpartition(".")[2]
    each = alpha / len(parts)
    intervals = [area_interval(rank(s, m, may_tie=True), alpha=each) for s, m in parts]
    bounds = [attainable_auc(int(m.sum()), int((~m).sum()), alpha=each) for _, m in parts]
    if name == GAP:
        interval = widest_difference(intervals, alpha=alpha)[1]
        ends = sorted(bounds)
        most = max(0.0, ends[-1] - (1 - ends[-2]))
    else:
        worst = max(intervals, key=lambda one: (one.low, one.value))
        interval = Interval(worst.value, worst.low, max(one.high for one in intervals), alpha)
        most = max(bounds)
    is_member, unit = looked.units.is_member, looked.units.unit
    sides = int(is_member.sum()), int((~is_member).sum())
    return Evidence(own.attack, own.signal, name, interval, *sides, most, unit=unit)
