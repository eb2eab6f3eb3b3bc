"""RD302 tem: the truncated exponential mechanism, which takes all words beyond a radius for equally far.

Carvalho, Vasiloudis and Feyisetan, "TEM: High Utility Metric Differential Privacy on Text", SDM 2023 (2107.07928). With
gamma = (2 / epsilon) ln((1 - beta) |W| / beta), words within gamma of w weigh exp(-epsilon d / 2) and all others
exp(-epsilon gamma / 2) each. min(d, gamma) is a distance again, so that epsilon holds. The weight of all that is
outside together, the bottom element of the paper, is |W \\ L| times that of one; with any other weight the guarantee
breaks: a library that had ln(|W| / |L|) there claimed 3.5 and accounted for 4.82.
"""

from dataclasses import dataclass

import numpy as np

from defenses.text._rows import draw_by_rows, normalised
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class TruncatedExponential(WordMechanism):
    """The exponential mechanism on distances that are cut off at gamma."""

    id = "RD302"
    name = "tem"

    epsilon: float = Setting("Metric epsilon, for each unit of distance.", above=0).default(10.0)
    beta: float = Setting("How likely a far word is at most, where none is near.", above=0, below=0.5).default(0.001)

    def gamma(self, table: WordVectors) -> float:
        """Return the radius beyond which all words are alike."""
        return float(2 / self.epsilon * np.log((1 - self.beta) * len(table) / self.beta))

    def promise(self, table: WordVectors) -> Promise:
        """Return epsilon, and epsilon times the largest distance, at most gamma."""
        return Promise(self.epsilon, self.epsilon * min(table.extremes[1], self.gamma(table)))

    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Draw by rows of the channel."""
        gamma = self.gamma(table)
        return draw_by_rows(words, table, lambda distances: self._weights(distances, gamma), randomness)

    def log_channel(self, words: IntArray, table: WordVectors) -> FloatArray:
        """Return the channel: a softmax of distances cut off at gamma."""
        return normalised(self._weights(table.distances(words), self.gamma(table)))

    def _weights(self, distances: FloatArray, gamma: float) -> FloatArray:
        made: FloatArray = np.minimum(distances, gamma) * (-self.epsilon / 2)
        return made
