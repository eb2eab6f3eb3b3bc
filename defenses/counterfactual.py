"""RD401 counterfactual: each text is trained on beside its swap, both with the text's own label.

Counterfactual data augmentation (Lu et al. 2018; Zhao et al. 2018): where a text names a group of the swap list, its
other version is seen in the same step, so that the named group says nothing of the label. With `pairing` the logits of
both are drawn together besides (counterfactual logit pairing, Garg et al. 2019). Labels must be the right ones: those
that a biased model gives carry its bias over, see `redteam distil`.

Texts without a listed word, with one that has no counterfactual, and canaries are trained on as they are. Nothing is
guaranteed, and nothing is said of leakage: measure both, with redteam fairness and redteam audit.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from defenses import described
from defenses.settings import recipe_of, settle
from defenses.views import train_to
from redteam.auditing.fairness.swaps import swapped_texts
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Defense, Progress, Trained
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class Counterfactual(Defense):
    """Train on texts and their swaps."""

    id = "RD401"
    name = "counterfactual"

    swaps: str = Setting("Swap list: gender, names, or a CSV file of word pairs.").default("gender")
    pairing: float = Setting("Weight of the distance between the logits of a text and its swap.", least=0).default(0.0)
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
        """Train and return the model; a note says how many texts had a swap. UsageError for an unknown list."""
        texts, places = list(examples.texts or ()), {label: i for i, label in enumerate(initial.labels)}
        swapped = swapped_texts(texts, self.swaps)
        if examples.planted is not None:
            swapped = [a if own else b for a, b, own in zip(texts, swapped, examples.planted, strict=True)]
        targets = np.eye(len(places))[[places[label] for label in examples.labels or ()]]
        recipe = recipe_of(self, initial, population or len(examples))
        how = {"seed": seed, "pairing": self.pairing, "checkpoint": checkpoint, "progress": progress}
        train_to(initial, (texts, swapped), targets, recipe, **how)  # type: ignore[arg-type]
        changed = sum(a != b for a, b in zip(texts, swapped, strict=True))
        return Trained(
            initial.bundle(), notes=(f"{changed:,} of {len(texts):,} texts were trained on with their swap",)
        )
