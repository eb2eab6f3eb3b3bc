"""A lower bound on epsilon from draws: pairs of words, and outputs that the first of the two has more often.

Which pairs and which outputs, is chosen on one half of the draws; the other half bounds either probability by Clopper
and Pearson. The error is shared equally over the pairs that were chosen, and over the two probabilities of each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.models.word_vectors import WordVectors
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low

Pair = tuple[int, int]
_MOST_OUTPUTS = 2000  # the commonest; all others are taken for one
_CAREFUL = 3.0  # standard errors that are taken off when pairs are chosen


@dataclass(frozen=True)
class PairBound:
    """What draws show of two words: a metric epsilon of at least `low`; `attainable` is the most there was to show.

    The first of `words` has the `outputs` more often.
    """

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


def strongest_pairs(outputs: Sequence[Sequence[str]], apart: FloatArray, count: int) -> tuple[Pair, ...]:
    """Return `count` pairs of words that show most on the first halves of their outputs, and the nearest two.

    `apart` are distances of the words, float64 [words, words]; the first of a pair has something more often.
    """
    seen = [Counter(own[: len(own) // 2]) for own in outputs]
    whole: Counter[str] = sum(seen, Counter())
    columns = [output for output, _ in whole.most_common(_MOST_OUTPUTS)]
    counts = np.array([[own[output] for output in columns] for own in seen], np.float64)
    rest = np.array([own.total() for own in seen]) - counts.sum(axis=1)
    counts = np.concatenate([counts, rest[:, None]], axis=1)
    shown = np.full(apart.shape, -np.inf)
    for a, b in zip(*np.nonzero(apart > 0), strict=True):
        shown[a, b] = _promising(counts[a], counts[b]) / apart[a, b]
    order = [
        (int(a), int(b)) for a, b in zip(*np.unravel_index(np.argsort(-shown, axis=None), shown.shape), strict=True)
    ]
    best = {frozenset(pair): pair for pair in reversed(order) if np.isfinite(shown[pair])}
    ranked = sorted(best.values(), key=lambda pair: -shown[pair])
    nearest = min(best.values(), key=lambda pair: apart[pair])
    return tuple(dict.fromkeys((*ranked[:count], nearest)))


def _promising(first: FloatArray, second: FloatArray) -> float:
    """Return about how large the logarithm of a ratio can be shown to be, over sets of outputs."""
    order = np.argsort(-(first + 0.5) / (second + 0.5), kind="stable")
    ours, others = np.cumsum(first[order]) + 0.5, np.cumsum(second[order]) + 0.5
    return float((np.log(ours / others) - _CAREFUL * np.sqrt(1 / ours + 1 / others)).max())


def bound_pair(
    first: Sequence[str], second: Sequence[str], *, words: tuple[str, str], distance: float, alpha: float
) -> PairBound:
    """Return the bound from outputs of two `words` at this `distance`, which the first has more often.

    It errs with at most `alpha`.
    """
    half = len(first) // 2
    low, outputs = _bound(
        Counter(first[:half]), Counter(second[:half]), Counter(first[half:]), Counter(second[half:]), alpha / 2
    )
    rest = len(first) - half
    most = np.log(clopper_pearson_low(rest, rest, alpha / 2)) - np.log(clopper_pearson_high(0, rest, alpha / 2))
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
