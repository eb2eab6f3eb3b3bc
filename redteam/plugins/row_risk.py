"""What says which rows of a training set attackers tell best, whichever model is trained on it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from redteam.core.arrays import BoolArray, FloatArray
from redteam.plugins.reference_scores import ReferenceScores
from redteam.report.values import Taxonomy


@dataclass(frozen=True)
class RowRisks:
    """The risk of some rows of a pool: the AUC of telling models trained on the row from models that were not.

    `rows`, shape [r], are indices of the pool, those at most risk first; `value`, `low` and `high`, shape [r], their
    risk with its interval.
    """

    rows: Sequence[int]
    value: FloatArray
    low: FloatArray
    high: FloatArray


class RowRisk(ABC):
    """A measure of the recipe and its data, not of one model: no answer of the target goes into it."""

    id: ClassVar[str]
    name: ClassVar[str]
    taxonomy: ClassVar[Taxonomy | None] = None

    @abstractmethod
    def lacking(self, references: ReferenceScores) -> str | None:
        """Return why nothing can be said from these reference models; None where something can."""

    @abstractmethod
    def list_rows(self, references: ReferenceScores, among: BoolArray, *, most: int, alpha: float) -> RowRisks:
        """Return the `most` rows at most risk of those that `among`, shape [n], tells.

        Of the intervals that are listed an expected share of `alpha` at the most misses its row's risk.
        """
