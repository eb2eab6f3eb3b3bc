"""Members and non-members with equal shares of every label, where a declared split has them slightly otherwise.

Official train and test splits differ a little in how often each label occurs, and a membership score that is higher
for some labels than for others would measure that. So of every label p members are kept for every q non-members, drawn
at random; p and q are the small whole numbers that keep the most. What is kept depends on labels and sides alone, never
on a score, so given the labels the rows of a side are draws as before, only that their number of each label is fixed:
that makes counts of them less variable than free draws with the same mean (W. Hoeffding, "On the distribution of the
number of successes in independent trials", 1956), and intervals for free draws stay valid.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from redteam.core.arrays import IntArray
from redteam.data import Split
from redteam.report.wording import plural

_MOST_OF_ONE = 4  # of the smaller side to so many of the larger, as in 4:7; larger ones lose more of rare labels
_FEWEST = 10  # of either side: with fewer, no control could say whether the texts differ


@dataclass(frozen=True)
class Matching:
    """How many rows of either side were left, of how many, and how many labels stood on one side only."""

    members: int
    of_members: int
    nonmembers: int
    of_nonmembers: int
    one_sided: int

    def __str__(self) -> str:
        """Return it in words."""
        left = (
            f"matched by label, {self.members:,} of {self.of_members:,} members and {self.nonmembers:,} of "
            f"{self.of_nonmembers:,} non-members are left"
        )
        return left + (f"; {plural(self.one_sided, 'label')} on one side only left out" if self.one_sided else "")


def match_by_label(split: Split, *, seed: int) -> tuple[Split, Matching] | None:
    """Return the split with as many members to a non-member in every label, and what was left out.

    None where there is nothing to match by - no labels, coins, users as a whole - or too few rows would be left.
    """
    if split.randomised or split.unit != "example" or split.members.labels is None or split.nonmembers.labels is None:
        return None
    names = {name: i for i, name in enumerate(sorted({*split.members.labels, *split.nonmembers.labels}))}
    inside = np.array([names[name] for name in split.members.labels], dtype=np.int64)
    outside = np.array([names[name] for name in split.nonmembers.labels], dtype=np.int64)
    counts = np.bincount(inside, minlength=len(names)), np.bincount(outside, minlength=len(names))
    p, q, units = _ratio(*counts)
    kept = _draw(inside, p * units, seed, 1), _draw(outside, q * units, seed, 0)
    if min(len(kept[0]), len(kept[1])) < _FEWEST:
        return None
    both = (counts[0] > 0) & (counts[1] > 0)
    found = Matching(len(kept[0]), len(inside), len(kept[1]), len(outside), int((~both).sum()))
    alone = None if split.alone is None else split.alone[np.concatenate([kept[0], kept[1] + len(inside)])]
    members, nonmembers = split.members.take(kept[0]), split.nonmembers.take(kept[1])
    return replace(split, members=members, nonmembers=nonmembers, alone=alone), found


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
