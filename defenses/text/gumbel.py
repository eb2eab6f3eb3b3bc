"""RD305 gumbel: among a random number of nearest words, the one whose distance plus truncated Gumbel noise is least.

After Xu, Aggarwal, Feyisetan and Teissier, "Density-Aware Differentially Private Textual Perturbations Using Truncated
Gumbel Noise", FLAIRS 2021: in a dense region many words are as near as the word itself, in a sparse one few are, and
the number of candidates k is random, 1 plus a Poisson number of mean ln |W|.

Such a k alone keeps no promise: that the farthest word is a candidate is less likely than e^-1000 with 400 words, and
the ratio of two words' probabilities of it is as large. So here all words are candidates with probability `spread`, and
epsilon is what this accounts for: with b the scale of the noise, D and d the largest and the least distance of two
words, no word's probability is below spread / (1 + (|W| - 1) exp(D / b)), and epsilon d must reach the negative
logarithm of that. b follows from epsilon, and an epsilon too small for any b is refused. The noise is cut off at
D + b (ln |W| + 20) on either side, where that changes a probability by less than one part in 10^8.
"""

from dataclasses import dataclass

import numpy as np

from defenses.text._rows import draw_by_rows, normalised
from redteam.core import UsageError
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import Setting

_BEYOND = 20.0  # scales of noise that are kept beyond where anything can happen
_CUT = 1e-8  # what cutting the noise off changes of the logarithm of a probability
_MOST = 400  # candidates; more are all words
_BLOCK = 64


@dataclass(frozen=True)
class TruncatedGumbel(WordMechanism):
    """The nearest word after noise, among k candidates."""

    id = "RD305"
    name = "gumbel"

    epsilon: float = Setting("Metric epsilon, for each unit of distance.", above=0).default(100.0)
    spread: float = Setting("How often all words are candidates.", above=0, most=1).default(0.01)

    def promise(self, table: WordVectors) -> Promise:
        """Return epsilon, and what no two words' probabilities differ by: epsilon times the least distance."""
        self.scale(table)
        return Promise(self.epsilon, self.epsilon * table.extremes[0])

    def scale(self, table: WordVectors) -> float:
        """Return the scale of the noise; raise UsageError where epsilon is too small for any."""
        least, most = table.extremes
        if not least > 0:
            raise UsageError("gumbel: two words have one vector, so that no epsilon holds; leave one of them out")
        room = self.epsilon * least - _CUT + np.log(self.spread) - np.log(len(table))
        if not room > 0:
            fewest = (np.log(len(table)) - np.log(self.spread) + _CUT) / least
            raise UsageError(
                f"gumbel: epsilon {self.epsilon:g} is too small for these words; give more than {fewest:.4g}"
            )
        return float(most / room)

    def draw(self, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
        """Draw how many candidates each word has, and a noise for each candidate."""
        scale = self.scale(table)
        cumulated = np.cumsum(self._counts(len(table)))
        counts = np.searchsorted(cumulated, randomness.uniform(len(words)), side="right") + 1
        drawn = np.empty(len(words), np.int64)
        everyone = counts > min(_MOST, len(table))
        drawn[everyone] = draw_by_rows(words[everyone], table, lambda each: each / -scale, randomness)
        few = np.flatnonzero(~everyone)
        cut = table.extremes[1] + scale * (np.log(len(table)) + _BEYOND)
        order = few[np.argsort(words[few], kind="stable")]
        distinct, starts = np.unique(words[order], return_index=True)
        parts = np.split(order, starts[1:])
        for first in range(0, len(distinct), _BLOCK):
            rows = distinct[first : first + _BLOCK]
            for distances, own in zip(table.distances(rows), parts[first : first + _BLOCK], strict=True):
                drawn[own] = _least(distances, counts[own], scale, cut, randomness)
        return drawn

    def log_channel(self, words: IntArray, table: WordVectors) -> FloatArray:
        """Return the channel: over the numbers of candidates, a softmax among these."""
        scale, n = self.scale(table), len(table)
        shares = self._counts(n)
        made: FloatArray = normalised(table.distances(words) / -scale) + np.log(max(1 - shares.sum(), 1e-300))
        for row, distances in enumerate(table.distances(words)):
            near = _nearest(distances, len(shares))
            weights = np.exp(-distances[near] / scale)
            among = np.cumsum((shares / np.cumsum(weights))[::-1])[::-1] * weights  # of every k that is large enough
            made[row, near] = np.logaddexp(made[row, near], np.log(np.maximum(among, 1e-300)))
        return made

    def _counts(self, n: int) -> FloatArray:
        """Return how likely 1, 2, ... candidates are; what is missing to 1 are all words."""
        most = min(_MOST, n)
        steps = np.log(np.log(n)) - np.log(np.arange(1, most)) if n > 1 else np.zeros(0)
        logs = np.concatenate([[0.0], np.cumsum(steps)])
        shares = np.exp(logs - logs.max())
        made: FloatArray = (1 - self.spread) * shares / shares.sum()
        return made


def _nearest(distances: FloatArray, count: int) -> IntArray:
    """Return the `count` nearest words, of those equally near the first ones."""
    if count >= len(distances):
        return np.argsort(distances, kind="stable").astype(np.int64)
    within = np.flatnonzero(distances <= np.partition(distances, count - 1)[count - 1])
    return within[np.argsort(distances[within], kind="stable")][:count].astype(np.int64)


def _least(distances: FloatArray, counts: IntArray, scale: float, cut: float, randomness: Randomness) -> IntArray:
    """Return for each number of candidates the one of them that is nearest after noise."""
    near = _nearest(distances, int(counts.max()))
    noisy = distances[near] + _gumbel(randomness.uniform(len(counts), len(near)), scale, cut)
    noisy[np.arange(len(near)) >= counts[:, None]] = np.inf
    return np.asarray(near[noisy.argmin(axis=1)], np.int64)


def _gumbel(uniform: FloatArray, scale: float, cut: float) -> FloatArray:
    """Return Gumbel noise (of a least value) between -cut and cut, by its inverse distribution function."""
    low, high = -np.expm1(-np.exp(-cut / scale)), -np.expm1(-np.exp(cut / scale))
    made: FloatArray = scale * np.log(-np.log1p(-(low + uniform * (high - low))))
    return made
