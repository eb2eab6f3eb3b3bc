"""What measures fairness plugs in here: it sees the target, and texts whose groups are known; membership has no part.

Before anything is asked, `planned` says which numbers there will be, so that they can share the error of a report. Then
`measure` gives them, with what else is to be said of the groups.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from redteam.core.arrays import IntArray
from redteam.data import Examples
from redteam.plugins.context import AttackContext
from redteam.report.values import Evidence, FairnessNumber, Taxonomy
from redteam.targets.target import Access, Target

Number = tuple[str, str]  # a metric and the signal it is measured on
Level = Callable[[str, str], float]  # the error of a number, by its metric and signal


@dataclass(frozen=True)
class Pairs:
    """Texts with their counterfactuals by one swap list, [n] each, and beside them the same texts under a placebo.

    `sides` are the groups' names; `named` is 1 where a text names the first alone, -1 the second, 0 both. `units` [n]
    says which texts are alike, as those of one template; None: each stands for itself. `left_out` counts by reason.
    """

    name: str
    sides: tuple[str, str]
    texts: tuple[str, ...]
    swapped: tuple[str, ...]
    placebo: tuple[str, ...]
    named: tuple[int, ...]
    units: IntArray | None
    left_out: tuple[tuple[str, int], ...]
    of: str = "texts"

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.texts)

    @property
    def samples(self) -> int:
        """How many independent draws the pairs are."""
        return len(self) if self.units is None else len(np.unique(self.units))

    def each(self, texts: Sequence[str]) -> Examples:
        """Return texts as a target takes them."""
        return Examples(np.arange(len(texts)), tuple(texts))


@dataclass(frozen=True)
class FairnessProbe:
    """What is asked about: `rows` with labels and groups, None without; pairs by swap list; the labels of interest.

    `positives` empty stands for the last of two labels, or each of more.
    """

    rows: Examples | None = None
    pairs: tuple[Pairs, ...] = ()
    positives: tuple[str, ...] = ()

    def labels_judged(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels whose rates are compared."""
        return self.positives or (labels if len(labels) != 2 else labels[-1:])


@dataclass(frozen=True)
class FairnessAnswer:
    """What was measured: numbers that limits may be held against, numbers that describe, and remarks."""

    evidence: tuple[Evidence, ...] = ()
    numbers: tuple[FairnessNumber, ...] = ()
    notes: tuple[str, ...] = ()


class FairnessAttack(ABC):
    """A measurement of fairness: settings in the constructor, work in `measure`.

    `id` is stable and never re-used; `needs` is the least access, `taxonomy` what standards call it. One that is
    `only_named` runs where it is asked for.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access]
    taxonomy: ClassVar[Taxonomy | None] = None
    only_named: ClassVar[bool] = False

    @abstractmethod
    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return the numbers that limits may be held against, whatever the target answers; none where it lacks some."""

    def lacks(self, probe: FairnessProbe, labels: tuple[str, ...]) -> Mapping[str, str]:
        """Return for each metric that these rows cannot give, or not of all that is asked, what they lack."""
        return {}

    @abstractmethod
    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return every number that was planned, each at its `level`, and what describes the groups."""


class SwapControl(ABC):
    """A control of counterfactual swaps: it replaces as many words by others of their kind, which must not matter."""

    id: ClassVar[str]
    name: ClassVar[str]

    @abstractmethod
    def replace(
        self,
        text: str,
        places: Sequence[tuple[int, int]],
        *,
        keep: frozenset[str],
        seed: int,
        names: Sequence[Sequence[str]] = (),
        kinds: Sequence[Sequence[str]] = (),
    ) -> str | None:
        """Return the text with as many other words replaced as `places`, or None where it has no such word.

        `places` are where the words stand that the swap exchanges, of which none of `keep` is taken. `names` are groups
        of names that stand for each other in those very places, `kinds` a user's own words that must not matter.
        """
