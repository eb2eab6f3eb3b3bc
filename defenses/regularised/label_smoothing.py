"""RD115 label-smoothing: RD110 with nothing but a tenth of each label spread over all of them."""

from dataclasses import dataclass

from defenses.regularised import Regularised


@dataclass(frozen=True)
class LabelSmoothing(Regularised):
    """Spread a tenth of each label over all."""

    id = "RD115"
    name = "label-smoothing"

    early_stopping: bool = False
    dropout: float | None = None
    characters: bool = False
    label_smoothing: float = 0.1
