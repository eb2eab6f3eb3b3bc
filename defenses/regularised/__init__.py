"""RD110 regularised: training that learns single examples less well, by the defences of Parikh et al. (ACL 2022).

Any combination of: early stopping, at the best loss on a validation part; dropout, wherever the model has some;
characters, a second path beside each token's own embedding, for `tiny`, `bilstm` and BERT models. And besides: equal
texts kept once (so that a sentence that was repeated R times is seen once in each pass), and label smoothing. The paper
reports that its three together bring extraction down to chance; nothing of the kind is guaranteed, so the ledger's
guarantee is empty, and what a combination does must be measured: redteam drill.

The validation part is taken from users' rows among the members, by the seed, with all copies of a text. Its rows are
not trained on, but they decide when training stops, so they stay members in the ledger. An audit then counts some
members that no gradient has seen: with a tenth taken away, membership is measured as up to a tenth weaker than it is
for the rest. Canaries are all trained on: copies of one that were kept apart would decide when training stops, as no
user's row does, and would be counted as kept by a defence that never met them. Copies that were left out as equal to
another are members too, and their text was trained on.
"""

from dataclasses import dataclass, replace
from typing import Self

from defenses import described
from defenses.regularised.rows import distinct, hold_out
from defenses.settings import recipe_of, settle
from defenses.training import train
from redteam.core import UsageError
from redteam.data import Examples
from redteam.models.initial import InitialModel, set_dropout
from redteam.models.spelling import with_characters
from redteam.plugins.defense import Checkpoint, Defense, Progress, Trained
from redteam.plugins.settings import DROPOUT, Setting


@dataclass(frozen=True)
class Regularised(Defense):
    """Train as RD100 does, with the paper's three defences; each can be switched off, and two more on.

    `dropout` None leaves the model's own. `label_smoothing` is the share of a label that is spread over all. Early
    stopping keeps the share `validation` of the texts apart and stops after `patience` passes without a better loss.
    Passes, batch and learning rate are chosen for model, rows and labels where they are None, twice the passes of RD100
    where it stops early.
    """

    id = "RD110"
    name = "regularised"

    early_stopping: bool = Setting("Keep the pass with the best loss on texts kept apart.").default(True)
    dropout: float | None = DROPOUT.default(0.5)
    characters: bool = Setting("Read the characters of each token besides.").default(True)
    deduplicate: bool = Setting("Train on equal texts once.").default(False)
    label_smoothing: float = Setting("Share of a label spread over all.", least=0, below=1).default(0.0)
    epochs: int | None = described.EPOCHS.default(None)
    batch_size: int | None = described.BATCH_SIZE.default(None)
    learning_rate: float | None = described.LEARNING_RATE.default(None)
    weight_decay: float = described.WEIGHT_DECAY.default(0.01)
    validation: float = Setting("With early stopping: share of the texts kept apart.", above=0, most=0.5).default(0.1)
    patience: int = Setting("With early stopping: passes without a better loss.", "passes", least=1).default(3)

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant; written so that NaN fails too."""
        if self.dropout is not None and not 0 <= self.dropout <= 0.95:
            raise UsageError(f"dropout {self.dropout}: must be from 0 to 0.95, or left out")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing {self.label_smoothing}: must be at least 0 and below 1")
        if not 0 < self.validation <= 0.5:
            raise UsageError(f"validation {self.validation}: must be above 0 and at most 0.5")
        if self.patience < 1:
            raise UsageError(f"patience {self.patience}: must be at least 1")

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
        """Train and return the model; the numbers depend on the settings, the data and the seed alone.

        Raises UsageError where there are too few rows to stop early, or the model cannot read characters.
        """
        rows = distinct(examples) if self.deduplicate else examples
        notes = [f"{len(examples) - len(rows):,} rows left out: equal to others"] if len(rows) < len(examples) else []
        trained, apart = hold_out(rows, self.validation, seed) if self.early_stopping else (rows, None)
        if self.dropout is not None:
            set_dropout(initial.model, self.dropout)
        if self.characters:
            initial = replace(initial, model=with_characters(initial.model, initial.tokenizer, seed=seed))
        recipe = recipe_of(self, initial, population or len(examples))
        best = train(initial, trained, apart, recipe, seed=seed, checkpoint=checkpoint, progress=progress)
        if best is not None:
            notes.append(f"stopped early: the model of pass {best} of {recipe.epochs}, by {len(apart or ()):,} rows")
        return Trained(initial.bundle(), notes=tuple(notes), kept_pass=best)
