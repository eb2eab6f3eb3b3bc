"""What a training takes where nothing was said: passes, batch and learning rate, from rows, labels and the model.

A fixed number of passes leaves many labels at chance: three over 2,500 rows are 234 steps, too few for 77 labels. So
the number of steps grows with the labels, and the passes follow from it. A private training is bounded by its noise
instead, which large batches and few trained weights make small; it takes the passes that pay for many labels. All of it
depends on public numbers alone: the expected number of rows, and the labels, which the model names.
"""

import math
from dataclasses import Field, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

from defenses.training import Recipe
from redteam.models.initial import InitialModel

_STEPS = 200  # at least, and so many for each label:
_STEPS_OF_A_LABEL, _OF_A_PRETRAINED = 30, 15
_PASSES = (3, 60)
_BATCH = 32
_FEWEST_BATCHES = 10  # of a pass: few rows are taken in smaller batches, of at least:
_SMALLEST_BATCH = 8


class OrdinaryTraining(Protocol):
    """The settings of a trainer without noise; None is chosen here."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def epochs(self) -> int | None:
        """Passes over the rows."""

    @property
    def batch_size(self) -> int | None:
        """Rows of a step."""

    @property
    def learning_rate(self) -> float | None:
        """Of AdamW."""

    def parameters(self) -> dict[str, Any]:
        """All settings by name."""


Ordinary = TypeVar("Ordinary", bound=OrdinaryTraining)


def passes_of(rows: int, initial: InitialModel, batch: int) -> int:
    """Return how many passes an ordinary training makes over so many rows; a pretrained model needs half as many."""
    steps = max(_STEPS, (_OF_A_PRETRAINED if initial.pretrained else _STEPS_OF_A_LABEL) * len(initial.labels))
    return min(max(math.ceil(steps / math.ceil(max(1, rows) / batch)), _PASSES[0]), _PASSES[1])


def batch_of(rows: int) -> int:
    """Return how many rows an ordinary training takes in one step."""
    return min(_BATCH, max(_SMALLEST_BATCH, rows // _FEWEST_BATCHES))


def settle(defense: Ordinary, initial: InitialModel, rows: int) -> Ordinary:
    """Return an ordinary training with its open settings chosen; one that stops early gets twice the passes."""
    batch = batch_of(rows) if defense.batch_size is None else defense.batch_size
    passes = defense.epochs
    if passes is None:
        passes = passes_of(rows, initial, batch) * (2 if getattr(defense, "early_stopping", False) else 1)
    rate = initial.learning_rate if defense.learning_rate is None else defense.learning_rate
    return replace(defense, epochs=passes, batch_size=batch, learning_rate=rate)


def recipe_of(defense: OrdinaryTraining, initial: InitialModel, rows: int) -> Recipe:
    """Return the recipe of an ordinary training, settled."""
    own = settle(defense, initial, rows).parameters()
    return Recipe(**{field.name: own[field.name] for field in fields(Recipe) if field.name in own})
