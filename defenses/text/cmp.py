"""RD303 cmp: noise is added to the vector of a word, and the word nearest to the sum goes out (d_x privacy).

Feyisetan, Balle, Drake and Diethe, "Privacy- and Utility-Preserving Textual Analysis via Calibrated Multivariate
Perturbations", WSDM 2020. The noise has density in proportion to exp(-epsilon |z|), so that moving its centre from one
word to another changes it by at most exp(epsilon d(w, w')) anywhere.

Its length is about d / epsilon in d dimensions, but what decides is the part of it along one difference, of standard
deviation about sqrt(d) / epsilon: epsilon means nothing across vectors of other dimension or scale.
"""

from dataclasses import dataclass

from defenses.text._noise import by_noise, nearest, on_a_line, spherical
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class Multivariate(WordMechanism):
    """The word nearest to a noisy vector."""

    id = "RD303"
    name = "cmp"

    epsilon: float = Setting("Metric epsilon, for each unit of distance.", above=0).default(50.0)

    def promise(self, table: WordVectors) -> Promise:
        """Return epsilon, and epsilon times the largest distance."""
        return Promise(self.epsilon, self.epsilon * table.extremes[1])

    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Draw noise for each word and look what is nearest."""
        wide = table.vectors.shape[1]
        return by_noise(words, table, lambda count: spherical(count, wide, self.epsilon, randomness), nearest)

    def log_channel(self, words: IntArray, table: WordVectors) -> FloatArray | None:
        """Return the channel where vectors have one number."""
        return on_a_line(words, table, self.epsilon)
