"""The pool of an audit by what was put in or left out as a whole: its rows, or the users whose they are."""

from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.data import Examples
from redteam.data.units import number_users
from redteam.report.values import Unit


@dataclass(frozen=True, eq=False)
class Grouping:
    """What one row of the pool belongs to (`owners` [n], None where every row stands for itself), and who is a member.

    `is_member` [u] is one mark a unit, in the order of its number.
    """

    unit: Unit
    owners: IntArray | None
    is_member: BoolArray

    @classmethod
    def of(cls, pool: Examples, is_member: BoolArray, unit: Unit) -> "Grouping":
        """Group a pool by its users where they are the unit."""
        if unit == "example" or pool.users is None:
            return cls("example", None, is_member)
        owners = number_users(pool.users)
        marks = np.zeros(int(owners.max()) + 1, dtype=np.bool_)
        marks[owners] = is_member
        return cls("user", owners, marks)

    def score(self, scores: FloatArray) -> FloatArray:
        """Return one score a unit from one a row: of a user the mean, of rows that score alike exactly their score.

        NaN and infinity of a row stay what they are, so that nobody takes the rest for the whole.
        """
        if self.owners is None:
            return scores
        order = np.argsort(self.owners, kind="stable")
        starts = np.searchsorted(self.owners[order], np.arange(len(self.is_member)))
        values = np.asarray(scores, dtype=np.float64)[order]
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
        lowest, highest = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        return np.asarray(np.clip(means, lowest, highest))  # rounding must not set users apart whose rows score alike

    def within(self, rows: IntArray) -> "Grouping":
        """Return the grouping of some rows alone, in their order."""
        if self.owners is None:
            return Grouping("example", None, self.is_member[rows])
        kept, owners = np.unique(self.owners[rows], return_inverse=True)
        return Grouping("user", owners.astype(np.int64), self.is_member[kept])

    def control_pool(self, pool: Examples, *, seed: int) -> Examples:
        """Return what controls look at: one row a unit, of a user all texts together and the label of one of them.

        A control that learned from some rows of a user and was asked about others would tell the user, not the side.
        """
        if self.owners is None:
            return pool
        order = np.random.default_rng([seed, 0xC0]).permutation(len(pool))
        one = order[np.unique(self.owners[order], return_index=True)[1]]
        texts: tuple[str, ...] | None = None
        if pool.texts is not None:
            joined: list[list[str]] = [[] for _ in one]
            for owner, text in zip(self.owners.tolist(), pool.texts, strict=True):
                joined[owner].append(text)
            texts = tuple("\n".join(some) for some in joined)
        return Examples(np.arange(len(one)), texts, pool.take(one).labels)
