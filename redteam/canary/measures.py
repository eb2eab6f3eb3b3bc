"""What attacks found, as measures with intervals and comparisons with held-out secrets, for each repetition count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from redteam.canary.found import Found, whole_secrets
from redteam.data.pattern import Pattern
from redteam.data.planting import Canary
from redteam.statistics import Interval
from redteam.statistics.binomial import clopper_pearson_low
from redteam.statistics.exposure import (
    SAMPLE_ERROR,
    Chance,
    SignTest,
    chance,
    compare_heldout,
    fewest_canaries,
    mean_interval,
    median_interval,
    share_interval,
    whole_secrets_p_value,
)

Signal = Literal["guess", "whole", "rank"]
Measured = Literal["exposure", "success", "guesses", "token_accuracy", "hamming"]


@dataclass(frozen=True)
class CanaryMeasure:
    """One measure over a group's canaries, what it is for held-out secrets, and for guessing without a model.

    exposure: median bits. success: share of whole secrets, in as many guesses as secrets share the query. guesses:
    how many candidates are to be tried until the secret comes, the median. token_accuracy: share of symbols that the
    best guess has right. hamming: mean number of those that it has wrong.
    """

    name: Measured
    planted: Interval
    heldout: float
    chance: float


@dataclass(frozen=True)
class HeldoutComparison:
    """Planted against held-out secrets by one signal: `guess`, which is nearer to it; `rank`, which has the lower loss.

    `low` bounds the chance that the planted one is ahead where they differ; `proven` is at the level `level`. By
    `whole`, wins and losses are the whole secrets and whole held-out secrets guessed, `low` bounds the share of whole
    secrets, and what is tested is whether so many could be luck.
    """

    signal: Signal
    wins: int
    losses: int
    ties: int
    p_value: float
    low: float
    level: float
    proven: bool


@dataclass(frozen=True)
class Group:
    """What one attack found among the canaries of one number of repetitions.

    `exact`: every guess is the best of all candidates. `methods`: how exposures were found.
    """

    attack: str
    repetitions: int
    canaries: int
    exact: bool
    methods: tuple[str, ...]
    measures: tuple[CanaryMeasure, ...]
    comparisons: tuple[HeldoutComparison, ...]


def measure_group(
    attack: str,
    canaries: Sequence[Canary],
    found: Sequence[Found],
    alphabets: Mapping[str, tuple[str, ...]],
    *,
    signals: Sequence[Signal],
    exact: bool,
    left: int,
    alpha: float,
    level: float,
) -> Group:
    """Return the measures of canaries of one number of repetitions, each interval at `alpha` on its own.

    The comparisons with the held-out secrets are each at `level`, the share of a family's error; `left` is the
    planting's `candidates_left`.
    """
    guessing = [chance([len(alphabets[name]) for name in Pattern.parse(c.template).places]) for c in canaries]
    return Group(
        attack=attack,
        repetitions=found[0].repetitions,
        canaries=len(found),
        exact=exact,
        methods=tuple(sorted({f.method for f in found if f.method is not None})),
        measures=measure(found, guessing, alpha=alpha),
        comparisons=compare_all(found, signals, left=left, level=level),
    )


def measure(found: Sequence[Found], guessing: Sequence[Chance], *, alpha: float) -> tuple[CanaryMeasure, ...]:
    """Return every measure that an attack gives of all these canaries, each interval at `alpha` on its own.

    `guessing` is what guessing without a model gives, for each canary.
    """
    measures: list[CanaryMeasure] = []
    interval = exposure_interval(found, alpha=alpha)
    if interval is not None:
        of_heldout = float(np.median([f.exposure_of_heldout or 0.0 for f in found]))
        measures.append(
            CanaryMeasure("exposure", interval, of_heldout, float(np.mean([g.median_exposure for g in guessing])))
        )
    if all(f.right is not None for f in found):
        lucky = [min(1.0, f.tries * each.success) for f, each in zip(found, guessing, strict=True)]
        measures.append(CanaryMeasure("success", *_success(found, alpha), float(np.mean(lucky))))
    if interval is not None:
        measures.append(_guesses(found, guessing, alpha))
    if all(f.right is not None for f in found):
        for name, (planted, heldout) in _symbols(found, alpha).items():
            measures.append(
                CanaryMeasure(name, planted, heldout, float(np.mean([getattr(each, name) for each in guessing])))
            )
    return tuple(measures)


def exposure_interval(found: Sequence[Found], *, alpha: float) -> Interval | None:
    """Return the median exposure with its interval, None of an attack that measures none.

    Where candidates were only sampled, the value is what the samples show, log2 of their size at most; the low end is
    of what they prove, and the high end all that the candidates allow.
    """
    bits = [f.exposure for f in found if f.exposure is not None]
    if len(bits) < len(found):
        return None
    most = max(f.most or 0.0 for f in found)
    if all(f.method == "exact" for f in found):
        return median_interval(bits, low=0.0, high=most, alpha=alpha)
    value = float(np.median(bits))
    low = _median_of_proven([f.at_least or 0.0 for f in found], lowest=0.0, highest=most, alpha=alpha)
    return Interval(value, min(low, value), max(most, value), alpha)


def _median_of_proven(values: Sequence[float], *, lowest: float, highest: float, alpha: float) -> float:
    """Return a lower bound on the median of what `values` [n] bound from below, each wrong once in 100,000.

    More than k of them are wrong with a chance of n / 100,000 / (k + 1) at most, however they depend on each other
    (Markov), and the k highest are left out of account: were none, hundreds of canaries would use up all of `alpha`.
    """
    wrong = len(values) * SAMPLE_ERROR
    k = int(2 * wrong / alpha)
    if k >= len(values):
        return lowest
    kept = np.append(np.sort(values)[: len(values) - k], np.full(k, lowest))
    return median_interval(kept, low=lowest, high=highest, alpha=alpha - wrong / (k + 1)).low


def compare_all(
    found: Sequence[Found], signals: Sequence[Signal], *, left: int, level: float
) -> tuple[HeldoutComparison, ...]:
    """Compare planted secrets with the held-out ones by each signal, each at `level`, the share of a family's error.

    `left` secrets are still possible for one canary once all others in the data are known.
    """
    return tuple(
        _whole(found, left, level) if signal == "whole" else _comparison(signal, compare(found, signal, alpha=level))
        for signal in signals
    )


def fewest_to_prove(tests: Sequence[HeldoutComparison], *, left: int, level: float) -> int:
    """Return the number of canaries below which none of these comparisons can prove anything, whatever is extracted."""
    by_whole = any(test.signal == "whole" for test in tests)
    return fewest_canaries(level, left=left if by_whole else None)


def _whole(found: Sequence[Found], left: int, level: float) -> HeldoutComparison:
    hits, heldout = whole_secrets(found)
    p_value = whole_secrets_p_value(hits, len(found), left // max(f.tries for f in found))
    low = float(clopper_pearson_low(hits, len(found), level))
    return HeldoutComparison("whole", hits, heldout, len(found) - hits - heldout, p_value, low, level, p_value <= level)


def compare(found: Sequence[Found], signal: Signal, *, alpha: float) -> SignTest:
    """Test planted secrets against the held-out ones by one signal, one-sided at `alpha`."""
    if signal == "guess":
        return compare_heldout(
            [-(f.right or 0) for f in found], [-(f.right_of_heldout or 0) for f in found], alpha=alpha
        )
    ahead = [float("nan") if f.ahead is None else f.ahead for f in found]  # NaN is refused there
    return compare_heldout(np.negative(ahead), np.zeros(len(found)), alpha=alpha)


def _success(found: Sequence[Found], alpha: float) -> tuple[Interval, float]:
    hits, heldout = whole_secrets(found)
    return share_interval(hits, len(found), alpha=alpha), heldout / len(found)


def _guesses(found: Sequence[Found], guessing: Sequence[Chance], alpha: float) -> CanaryMeasure:
    """Return the median number of guesses; where candidates were only sampled it is what the samples bound it by."""
    most = max(float(each.candidates) for each in guessing)
    planted = [f.guesses(f.exposure) for f in found]
    value, low, high = float(np.median(planted)), 1.0, most
    if all(f.method == "exact" for f in found):
        interval = median_interval(planted, low=1.0, high=most, alpha=alpha)
    else:
        fewer = [-f.guesses(f.at_least) for f in found]
        high = -_median_of_proven(fewer, lowest=-most, highest=-1.0, alpha=alpha)
        interval = Interval(value, min(low, value), max(high, value), alpha)
    of_heldout = float(np.median([f.guesses(f.exposure_of_heldout) for f in found]))
    return CanaryMeasure(
        "guesses", interval, of_heldout, float(np.mean([(each.candidates + 1) / 2 for each in guessing]))
    )


def _symbols(found: Sequence[Found], alpha: float) -> dict[Measured, tuple[Interval, float]]:
    places = np.array([f.places for f in found])
    right, heldout = np.array([f.right for f in found]), np.array([f.right_of_heldout for f in found])
    longest = int(places.max())
    return {
        "token_accuracy": (
            mean_interval(right / places, low=0.0, high=1.0, alpha=alpha),
            float((heldout / places).mean()),
        ),
        "hamming": (
            mean_interval((places - right).astype(float), low=0.0, high=float(longest), alpha=alpha),
            float((places - heldout).mean()),
        ),
    }


def _comparison(signal: Signal, test: SignTest) -> HeldoutComparison:
    return HeldoutComparison(
        signal, test.wins, test.losses, test.ties, test.p_value, test.low, level=test.alpha, proven=test.proven
    )
