"""RD113 characters: RD110 with a character encoder alone, beside the embedding of each token."""

from dataclasses import dataclass

from defenses.regularised import Regularised


@dataclass(frozen=True)
class Characters(Regularised):
    """Let the model read the characters of each token."""

    id = "RD113"
    name = "characters"

    early_stopping: bool = False
    dropout: float | None = None
