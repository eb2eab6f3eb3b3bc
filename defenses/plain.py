"""RD100 plain: ordinary training, no defence; what every defence is compared with.

AdamW on the cross-entropy, a linear warm-up and decay, batches of texts of like length. It guarantees nothing: an
example's influence on the weights has no bound, so the ledger's guarantee is empty.
"""

from dataclasses import dataclass

from defenses.training import Recipe, train
from redteam.data import Examples
from redteam.defense import Checkpoint, Defense, Progress, Trained
from redteam.models.starting import Start


@dataclass(frozen=True)
class Plain(Defense):
    """Train without a defence; `learning_rate` None takes what suits the model."""

    id = "RD100"
    name = "plain"

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01

    def fit(
        self,
        start: Start,
        examples: Examples,
        *,
        seed: int,
        population: int | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train and return the model; the numbers depend on the settings, the data and the seed alone."""
        recipe = Recipe(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)
        train(start, examples, None, recipe, seed=seed, checkpoint=checkpoint, progress=progress)
        return Trained(start.bundle())
