"""Texts that a target refuses to answer: left out on both sides, counted, and never more than a share of either."""

import math
from dataclasses import replace

import numpy as np

from redteam.auditing.scoring import ScoreCache
from redteam.core import TargetError
from redteam.data import Examples, Split, join
from redteam.data.grouping import Grouping
from redteam.data.units import check_enough, how_many
from redteam.statistics import Interval
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.targets.target import Access, label_indices

MAX_SKIPPED = 0.05
_LEVEL = 0.01  # at which refusals of users differ, as that of the controls


def refused_texts(cache: ScoreCache, pool: Examples) -> frozenset[str]:
    """Ask for every text of a pool before any attack does; return those that the target refuses.

    A wrong label costs no request, where the labels are known before. Raises TargetError for a target that is down,
    talks nonsense or refuses too many.
    """
    if pool.labels is not None and hasattr(cache.target, "meet"):
        cache.meet(pool.labels)
    if pool.labels is not None and cache.access == Access.PROBABILITIES:
        label_indices(cache.labels, pool, name=cache.name)
    there = cache.answered(pool)
    cache.settle()
    return frozenset(text for text, answered in zip(pool.texts or (), there.tolist(), strict=False) if not answered)


def without_refused(split: Split, refused: frozenset[str], *, most: float, name: str) -> Split:
    """Return a split without the texts that were refused; TargetError where they are more than `most` of either side.

    Which texts are refused depends on nothing but the texts and the target, so who was a member is looked at by nobody.
    """
    sides = {"members": split.members, "non-members": split.nonmembers}
    kept = {side: [i for i, text in enumerate(rows.texts or ()) if text not in refused] for side, rows in sides.items()}
    gone = {side: len(rows) - len(kept[side]) for side, rows in sides.items()}
    if any(gone[side] > most * len(rows) for side, rows in sides.items()):
        share = max(gone[side] / len(rows) for side, rows in sides.items())
        told = " and ".join(f"{gone[side]:,} of {len(rows):,} {side}" for side, rows in sides.items())
        raise TargetError(
            f"{name}: refused {told}, more than {most:g} of a side: see why it refuses them, or say --max-skipped "
            f"{math.ceil(share * 100) / 100:g}"
        )
    members, nonmembers = (rows.take(kept[side]) for side, rows in sides.items())
    alone, users = split.alone, split.users
    if alone is not None:
        alone = alone[[*kept["members"], *(len(split.members) + i for i in kept["non-members"])]]
    sizes = len(members), len(nonmembers)
    if split.unit == "user" and users is not None:
        sizes = how_many(members.users), how_many(nonmembers.users)
        seen = _refusals_by_user(split, refused)
        users = replace(users, members=sizes[0], nonmembers=sizes[1], refusals=seen)
    check_enough(*sizes, split.unit, moved_out=split.moved_out)
    return replace(split, members=members, nonmembers=nonmembers, alone=alone, users=users)


def left_out(before: Split, after: Split) -> tuple[int, int]:
    """Return how many members and non-members a split lost."""
    return len(before.members) - len(after.members), len(before.nonmembers) - len(after.nonmembers)


def _refusals_by_user(split: Split, refused: frozenset[str]) -> Interval:
    """Return how well the share of a user's texts that are refused tells members: one user's rows are no draws."""
    pool = join(split.members, split.nonmembers)
    is_member = np.arange(len(pool)) < len(split.members)
    users = Grouping.of(pool, is_member, split.unit)
    gone = np.array([text in refused for text in pool.texts or ()], dtype=np.float64)
    return area_interval(rank(users.score(gone), users.is_member, may_tie=True), alpha=_LEVEL)
