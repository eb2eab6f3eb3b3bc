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
    """Texts with their counterfactuals by one swap list, [n] each, and the same texts under each of several placebos.

    `sides` are the groups' names; `named` is 1 where a text names the first alone, -1 the second, 0 both. `units` [n]
    says which texts are alike, as those of one template; None: each stands for itself. `left_out` counts by reason.
    `commonness` is the share of texts that hold a word which is swapped, and one which a placebo exchanges.
    """

    name: str
    sides: tuple[str, str]
    texts: tuple[str, ...]
    swapped: tuple[str, ...]
    placebos: tuple[tuple[str, ...], ...]
    named: tuple[int, ...]
    units: IntArray | None
    left_out: tuple[tuple[str, int], ...]
    of: str = "texts"
    commonness: tuple[float, float] = (1.0, 1.0)

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

    `positives` empty stands for the last of two labels, or each of more. `other` is a model to compare with, if any.
    """

    rows: Examples | None = None
    pairs: tuple[Pairs, ...] = ()
    positives: tuple[str, ...] = ()
    other: Target | None = None

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
    `only_named` runs where it is asked for, one that `describes` also where no limit could be held against it.
    One that `compares` says more with another model beside, an `intrinsic` one is about the encoder; `metrics` are of
    its numbers.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access]
    taxonomy: ClassVar[Taxonomy | None] = None
    only_named: ClassVar[bool] = False
    describes: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    intrinsic: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return the numbers that limits may be held against, whatever the target answers; none where it lacks some."""

    def lacks(self, probe: FairnessProbe, labels: tuple[str, ...]) -> Mapping[str, str]:
        """Return for each metric that these rows cannot give, or not of all that is asked, what they lack."""
        return {}

    @abstractmethod
    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return every number that was planned, each at its `level`, and what describes the groups."""


@dataclass(frozen=True)
class Placebos:
    """Versions of a text under a placebo, and whether their words are as common as those that the swap exchanges."""

    texts: tuple[str, ...]
    matched: bool


class SwapControl(ABC):
    """A control of counterfactual swaps: it replaces as many words by others of their kind, which must not matter."""

    id: ClassVar[str]
    name: ClassVar[str]

    @abstractmethod
    def versions(
        self,
        text: str,
        swapped: str,
        *,
        share: Callable[[str], float],
        keep: frozenset[str],
        names: Sequence[Sequence[str]] = (),
        kinds: Sequence[Sequence[str]] = (),
    ) -> Placebos | None:
        """Return the text with as many other words replaced as `swapped` differs in, in several ways; None without one.

        `share` says in what share of the texts a word stands; no word of `keep` is replaced or put in. `names` are
        groups of names that stand for each other where the swap exchanges one, `kinds` a user's own words that must
        not matter.
        """
