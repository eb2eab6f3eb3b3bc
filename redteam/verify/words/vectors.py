"""The verification of a privatiser of whole texts: what its clipping and its noise do to vectors that are made up.

Where texts come out of a noisy vector by a decoder that is public, all of its privacy is in the vector. Vectors that
are far beyond any clipping point in opposite directions: along one coordinate, all, half of them, and at random. Norms
differ most there, so that noise for another norm than the one that is clipped shows at once.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from redteam import __version__
from redteam.core import TargetError
from redteam.core.arrays import FloatArray
from redteam.core.progress import unwatched
from redteam.core.randomness import Randomness
from redteam.plugins.latent import VectorMechanism
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.verify.words.bounds import PairBound
from redteam.verify.words.run import PrivatiserVerification, Verdict

_FAR, _CUTS, _SAME = 1e3, 200, 40
_ROUNDING = 1e-6


def verify_vectors(
    mechanism: VectorMechanism,
    *,
    draws: int = 10_000,
    alpha: float = 0.01,
    seed: int = 0,
    progress: Callable[[int, int], None] = unwatched,
) -> PrivatiserVerification:
    """Return the verdict on a privatiser of whole texts from `draws` of each vector; `seed` chooses random directions.

    An honest one is called violated at most `alpha` of the time.
    """
    directions = _directions(mechanism.size, np.random.default_rng(seed))
    found: list[PairBound] = []
    proven = list(_without_randomness(mechanism))
    accounted: dict[str, float | None] = {}
    progress(0, len(directions))
    for what, direction in directions.items():
        both = np.stack([direction, -direction]) * _FAR
        centres = _numbers(mechanism, mechanism.clipped(both), 2)
        accounted[what] = _number(mechanism, mechanism.accounted(*centres))
        first, second = (
            _numbers(mechanism, mechanism.perturbed(np.tile(row, (draws, 1)), Randomness()), draws) for row in both
        )
        found.append(_bound(first, second, centres, what, mechanism.claimed_delta, alpha / len(directions)))
        progress(len(found), len(directions))
    known = {what: epsilon for what, epsilon in accounted.items() if epsilon is not None}
    proven += _over(mechanism, known, found)
    verdict, reason = _decided(mechanism, proven, known, found)
    most = max(known.values(), default=None)
    finite = None if most is None or np.isinf(most) else most
    return PrivatiserVerification(
        subject=f"{mechanism.id} {mechanism.name}",
        verdict=verdict,
        reason=reason,
        claimed=mechanism.epsilon,
        accounted=finite,
        accounted_plain=finite,
        infinite=most is not None and finite is None,
        pairs=tuple(found),
        findings=tuple(proven) or ("no two of these vectors show more than is claimed",),
        words=0,
        asked=2 * len(directions),
        draws=draws,
        alpha=alpha,
        seed=seed,
        tool_version=__version__,
        unit="text",
        delta=mechanism.claimed_delta,
    )


def _numbers(mechanism: VectorMechanism, found: FloatArray, count: int) -> FloatArray:
    """Return what a mechanism makes of vectors; TargetError where these are no vectors."""
    made = np.asarray(found, np.float64)
    if made.shape != (count, mechanism.size) or not np.isfinite(made).all():
        raise TargetError(
            f"{mechanism.name}: does not make {count} x {mechanism.size} finite numbers of as many vectors"
        )
    return made


def _number(mechanism: VectorMechanism, accounted: float | None) -> float | None:
    if accounted is not None and not accounted >= 0:
        raise TargetError(f"{mechanism.name}: accounts for epsilon {accounted:g}, which is none")
    return accounted


def _directions(size: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    half = np.zeros(size)
    half[: size // 2] = 1.0
    return {
        "one coordinate": np.eye(size)[0],
        "all coordinates": np.ones(size),
        "half of the coordinates": half,
        "random signs": rng.choice([-1.0, 1.0], size),
        "a random direction": rng.normal(size=size),
    }


def _without_randomness(mechanism: VectorMechanism) -> Iterator[str]:
    vector = np.zeros((_SAME, mechanism.size))
    first, again = (mechanism.perturbed(vector, Randomness()) for _ in range(2))
    if np.array_equal(first, again):
        yield "two runs from scratch give the same noise, or none: whoever has the code can subtract it"


def _over(mechanism: VectorMechanism, known: dict[str, float], found: list[PairBound]) -> Iterator[str]:
    most = max(known, key=lambda what: known[what], default=None)
    if most is not None and known[most] > mechanism.epsilon * (1 + _ROUNDING):
        yield (
            f"its clipping and noise account for epsilon {known[most]:.4g} (vectors that differ in {most}), "
            f"{known[most] / mechanism.epsilon:.3g} times the {mechanism.epsilon:g} that it claims"
        )
    best = max(found, key=lambda each: each.low)
    if best.low > mechanism.epsilon:
        yield f"draws show epsilon {best.low:.4g} or more ({best.words[0]}), and it claims {mechanism.epsilon:g}"


def _decided(
    mechanism: VectorMechanism, proven: list[str], known: dict[str, float], found: list[PairBound]
) -> tuple[Verdict, str]:
    if proven:
        return "violated", proven[0]
    if known:
        most = max(known.values())
        said = f"its clipping and noise account for epsilon {most:.4g}, and claim {mechanism.epsilon:g}"
        return "consistent", said
    attainable = max(each.attainable for each in found)
    if not attainable > mechanism.epsilon:
        said = f"claims epsilon {mechanism.epsilon:g}, and so many draws could show {attainable:.3g} at most"
        return "inconclusive", f"{said}: give more --draws, or verify it at a smaller epsilon"
    best = max(each.low for each in found)
    return "consistent", f"draws show no more than it claims: {best:.3g} of {mechanism.epsilon:g}"


def _bound(
    first: FloatArray, second: FloatArray, centres: FloatArray, what: str, delta: float, alpha: float
) -> PairBound:
    """Return a bound on epsilon from what the noisy vectors say of which one was there, learned on a third of them."""
    few = len(first) // 3  # to choose by, which takes fewer than to bound
    rest = len(first) - few
    best, chosen = -np.inf, (np.zeros(rest), np.zeros(rest), 0.0)
    for score in _scores(first[:few], second[:few], centres):
        seen, other = np.sort(score(first[:few])), np.sort(score(second[:few]))
        cuts = np.quantile(np.concatenate([seen, other]), np.linspace(0.002, 0.998, _CUTS))
        ours, others = (few - np.searchsorted(each, cuts, side="left") for each in (seen, other))
        guessed = np.maximum(clopper_pearson_low(ours * rest // few, rest, alpha / 2) - delta, 1e-300)
        shown = np.log(guessed) - np.log(clopper_pearson_high(others * rest // few, rest, alpha / 2))
        if shown.max() > best:
            best = float(shown.max())
            chosen = score(first[few:]), score(second[few:]), float(cuts[shown.argmax()])
    here, there = (int((each >= chosen[2]).sum()) for each in chosen[:2])
    low = float(clopper_pearson_low(here, rest, alpha / 2)) - delta
    high = float(clopper_pearson_high(there, rest, alpha / 2))
    most = float(np.log(clopper_pearson_low(rest, rest, alpha / 2)) - np.log(clopper_pearson_high(0, rest, alpha / 2)))
    found = float(np.log(low / high)) if low > 0 else 0.0
    return PairBound((what, f"minus {what}"), 1.0, max(0.0, found), max(0.0, most), 1)


def _scores(first: FloatArray, second: FloatArray, centres: FloatArray) -> Iterator[Callable[[FloatArray], FloatArray]]:
    """Yield statistics that are best for Laplace and for Gaussian noise around centres as clipped, and as drawn."""
    for ends in (centres, np.stack([np.median(first, axis=0), np.median(second, axis=0)])):
        yield partial(_nearer, ends)
        yield partial(_along, ends)


def _nearer(ends: FloatArray, z: FloatArray) -> FloatArray:
    made: FloatArray = np.abs(z - ends[1]).sum(axis=1) - np.abs(z - ends[0]).sum(axis=1)
    return made


def _along(ends: FloatArray, z: FloatArray) -> FloatArray:
    made: FloatArray = z @ (ends[0] - ends[1])
    return made
