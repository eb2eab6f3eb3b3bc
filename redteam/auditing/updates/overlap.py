"""ROUGE: how much of a text stands in another, by its words, its pairs of words, and its longest common order.

Lin, "ROUGE: A package for automatic evaluation of summaries", ACL 2004; F1, over tokens of the model.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment


class Rouge(NamedTuple):
    """Means over texts, 1 where each is there word for word."""

    one: float
    two: float
    longest: float


def rouge(own: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> Rouge:
    """Return the mean ROUGE-1, 2 and L of the texts of a client, each beside the one of `found` that is matched to it.

    The matching, one to one, is that of the largest sum; a text without a partner counts 0.
    """
    if not own or not found:
        return Rouge(0.0, 0.0, 0.0)
    table = np.array([[_of_pair(mine, other) for other in found] for mine in own])
    rows, columns = linear_sum_assignment(-table.sum(2))
    one, two, longest = table[rows, columns].sum(0) / len(own)
    return Rouge(float(one), float(two), float(longest))


def _of_pair(first: Sequence[int], second: Sequence[int]) -> Rouge:
    words = (Counter(first) & Counter(second)).total()
    pairs = (Counter(itertools.pairwise(first)) & Counter(itertools.pairwise(second))).total()
    sizes = [(len(first), len(second)), (len(first) - 1, len(second) - 1)]
    one, two = (2 * c / max(1, a + b) for c, (a, b) in zip((words, pairs), sizes, strict=True))
    return Rouge(one, two, 2 * _common_order(first, second) / max(1, len(first) + len(second)))


def _common_order(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the longest common subsequence."""
    before = [0] * (len(second) + 1)
    for word in first:
        now = [0]
        for at, other in enumerate(second, start=1):
            now.append(before[at - 1] + 1 if word == other else max(before[at], now[-1]))
        before = now
    return before[-1]
