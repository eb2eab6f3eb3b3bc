"""RD114 deduplication: RD110 with nothing but equal texts kept once: what was repeated R times is seen once a pass."""

from dataclasses import dataclass

from defenses.regularised import Regularised


@dataclass(frozen=True)
class Deduplication(Regularised):
    """Keep equal texts once."""

    id = "RD114"
    name = "deduplication"

    early_stopping: bool = False
    dropout: float | None = None
    characters: bool = False
    deduplicate: bool = True
