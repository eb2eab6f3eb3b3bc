"""From scores to guesses about inclusion: how many canaries to call "in" and "out", and how many calls are right.

The one-run bounds need each guess to be a function of the training's output, and the inclusion of the canaries that
are guessed at to be fair and independent. Three things follow. Members and non-members are pooled before anything
is ranked, divided or tied, and equal scores are ordered by lot: an order that knows the membership would guess by
it. A division into a part that chooses and a part that judges is drawn among the pooled canaries; given the inclusion
of the first part, those of the second are still fair and independent, the first part's canaries are fixed data, and
the rule that they chose is fixed too, so the bound holds for the second part by itself, with its own number of
canaries. And how many to guess is fixed by the rule, not by where scores fall: the top k+ and the bottom k-. Which end
is the top is a choice like any other: a part that chooses may turn the scores round, for nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from redteam.core import StatisticsError
from redteam.statistics import first_part, require_rate
from redteam.statistics.ranking import finite_scores
from redteam.statistics.thresholds import Bonferroni, Explicit, MultiSplit, SingleSplit, ThresholdStrategy

Bools = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

_SIZES = 24  # sizes tried at each end, evenly spaced in their logarithm
_GRID = np.geomspace(0.01, 30.0, 60)  # epsilons between which the choosing part tells; any choice is valid


@dataclass(frozen=True)
class Guesses:
    """How many canaries to call "in" from the top and "out" from the bottom, fixed before the scores were seen."""

    top: int
    bottom: int

    def __post_init__(self) -> None:
        """Raise StatisticsError where nothing would be guessed."""
        if not (self.top >= 0 and self.bottom >= 0 and self.top + self.bottom >= 1):
            raise StatisticsError(f"{self.top} guesses in, {self.bottom} out; at least one guess is needed")


@dataclass(frozen=True)
class Count:
    """What a rule gave: `correct` of `guesses` about `canaries`, to be bounded with error `alpha`."""

    correct: int
    guesses: int
    canaries: int
    alpha: float


Rule = ThresholdStrategy | Guesses


def count_guesses(
    in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, rule: Rule, *, delta: float, alpha: float
) -> tuple[Count, ...]:
    """Return the counts of a rule: one, or one for each split or threshold of a rule that has several.

    Raises StatisticsError for scores that are missing or not finite, a rule whose choice these bounds cannot pay
    for, or more guesses than canaries.
    """
    require_rate("alpha", alpha)
    members, others = finite_scores("in_scores", in_scores), finite_scores("out_scores", out_scores)
    scores = np.concatenate([members, others])
    is_in = np.arange(len(scores)) < len(members)
    if isinstance(rule, Explicit):
        return (_by_threshold(scores, is_in, rule.threshold, alpha),)
    if isinstance(rule, Bonferroni) and not isinstance(rule.thresholds, int):
        share = alpha / len(rule.thresholds)
        return tuple(_by_threshold(scores, is_in, each, share) for each in rule.thresholds)
    lots = _lots(scores, is_in)
    if isinstance(rule, Guesses):
        return (_count(_by_lot(scores, is_in, np.random.default_rng(lots)), rule, alpha),)
    if len(scores) < 2:
        raise StatisticsError(f"{len(scores)} canaries; at least 2 are needed to choose on some and judge on the rest")
    return tuple(
        _split(scores, is_in, each.fraction, np.random.default_rng([each.seed, *lots]), delta, share)
        for each, share in _splits(rule, alpha)
    )


def perfect_guesses(canaries: int, rule: Rule, *, alpha: float) -> Count:
    """Return the count that complete separation of so many canaries would have given."""
    if isinstance(rule, Guesses):
        return Count(rule.top + rule.bottom, rule.top + rule.bottom, canaries, alpha)
    if isinstance(rule, Bonferroni) and not isinstance(rule.thresholds, int):
        return Count(canaries, canaries, canaries, alpha / len(rule.thresholds))
    if isinstance(rule, Explicit):
        return Count(canaries, canaries, canaries, alpha)
    chosen, share = next(_splits(rule, alpha))
    judged = canaries - first_part(canaries, chosen.fraction)
    return Count(judged, judged, judged, share)


def settle(bounds: Sequence[float], rule: Rule) -> float:
    """Return the one bound that a rule's bounds support: the lower median of several splits, else the best."""
    return sorted(bounds)[(len(bounds) - 1) // 2] if isinstance(rule, MultiSplit) else max(bounds)


def _splits(rule: Rule, alpha: float) -> Iterator[tuple[SingleSplit, float]]:
    if isinstance(rule, SingleSplit):
        yield rule, alpha
    elif isinstance(rule, MultiSplit):
        for seed in np.random.SeedSequence(rule.seed).generate_state(rule.splits, np.uint64):
            yield SingleSplit(int(seed), rule.fraction), alpha / 2
    else:
        raise StatisticsError(
            f"{rule}: the one-run bounds need guesses that do not depend on who was included; give SingleSplit, "
            "Guesses, or thresholds fixed in advance"
        )


def _by_threshold(scores: npt.NDArray[np.float64], is_in: Bools, threshold: float, alpha: float) -> Count:
    correct = int(np.count_nonzero((scores >= threshold) == is_in))
    return Count(correct, len(scores), len(scores), alpha)


def _split(
    scores: npt.NDArray[np.float64],
    is_in: Bools,
    fraction: float,
    rng: np.random.Generator,
    delta: float,
    alpha: float,
) -> Count:
    order = rng.permutation(len(scores))
    first = first_part(len(scores), fraction)
    chooses, judges = order[:first], order[first:]
    best, turned = _choose(_by_lot(scores[chooses], is_in[chooses], rng), delta, alpha)
    scale, most = len(judges) / len(chooses), len(judges)
    top = min(round(best.top * scale), most)
    bottom = min(round(best.bottom * scale), most - top)
    fixed = Guesses(top, bottom) if top + bottom else Guesses(1, 0)
    ranked = _by_lot(scores[judges], is_in[judges], rng)
    return _count(ranked[::-1] if turned else ranked, fixed, alpha)


def _lots(scores: npt.NDArray[np.float64], is_in: Bools) -> list[int]:
    """Return what the lots are drawn from: all of the data.

    A draw by a seed alone would give the same places the same lots in every run, and the first places belong to
    the members: fixed lots would prefer one side, as surely as an order that knows the membership.
    """
    digest = hashlib.blake2b(scores.tobytes() + is_in.tobytes(), digest_size=16).digest()
    return [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4)]


