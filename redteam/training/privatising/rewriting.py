"""Exchange the words of the rows that a model is trained on, while all else speaks of the texts as they were.

For experiments: the rows on either side, their order and all seeds stay those of other trainings on the same data, and
the words are exchanged by a seed, so that the same experiment gives the same numbers.
"""

from dataclasses import dataclass, replace
from typing import Any

from redteam.core.randomness import Randomness
from redteam.data import Examples
from redteam.plugins.mechanism import Promise
from redteam.training.privatising.exchange import Exchange


@dataclass(frozen=True)
class Rewriting:
    """Words exchanged by a `seed`, the same ones whenever it is asked with the same rows; nothing is guaranteed so."""

    exchange: Exchange
    seed: int

    def __call__(self, rows: Examples) -> Examples:
        """Return the rows with their words exchanged."""
        return replace(rows, texts=tuple(self.exchange.texts(rows.texts or (), Randomness(self.seed))[0]))

    @property
    def promise(self) -> Promise:
        """What the mechanism would claim with the operating system's randomness."""
        return self.exchange.mechanism.promise(self.exchange.table)

    def summary(self, source_sha256: str) -> dict[str, Any]:
        """Return what a ledger says of it; its source is the data itself."""
        return self.exchange.described() | {"randomness": "seed", "source_sha256": source_sha256}
