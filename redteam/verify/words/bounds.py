"""A lower bound on epsilon from draws: pairs of near words, and outputs that one of the two has more often.

Which outputs, is chosen on one half of the draws; the other half bounds either probability by Clopper and Pearson. The
error is shared equally over both directions of all pairs, and over the two probabilities of each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.models.word_vectors import WordVectors
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low

Pair = tuple[int, int]


@dataclass(frozen=True)
class PairBound:
    """What draws show of two words: a metric epsilon of at least `low`; `attainable` is the most there was to show."""

    words: tuple[str, str]
    distance: float
    low: float
    attainable: float
    outputs: int


def choose_pairs(table: WordVectors, distances: FloatArray, count: int, rng: np.random.Generator) -> tuple[Pair, ...]:
    """Return pairs of words, none in two of them: half the nearest there are, half nearest to a random word."""
    near = np.where(np.eye(len(table), dtype=bool) | (distances <= 0), np.inf, distances)
    taken: set[int] = set()
    pairs: list[Pair] = []
    nearest_first = np.argsort(near.min(axis=1), kind="stable").tolist()
    for wanted, order in ((count // 2, nearest_first), (count, rng.permutation(len(table)).tolist())):
        for word in order:
            if len(pairs) >= wanted:
                break
            left = np.where(np.isin(np.arange(len(table)), list(taken)), np.inf, near[word])
            other = int(left.argmin())
            if word in taken or not np.isfinite(left[other]):
                continue
            pairs.append((word, other))
            taken |= {word, other}
    return tuple(pairs)


def bound_pair(
    first: Sequence[str], second: Sequence[str], *, words: tuple[str, str], distance: float, alpha: float
) -> PairBound:
    """Return the larger of two bounds from outputs of two `words` at this `distance`; it errs with at most `alpha`."""
    half = len(first) // 2
    found = [
        _bound(Counter(a[:half]), Counter(b[:half]), Counter(a[half:]), Counter(b[half:]), alpha / 4)
        for a, b in ((first, second), (second, first))
    ]
    low, outputs = max(found)
    rest = len(first) - half
    most = np.log(clopper_pearson_low(rest, rest, alpha / 4)) - np.log(clopper_pearson_high(0, rest, alpha / 4))
    return PairBound(words, distance, max(0.0, low / distance), max(0.0, float(most) / distance), outputs)


def _bound(
    seen: "Counter[str]", seen_other: "Counter[str]", left: "Counter[str]", left_other: "Counter[str]", alpha: float
) -> tuple[float, int]:
    """Return the bound on the logarithm of a ratio, and how many outputs it is of."""
    order = sorted(seen, key=lambda each: (-(seen[each] + 0.5) / (seen_other[each] + 0.5), each))
    ours, others = (np.cumsum([counts[each] for each in order]) for counts in (seen, seen_other))
    size = seen.total()
    guessed = np.log(np.maximum(clopper_pearson_low(ours, size, alpha), 1e-300))
    guessed -= np.log(clopper_pearson_high(others, seen_other.total(), alpha))
    best = order[: int(guessed.argmax()) + 1]
    here, there = (sum(counts[each] for each in best) for counts in (left, left_other))
    low = float(clopper_pearson_low(here, left.total(), alpha))
    high = float(clopper_pearson_high(there, left_other.total(), alpha))
    return (float(np.log(low / high)) if low > 0 else 0.0), len(best)
