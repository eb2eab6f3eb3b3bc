"""Who is in which group, and how many of which label: what rates of groups are made of."""

from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, IntArray
from redteam.data import Examples
from redteam.plugins.fairness import FairnessProbe
from redteam.targets.target import label_indices

FEWEST = 10  # rows of a group, and of either class in it; below it nothing is resolved


@dataclass(frozen=True)
class Groups:
    """The names of groups, sorted; whose each row is, int [n]; and each row's label, int [n], None without labels."""

    names: tuple[str, ...]
    of: IntArray
    labels: IntArray

    def rows(self, group: int) -> BoolArray:
        """Return which rows are a group's."""
        mask: BoolArray = self.of == group
        return mask

    def resolved(self, among: BoolArray) -> tuple[int, ...]:
        """Return the groups that have enough rows among some."""
        sizes = np.bincount(self.of[among], minlength=len(self.names))
        return tuple(int(group) for group in np.flatnonzero(sizes >= FEWEST))

    def lacking(self, among: BoolArray, what: str) -> str | None:
        """Say which group has too few rows among some, None where all have enough."""
        sizes = np.bincount(self.of[among], minlength=len(self.names))
        for name, size in zip(self.names, sizes.tolist(), strict=True):
            if size < FEWEST:
                return f"group {name!r} has {size} rows {what}, and {FEWEST} are the fewest: audit more of them"
        return None


def groups_of(probe: FairnessProbe, labels: tuple[str, ...]) -> Groups | None:
    """Return the groups of the rows, None where the rows say none, or no labels."""
    rows: Examples | None = probe.rows
    if rows is None or rows.groups is None or rows.labels is None or not len(rows):
        return None
    names, own = np.unique(np.array(rows.groups, dtype=object), return_inverse=True)
    return Groups(tuple(map(str, names)), own.astype(np.int64), label_indices(labels, rows, name="model"))
