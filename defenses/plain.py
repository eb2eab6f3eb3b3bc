"""RD100 plain: ordinary training, no defence; what every defence is compared with.

AdamW on the cross-entropy, a linear warm-up and decay, batches of texts of like length. It guarantees nothing: an
example's influence on the weights has no bound, so the ledger's guarantee is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from defenses import described
from defenses.frozen import fit_together
from defenses.settings import recipe_of, settle
from defenses.training import train
from redteam.canary.label_watch import harvest, plant
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Defense, Progress, Trained


@dataclass(frozen=True)
class Plain(Defense):
    """Train without a defence; what is None is chosen for the model, the rows and the labels."""

    id = "RD100"
    name = "plain"
    plants_labels = True

    epochs: int | None = described.EPOCHS.default(None)
    batch_size: int | None = described.BATCH_SIZE.default(None)
    learning_rate: float | None = described.LEARNING_RATE.default(None)
    weight_decay: float = described.WEIGHT_DECAY.default(0.01)

    def settled(self, initial: InitialModel, rows: int) -> Self:
        """Return the defence with passes, batch and learning rate chosen where they were left open."""
        return settle(self, initial, rows)

    def fit(
        self,
        initial: InitialModel,
        examples: Examples,
        *,
        seed: int,
        population: int | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train and return the model; the numbers depend on the settings, the data and the seed alone."""
        recipe = recipe_of(self, initial, population or len(examples))
        planted, watch = plant(initial)
        how: dict[str, Any] = {"seed": seed, "checkpoint": checkpoint, "progress": progress}
        train(initial, examples, None, recipe, **how, planted=planted, watch=watch)
        canaries = harvest(planted, watch)
        return Trained(initial.bundle(), canaries=canaries)

    def fit_together(
        self, initial: InitialModel, examples: Examples, halves: BoolArray, *, seeds: Sequence[int]
    ) -> FloatArray:
        """Train a last layer on each of `halves`, [k, n], and return its logits for all examples, [k, n, c]."""
        recipe = recipe_of(self, initial, int(halves[0].sum()))
        return fit_together(initial, examples, halves, recipe, seeds)
