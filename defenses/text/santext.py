"""RD301 santext: a word is exchanged for y with probability in proportion to exp(-epsilon d(w, y) / 2).

Yue, Du, Wang, Li, Sun and Chow, "Differential Privacy for Text Analytics via Natural Text Sanitization", Findings of
ACL 2021. This is the exponential mechanism with the negative distance as utility. Weights change by at most exp(epsilon
d(w, w') / 2) from one word to another, and so do their sums: together epsilon d(w, w').

What is proven of it holds for words that are in the vocabulary. Leaving "non-sensitive" words as they are, as SanText+
does, would take the guarantee from everybody who wrote one, and is not offered.
"""

from dataclasses import dataclass

from defenses.text._rows import draw_by_rows, normalised
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class SanText(WordMechanism):
    """The exponential mechanism over all words."""

    id = "RD301"
    name = "santext"

    epsilon: float = Setting("Metric epsilon, for each unit of distance.", above=0).default(10.0)

    def promise(self, table: WordVectors) -> Promise:
        """Return epsilon, and epsilon times the largest distance."""
        return Promise(self.epsilon, self.epsilon * table.extremes[1])

    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Draw by rows of the channel."""
        return draw_by_rows(words, table, self._weights, randomness)

    def log_channel(self, words: IntArray, table: WordVectors) -> FloatArray:
        """Return the channel: a softmax of distances."""
        return normalised(self._weights(table.distances(words)))

    def _weights(self, distances: FloatArray) -> FloatArray:
        made: FloatArray = distances * (-self.epsilon / 2)
        return made
