"""Members and non-members with equal shares of every label, where a declared split has them slightly otherwise.

Official train and test splits differ a little in how often each label occurs, and a membership score that is higher
for some labels than for others would measure that. So of every label p members are kept for every q non-members, drawn
at random; p and q are the small whole numbers that keep the most. What is kept depends on labels and sides alone, never
on a score, so given the labels the rows of a side are draws as before, only that their number of each label is fixed:
that makes counts of them less variable than free draws with the same mean (W. Hoeffding, "On the distribution of the
number of successes in independent trials", 1956), and intervals for free draws stay valid. A user stands for all of her
rows, so users are matched who have the same labels equally often.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from redteam.core.arrays import IntArray
from redteam.data import Examples, Split
from redteam.data.units import number_users
from redteam.report import plural
from redteam.report.values import Unit

_MOST_OF_ONE = 4  # of the smaller side to so many of the larger, as in 4:7; larger ones lose more of rare labels
_FEWEST = 10  # of either side: with fewer, no control could say whether the texts differ


@dataclass(frozen=True)
class Matching:
    """How many rows, or users, of either side were left, of how many, and how many labels stood on one side only."""

    members: int
    of_members: int
    nonmembers: int
    of_nonmembers: int
    one_sided: int
    unit: Unit = "example"

    def __str__(self) -> str:
        """Return it in words."""
        users = self.unit == "user"
        left = (
            f"{'users matched by the labels of their rows' if users else 'matched by label'}, {self.members:,} of "
            f"{self.of_members:,} members and {self.nonmembers:,} of {self.of_nonmembers:,} non-members are left"
        )
        number = plural(self.one_sided, "label profile" if users else "label")
        return left + (f"; {number} on one side only left out" if self.one_sided else "")


def match_by_label(split: Split, *, seed: int) -> tuple[Split, Matching] | None:
    """Return the split with as many members to a non-member in every label, and what was left out.

    Where users are the unit, users are matched who have the same labels as often. None where there is nothing to match
    by - no labels, random inclusion - or too few would be left.
    """
    sides = split.members, split.nonmembers
    if split.randomised or any(side.labels is None for side in sides):
        return None
    owners = [_owners(side, split.unit) for side in sides]
    mixes = [_mixes(side, rows) for side, rows in zip(sides, owners, strict=True)]
    names = {mix: i for i, mix in enumerate(sorted({*mixes[0], *mixes[1]}))}
    inside, outside = (np.array([names[mix] for mix in each], dtype=np.int64) for each in mixes)
    counts = np.bincount(inside, minlength=len(names)), np.bincount(outside, minlength=len(names))
    p, q, units = _ratio(*counts)
    kept = _draw(inside, p * units, seed, 1), _draw(outside, q * units, seed, 0)
    if min(len(kept[0]), len(kept[1])) < _FEWEST:
        return None
    one_sided = int(((counts[0] > 0) ^ (counts[1] > 0)).sum())
    found = Matching(len(kept[0]), len(inside), len(kept[1]), len(outside), one_sided, split.unit)
    rows = [np.flatnonzero(np.isin(own, some)) for own, some in zip(owners, kept, strict=True)]
    alone = None if split.alone is None else split.alone[np.concatenate([rows[0], rows[1] + len(sides[0])])]
    users = split.users
    if users is not None and split.unit == "user":
        users = replace(users, members=found.members, nonmembers=found.nonmembers)
    left = (side.take(some) for side, some in zip(sides, rows, strict=True))
    return replace(split, members=next(left), nonmembers=next(left), alone=alone, users=users), found


def _owners(side: Examples, unit: Unit) -> IntArray:
    """Return for each row the number of what it belongs to: itself, or its user."""
    return np.arange(len(side)) if unit == "example" or side.users is None else number_users(side.users)


def _mixes(side: Examples, owners: IntArray) -> list[tuple[str, ...]]:
    """Return the labels of each unit's rows, sorted: of an example its label alone."""
    mixes: list[list[str]] = [[] for _ in range(int(owners.max()) + 1)]
    for owner, label in zip(owners.tolist(), side.labels or (), strict=True):
        mixes[owner].append(label)
    return [tuple(sorted(mix)) for mix in mixes]


def _ratio(inside: IntArray, outside: IntArray) -> tuple[int, int, IntArray]:
    """Return p and q, and how often p members and q non-members of each label are kept.

    The ones that make the variance of a comparison, 1 / members + 1 / non-members, the smallest.
    """
    best, chosen = -1.0, (1, 1, np.minimum(inside, outside))
    for p, q in _candidates(int(inside.sum()), int(outside.sum())):
        units = np.minimum(inside // p, outside // q)
        members, nonmembers = p * int(units.sum()), q * int(units.sum())
        size = members * nonmembers / max(1, members + nonmembers)
        if size > best:
            best, chosen = size, (p, q, units)
    return chosen


def _candidates(members: int, nonmembers: int) -> Iterator[tuple[int, int]]:
    swap = members < nonmembers
    larger, smaller = max(members, nonmembers), max(1, min(members, nonmembers))
    for few in range(1, _MOST_OF_ONE + 1):
        near = few * larger // smaller
        for many in range(max(few, near - 1), near + 2):
            if gcd(few, many) == 1:
                yield (few, many) if swap else (many, few)


def _draw(labels: IntArray, wanted: IntArray, seed: int, side: int) -> IntArray:
    """Return so many random positions of each label, in their order."""
    order = np.random.default_rng([seed, 0x1ABE1, side]).permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]
    within = np.arange(len(labels)) - np.searchsorted(labels[grouped], labels[grouped])
    return np.sort(grouped[within < wanted[labels[grouped]]])
