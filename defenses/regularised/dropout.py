"""RD112 dropout: RD110 with dropout alone, wherever the model has some."""

from dataclasses import dataclass

from defenses.regularised import Regularised


@dataclass(frozen=True)
class Dropout(Regularised):
    """Train with dropout 0.5."""

    id = "RD112"
    name = "dropout"

    early_stopping: bool = False
    characters: bool = False
