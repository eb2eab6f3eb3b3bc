"""Noise in the space of word vectors, of density in proportion to exp(-epsilon |z|), and the words nearest to a point.

Its length has a gamma distribution of shape d and scale 1 / epsilon, and its direction is uniform. What is done with
the noisy vector afterwards, such as looking for the nearest words, costs no privacy.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import gammaincc

from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import SingleArray, WordVectors

_BLOCK = 512
Choose = Callable[[SingleArray, FloatArray], IntArray]


def spherical(count: int, dimensions: int, epsilon: float, randomness: Randomness) -> FloatArray:
    """Return noise vectors, float64 [count, dimensions]."""
    noise = randomness.normal(count, dimensions)
    noise *= (randomness.gamma(dimensions, count) / epsilon / np.linalg.norm(noise, axis=1))[:, None]
    return noise


def by_noise(
    words: IntArray,
    table: WordVectors,
    noise: Callable[[int], FloatArray],
    choose: Choose,
) -> IntArray:
    """Return what `choose` picks for each word, given closeness to all words [block, n] and noisy vectors [block, d],
    centred as those of `table` are.

    Closeness is the inner product less half of the squared length: the larger, the nearer.
    """
    drawn = np.empty(len(words), np.int64)
    half = (table.squares / 2).astype(np.float32)
    against = np.concatenate([table.single, -half[:, None]], axis=1).T  # so that one product has all of it
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        noisy = table.centred[block] + noise(len(block))
        closeness = np.append(noisy, np.ones((len(block), 1)), axis=1).astype(np.float32) @ against
        drawn[start : start + _BLOCK] = choose(closeness, noisy)
    return drawn


def nearest(closeness: SingleArray, noisy: FloatArray) -> IntArray:
    """Return the nearest word of each row."""
    return np.asarray(closeness.argmax(axis=1), np.int64)


def on_a_line(words: IntArray, table: WordVectors, epsilon: float) -> FloatArray | None:
    """Return the logarithms of the channel to the nearest word where vectors have one number; None for more.

    There the noise is Laplace's, and a word has what falls between the middles to its neighbours on either side.
    """
    if table.vectors.shape[1] != 1:
        return None
    points = table.vectors[:, 0]
    order = np.argsort(points, kind="stable")
    middles = (points[order][1:] + points[order][:-1]) / 2
    edges = np.concatenate([[-np.inf], middles, [np.inf]])
    low, high = ((edges[None, side] - points[words, None]) * epsilon for side in (slice(None, -1), slice(1, None)))
    with np.errstate(divide="ignore"):
        logs = np.log(_between(low, high))
    made = np.empty_like(logs)
    made[:, order] = logs
    return made


def _between(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return what a standard Laplace number has between `low` and `high`, without loss far out."""
    flipped = low > 0
    a, b = np.where(flipped, -high, low), np.where(flipped, -low, high)  # by symmetry, on the left or around 0
    left: FloatArray = 0.5 * np.exp(np.minimum(b, 0)) - 0.5 * np.exp(np.minimum(a, 0))
    right = np.where(b > 0, 0.5 - 0.5 * np.exp(-np.maximum(b, 0)), 0.0)
    made: FloatArray = left + right
    return made


def shares_beyond(radius: float, dimensions: int, epsilon: float) -> float:
    """Return how often the noise is longer than `radius`."""
    return float(gammaincc(dimensions, radius * epsilon))
