"""RD402 distilled: a student learns the probabilities of a teacher, of a text and its swap together.

By `redteam distil TEACHER TEXTS`, whose texts need no labels. Plain distillation carries a teacher's bias over, and so
does adding swapped texts with what the teacher says of them: where it flips 7 of 10 texts, so do they. Training on the
mean of what it says of a text and of its swap (`--counterfactual average`), or on their geometric mean (`expert`), is
what makes both sides equal (after Gupta et al., Findings of ACL 2022, arXiv 2203.12574).
The student then agrees with its teacher less often, as it should.

The student sees the transfer texts alone, but what its teacher says of them may leak what that was trained on: audit
the student with the teacher's members. Trained by `redteam train` it is RD100 on the labels. It guarantees nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from defenses import described
from defenses.settings import recipe_of, settle
from defenses.views import train_to
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Defense, Progress, Trained


@dataclass(frozen=True)
class Distilled(Defense):
    """Train on probabilities; on labels, where these are all there is."""

    id = "RD402"
    name = "distilled"

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
        """Train on the labels of `examples`."""
        places = {label: i for i, label in enumerate(initial.labels)}
        targets = np.eye(len(places))[[places[label] for label in examples.labels or ()]]
        return self.fit_to(
            initial, (examples.texts or (),), targets, seed=seed, checkpoint=checkpoint, progress=progress
        )

    def fit_to(
        self,
        initial: InitialModel,
        versions: Sequence[Sequence[str]],
        targets: FloatArray,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train on the probabilities `targets`, [n, k] in the order of the model's labels, of texts in versions."""
        recipe = recipe_of(self, initial, len(targets))
        train_to(initial, versions, targets, recipe, seed=seed, checkpoint=checkpoint, progress=progress)
        return Trained(initial.bundle())
