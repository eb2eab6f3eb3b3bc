"""What plugs in as a privatiser of text: a word comes in, a word goes out, and how likely each is does not differ much.

Metric differential privacy: Pr[M(w) = y] <= exp(epsilon d(w, w')) Pr[M(w') = y] for all words w, w', y and a distance
d between words. It says nothing of the length of a text, the order of its words, or words that are not known.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors


@dataclass(frozen=True)
class Promise:
    """What a mechanism claims with some word vectors: `epsilon` for each unit of a distance, and what that comes to.

    `plain` bounds |ln Pr[M(w) = y] - ln Pr[M(w') = y]| whatever the two words: the epsilon of local differential
    privacy of one word. `distance` says of which distance epsilon is.
    """

    epsilon: float
    plain: float
    distance: str = "Euclidean distance of word vectors"


class WordMechanism(ABC):
    """A privatiser of single words: settings in a frozen dataclass, of which `epsilon` is one.

    `id` is stable and never re-used. A method raises UsageError where the settings do not go with the vectors.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    epsilon: float

    @abstractmethod
    def promise(self, table: WordVectors) -> Promise:
        """Return what the mechanism claims with these vectors."""

    @abstractmethod
    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Return a word for each of `words`, both int [n] into the words of `table`, each drawn independently."""

    def log_channel(self, words: IntArray, table: WordVectors) -> FloatArray | None:
        """Return ln Pr[M(w) = y] for each of `words` and every y, float64 [words, n]; None where no formula is known.

        -inf is what never happens.
        """
        return None

    def distances(self, words: IntArray, table: WordVectors) -> FloatArray:
        """Return the distance that `promise` speaks of from each of `words` to every word, float64 [words, n]."""
        return table.distances(words)
