"""RD306 vickrey: as cmp, but of the two words nearest to the noisy vector sometimes the second goes out.

Xu, Feyisetan, Aggarwal, Xu and Teissier, "On a Utilitarian Approach to Privacy Preserving Text Generation", PrivateNLP
2021. With distances d1 <= d2 from the noisy
vector, the first is taken with probability (1 - t) d2 / (t d1 + (1 - t) d2). What is done with the noisy vector costs
no privacy, so that epsilon is that of cmp; a word stays what it was less often.
"""

from dataclasses import dataclass

import numpy as np

from defenses.text._noise import by_noise, spherical
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import SingleArray, WordVectors
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class Vickrey(WordMechanism):
    """One of the two words nearest to a noisy vector."""

    id = "RD306"
    name = "vickrey"

    epsilon: float = Setting("Metric epsilon, for each unit of distance.", above=0).default(50.0)
    second: float = Setting("Weight of the second nearest word; 0 is cmp.", least=0, most=1).default(0.5)

    def promise(self, table: WordVectors) -> Promise:
        """Return epsilon, and epsilon times the largest distance."""
        return Promise(self.epsilon, self.epsilon * table.extremes[1])

    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Draw noise for each word, and one of the two words nearest to it."""
        wide = table.vectors.shape[1]

        def choose(closeness: SingleArray, noisy: FloatArray) -> IntArray:
            rows = np.arange(len(noisy))
            first = closeness.argmax(axis=1)
            closeness[rows, first] = -np.inf
            second = closeness.argmax(axis=1)
            d1, d2 = (np.linalg.norm(table.centred[each] - noisy, axis=1) for each in (first, second))
            ahead = (1 - self.second) * d2
            first_taken = randomness.uniform(len(noisy)) * (self.second * d1 + ahead) < ahead
            return np.asarray(np.where(first_taken, first, second), np.int64)

        return by_noise(words, table, lambda count: spherical(count, wide, self.epsilon, randomness), choose)
