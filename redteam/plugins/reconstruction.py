"""What plugs in as an attack on released texts: from exchanged words back to the words that were there.

The attacker knows the mechanism with its settings and vectors, and texts like those that were released; none of these.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from redteam.core.arrays import FloatArray, IntArray
from redteam.models.word_vectors import SingleArray
from redteam.report.values import Taxonomy

Words = Sequence[str]


@dataclass(frozen=True)
class PublicKnowledge:
    """What an attacker knows: `words` that people use, how often, which follows which, and how each is exchanged.

    `prior` are logarithms of probabilities, shape [v], `follows` those of a word after a word, shape [v + 1, v], where
    the last row is the beginning of a text or follows an unknown word. `channel` are those of each of the `seen` words
    of the release being drawn for each word, shape [v, s].
    """

    words: tuple[str, ...]
    prior: FloatArray
    follows: SingleArray
    seen: dict[str, int]
    channel: SingleArray

    def places(self, text: Words) -> IntArray:
        """Return the columns of a text's words in the channel, -1 for what has none, int [words]."""
        return np.array([self.seen.get(word, -1) for word in text], np.int64)


class ReconstructionAttack(ABC):
    """An adversary with released texts; `id` is stable and never re-used, `taxonomy` is what standards call it.

    `metrics` are those it gives; one that `needs_channel` asks how likely each word is exchanged for which.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    taxonomy: ClassVar[Taxonomy | None] = None
    needs_channel: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("words_recovered", "texts_recovered")

    @abstractmethod
    def recover(self, released: Sequence[Words], known: PublicKnowledge) -> list[list[str]]:
        """Return for each released text as many words as it has: those it thinks were there."""
