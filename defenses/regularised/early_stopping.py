"""RD111 early-stopping: RD110 with early stopping alone; give it more passes than it will need."""

from dataclasses import dataclass

from defenses.regularised import Regularised


@dataclass(frozen=True)
class EarlyStopping(Regularised):
    """Stop at the best loss on a validation part."""

    id = "RD111"
    name = "early-stopping"

    dropout: float | None = None
    characters: bool = False
