"""RD304 mahalanobis: as cmp, with noise that is longer in directions in which words are spread.

Xu, Aggarwal, Feyisetan and Teissier, "A Differentially Private Text Perturbation Method Using a Regularized Mahalanobis
Metric", PrivateNLP 2020 (2010.11947). With S the covariance of the vectors scaled to a mean variance of 1, noise is
S_l^(1/2) z, where S_l = l S + (1 - l) I and z is that of cmp. A word in a sparse region is left as it is less often.

Epsilon holds for the distance |S_l^(-1/2) (v - v')|, not for the Euclidean one.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from defenses.text._noise import by_noise, nearest, on_a_line, spherical
from redteam.core import UsageError
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class Mahalanobis(WordMechanism):
    """The word nearest to a vector with elliptical noise."""

    id = "RD304"
    name = "mahalanobis"

    epsilon: float = Setting("Metric epsilon, for each unit of the Mahalanobis distance.", above=0).default(50.0)
    share: float = Setting("Of the covariance in the shape of the noise; 0 is cmp.", least=0, most=0.99).default(0.2)

    def promise(self, table: WordVectors) -> Promise:
        """Return epsilon, and epsilon times the largest Mahalanobis distance."""
        most = _stretched(table, self.share)[1].extremes[1]
        return Promise(self.epsilon, self.epsilon * most, "regularised Mahalanobis distance of word vectors")

    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Draw noise for each word, stretch it, and look what is nearest."""
        root, wide = _stretched(table, self.share)[0], table.vectors.shape[1]
        return by_noise(words, table, lambda count: spherical(count, wide, self.epsilon, randomness) @ root, nearest)

    def log_channel(self, words: IntArray, table: WordVectors) -> FloatArray | None:
        """Return the channel where vectors have one number: the noise is that of another epsilon."""
        return on_a_line(words, table, self.epsilon / float(_stretched(table, self.share)[0][0, 0]))

    def distances(self, words: IntArray, table: WordVectors) -> FloatArray:
        """Return Mahalanobis distances."""
        return _stretched(table, self.share)[1].distances(words)


@lru_cache(maxsize=4)
def _stretched(table: WordVectors, share: float) -> tuple[FloatArray, WordVectors]:
    """Return S_l^(1/2), and the words with vectors in which the Mahalanobis distance is Euclidean."""
    covariance = np.atleast_2d(np.cov(table.centred, rowvar=False))
    if not np.trace(covariance) > 0:
        raise UsageError(f"mahalanobis: all vectors of {table.name} are the same; there is no shape of noise in them")
    variances, directions = np.linalg.eigh(covariance / np.trace(covariance) * len(covariance))
    scales = np.sqrt(share * np.maximum(variances, 0) + 1 - share)
    root = (directions * scales) @ directions.T
    return root, WordVectors(
        table.name, table.words, table.vectors @ ((directions / scales) @ directions.T), table.watch
    )