def _by_lot(scores: npt.NDArray[np.float64], is_in: Bools, rng: np.random.Generator) -> Bools:
    """Return who was in, from the highest score to the lowest, equal scores in an order that knows no membership."""
    return is_in[np.lexsort([rng.random(len(scores)), scores])[::-1]]


def _count(ranked: Bools, rule: Guesses, alpha: float) -> Count:
    if rule.top + rule.bottom > len(ranked):
        raise StatisticsError(f"{rule.top} guesses in and {rule.bottom} out for {len(ranked)} canaries; guess fewer")
    right = int(np.count_nonzero(ranked[: rule.top]))
    right += int(np.count_nonzero(~ranked[len(ranked) - rule.bottom :]))
    return Count(right, rule.top + rule.bottom, len(ranked), alpha)


def _choose(ranked: Bools, delta: float, alpha: float) -> tuple[Guesses, bool]:
    """Return the sizes that promise most on the part that chooses, and whether low scores are to be called "in"."""
    (upright, promised), (turned, other) = (_best(each, delta, alpha) for each in (ranked, ranked[::-1]))
    return (turned, True) if other > promised else (upright, False)


def _best(ranked: Bools, delta: float, alpha: float) -> tuple[Guesses, float]:
    """Return the sizes whose bound promises most, and how much, by an approximation that is quick."""
    m = len(ranked)
    sizes = np.unique(np.concatenate([[0], np.round(np.geomspace(1, m, _SIZES))])).astype(np.int64)
    top, bottom = (each.ravel() for each in np.meshgrid(sizes, sizes, indexing="ij"))
    some = (top + bottom >= 1) & (top + bottom <= m)
    top, bottom = top[some], bottom[some]
    ins = np.concatenate([[0], np.cumsum(ranked)])
    right = ins[top] + bottom - (ins[m] - ins[m - bottom])
    promised = promise(right, top + bottom, m, delta, alpha)
    best = int(np.argmax(promised))
    return Guesses(int(top[best]), int(bottom[best])), float(promised[best])


def promise(correct: Whole, guesses: Whole, canaries: int, delta: float, alpha: float) -> npt.NDArray[np.float64]:
    """Return about which epsilon the one-run bound would give; the term of delta is approximated from its mean."""
    q = 1.0 / (1.0 + np.exp(-_GRID))
    v, r = correct[:, None].astype(np.float64), guesses[:, None].astype(np.float64)
    tail = np.where(v > 0, special.betainc(np.maximum(v, 1.0), r - v + 1.0, q), 1.0)
    spread = 2.0 * delta * canaries / np.maximum(v - r * q + np.sqrt(r * q * (1.0 - q)), 1.0)
    rejected = np.count_nonzero(tail + spread < alpha, axis=1)
    # Between equals the larger share of right guesses is the better: it lets ties on the grid decide sensibly.
    promised: npt.NDArray[np.float64] = rejected + correct / guesses / 2.0
    return promised
