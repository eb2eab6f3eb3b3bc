"""Improving guesses by swapping symbols: first in one place, then in two, each tried exactly, all in one batch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attacks.extraction._losses import Memory
from attacks.extraction._soft_embeddings import Embedded, SoftEmbeddings
from attacks.extraction.sentences import CandidateSet, IntArray
from redteam.core.arrays import FloatArray
from redteam.core.progress import Progress, unwatched
from redteam.plugins.extraction import Secret

_AT_RANDOM = 8  # one swap in so many is not chosen by the gradient
_ROWS = 64  # for whose swaps slopes are taken in one pass


@dataclass(frozen=True)
class SwapBudget:
    """Single swaps tried of a guess in a round, guesses kept, swaps in two places tried of each, rounds at most."""

    swaps: int
    beam: int
    pairs: int
    rounds: int


@dataclass(frozen=True)
class SwapResult:
    """The best secret for one label, the rounds of swaps, and the candidates that were evaluated."""

    secret: Secret
    loss: float
    rounds: int
    evaluated: int


def improve(
    embedded: Sequence[Embedded],
    candidate_set: CandidateSet,
    memory: Memory,
    starts: IntArray,
    labels: IntArray,
    *,
    budget: SwapBudget,
    seed: int,
    progress: Progress = unwatched,
) -> list[SwapResult]:
    """Improve `starts` [n, places], each for one of the labels [n], and return the best that `memory` then knows.

    Must run within `gradients`.
    """
    rng = np.random.default_rng([seed, 204])
    rounds, going = 0, list(range(memory.values.shape[1]))
    while going and rounds < budget.rounds:
        rounds += _descend(embedded, candidate_set, memory, starts, labels, budget, rng, progress)
        best = {label: memory.values[:, label].min() for label in going}
        for label in going:
            progress(rounds, budget.rounds)
            memory.of(_in_two_places(candidate_set, memory, label, budget))
        rounds += 1
        going = [label for label in going if memory.values[:, label].min() < best[label]]
        starts = np.array([memory.best(label, 1)[0] for label in going]).reshape(-1, len(candidate_set.sizes))
        labels = np.array(going, dtype=np.int64)
    return [
        SwapResult(
            candidate_set.secret(memory.best(i, 1)[0]), float(memory.values[:, i].min()), rounds, len(memory.picks)
        )
        for i in range(memory.values.shape[1])
    ]


def _descend(
    embedded: Sequence[Embedded],
    candidate_set: CandidateSet,
    memory: Memory,
    picks: IntArray,
    labels: IntArray,
    budget: SwapBudget,
    rng: np.random.Generator,
    progress: Progress,
) -> int:
    """Move every row to its best single swap until none helps; return the rounds."""
    for done in range(budget.rounds):
        progress(done, budget.rounds)
        picks, labels = _distinct(picks, labels)
        if not len(picks):
            return done
        present = memory.of(picks)[np.arange(len(picks)), labels]
        swaps = _single_swaps(embedded, candidate_set, picks, labels, budget.swaps, rng)
        values = memory.of(swaps.reshape(-1, swaps.shape[2])).reshape(*swaps.shape[:2], -1)
        own = np.take_along_axis(values, labels[:, None, None], axis=2)[:, :, 0]
        best = own.argmin(axis=1)
        helped = own[np.arange(len(own)), best] < present
        picks, labels = swaps[helped, best[helped]], labels[helped]
    return budget.rounds


def _distinct(picks: IntArray, labels: IntArray) -> tuple[IntArray, IntArray]:
    """Rows that have met go on as one."""
    rows = np.unique(np.column_stack([labels, picks]), axis=0)
    return rows[:, 1:], rows[:, 0]


def _single_swaps(
    embedded: Sequence[Embedded],
    candidate_set: CandidateSet,
    picks: IntArray,
    labels: IntArray,
    most: int,
    rng: np.random.Generator,
) -> IntArray:
    """Return swaps of each row, [n, swaps, places]: all of them, or the most promising and some at random."""
    places = np.repeat(np.arange(len(candidate_set.sizes)), candidate_set.sizes)
    symbols = np.concatenate([np.arange(size) for size in candidate_set.sizes])
    if len(places) <= most:
        chosen = np.tile(np.arange(len(places)), (len(picks), 1))
    else:
        by_chance = max(1, most // _AT_RANDOM)
        promise = _promise(embedded, candidate_set, picks, labels)
        steepest = np.argpartition(promise, most - by_chance, axis=1)[:, : most - by_chance]
        chosen = np.concatenate([steepest, rng.integers(len(places), size=(len(picks), by_chance))], axis=1)
    swaps = np.repeat(picks[:, None], chosen.shape[1], axis=1)
    np.put_along_axis(swaps, places[chosen][:, :, None], symbols[chosen][:, :, None], axis=2)
    return swaps


def _promise(
    embedded: Sequence[Embedded], candidate_set: CandidateSet, picks: IntArray, labels: IntArray
) -> FloatArray:
    """Return the estimated change of the loss by each single swap, [n, sum of the sizes]; inf where it has none."""
    first = np.concatenate([[0], np.cumsum(candidate_set.sizes)])
    promise = np.full((len(picks), first[-1]), np.inf)
    shapes = np.concatenate([each.spelling.shapes(picks) for each in embedded], axis=1)
    for shape in np.unique(shapes, axis=0):
        alike = np.nonzero((shapes == shape).all(axis=1))[0]
        soft = SoftEmbeddings(embedded, picks[alike[0]])
        for rows in np.array_split(alike, -(-len(alike) // _ROWS)):
            own = np.stack([np.searchsorted(m, picks[rows, i]) for i, m in enumerate(soft.members)], axis=1)
            for place, slopes in enumerate(soft.slopes(own, labels[rows])):
                values = slopes.double().cpu().numpy()
                change = values - values[np.arange(len(rows)), own[:, place]][:, None]
                promise[np.ix_(rows, first[place] + soft.members[place])] = change
    return promise


def _in_two_places(candidate_set: CandidateSet, memory: Memory, label: int, budget: SwapBudget) -> IntArray:
    """Return the best guesses with swaps in two places, of the symbols that did best in either, [n, places]."""
    pairs = list(itertools.combinations(range(len(candidate_set.sizes)), 2))
    found = [np.empty((0, len(candidate_set.sizes)), dtype=np.int64)]
    each = max(2, int((budget.pairs / max(1, len(pairs))) ** 0.5))
    for guess in memory.best(label, budget.beam):
        promising = [_best_symbols(memory, label, guess, place, each) for place in range(len(candidate_set.sizes))]
        for one, other in pairs:
            left, right = np.meshgrid(promising[one], promising[other])
            rows = np.tile(guess, (left.size, 1))
            rows[:, one], rows[:, other] = left.ravel(), right.ravel()
            found.append(rows)
    return np.concatenate(found)


def _best_symbols(memory: Memory, label: int, guess: IntArray, place: int, count: int) -> IntArray:
    """Return the symbols that had the lowest loss in one place of a guess, among those that were tried there."""
    others = np.arange(memory.picks.shape[1]) != place
    tried = np.nonzero((memory.picks[:, others] == guess[others]).all(axis=1))[0]
    order = np.argsort(memory.values[tried, label], kind="stable")[:count]
    symbols: IntArray = memory.picks[tried[order], place]
    return symbols
