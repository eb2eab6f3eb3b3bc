"""Drawing from a channel row by row: each distinct word has its row computed once, and none is kept."""

from collections.abc import Callable

import numpy as np

from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors

Weights = Callable[[FloatArray], FloatArray]  # from distances [rows, n] to unnormalised logarithms of probabilities
_BLOCK = 64


def draw_by_rows(words: IntArray, table: WordVectors, weights: Weights, randomness: Randomness) -> IntArray:
    """Return for each of `words` one drawn in proportion to exp(weights), by where a uniform number falls."""
    numbers = randomness.uniform(len(words))
    order = np.argsort(words, kind="stable")
    distinct, starts = np.unique(words[order], return_index=True)
    ends = np.append(starts[1:], len(words))
    drawn = np.empty(len(words), np.int64)
    for first in range(0, len(distinct), _BLOCK):
        rows = distinct[first : first + _BLOCK]
        logs = weights(table.distances(rows))
        logs -= logs.max(axis=1, keepdims=True)
        cumulated = np.cumsum(np.exp(logs, out=logs), axis=1, out=logs)
        for i in range(len(rows)):
            own = order[starts[first + i] : ends[first + i]]
            found = np.searchsorted(cumulated[i], numbers[own] * cumulated[i, -1], side="right")
            drawn[own] = np.minimum(found, len(table) - 1)
    return drawn


def normalised(logs: FloatArray) -> FloatArray:
    """Return logarithms of probabilities that add up to 1 in each row."""
    most = logs.max(axis=1, keepdims=True)
    whole = np.log(np.exp(logs - most).sum(axis=1, keepdims=True))
    made: FloatArray = logs - most - whole
    return made
