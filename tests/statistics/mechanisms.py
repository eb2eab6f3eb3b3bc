"""Mechanisms whose epsilon is known, run once on random inclusion, and a loop that counts bounds above the truth."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redteam.statistics.epsilon import EpsilonBound, gdp_epsilon

Release = Callable[[np.random.Generator, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Mechanism:
    """What one run says about each canary, and the (epsilon, delta) that it satisfies exactly."""

    release: Release
    epsilon: float
    delta: float = 0.0


def randomised_response(epsilon: float, delta: float = 0.0) -> Mechanism:
    """Each bit flipped with probability 1 / (1 + e^epsilon), and told for certain with probability delta."""

    def release(rng, included):
        flipped = rng.random(len(included)) < 1 / (1 + math.exp(epsilon))
        told = rng.random(len(included)) < delta
        return np.where(told, 2.0, 1.0) * (2.0 * (included ^ (flipped & ~told)) - 1.0)

    return Mechanism(release, epsilon, delta)


def gaussian(mu: float, delta: float) -> Mechanism:
    return Mechanism(
        lambda rng, included: mu * included + rng.normal(0, 1, len(included)), gdp_epsilon(mu, delta=delta), delta
    )


def all_or_nothing(delta: float, epsilon: float = 0.0) -> Mechanism:
    """With probability delta every inclusion at once is told, else randomised response."""

    def release(rng, included):
        if rng.random() < delta:
            return 10.0 * included
        return randomised_response(epsilon).release(rng, included)

    return Mechanism(release, epsilon, delta)


def name_and_shame(m: int, shamed: int = 1) -> Mechanism:
    """The inclusion of a few canaries chosen at random are told, nothing of the others."""

    def release(rng, included):
        scores = np.zeros(len(included))
        named = rng.choice(len(included), shamed, replace=False)
        scores[named] = 2.0 * included[named] - 1.0
        return scores

    return Mechanism(release, 0.0, shamed / m)


def chain(epsilon: float) -> Mechanism:
    """Randomised response on each inclusion XOR the next: each takes part twice, half of epsilon each time.

    The attacker reads off the chain from a guess of its first: right everywhere or wrong everywhere.
    """

    def release(rng, included):
        links = np.append(included[:-1] ^ included[1:], False)
        flipped = rng.random(len(included)) < 1 / (1 + math.exp(epsilon / 2))
        told = np.concatenate([[rng.random() < 0.5], links ^ flipped])[:-1]
        return np.logical_xor.accumulate(told).astype(float)

    return Mechanism(release, epsilon)


def count_wrong(
    mechanism: Mechanism,
    bound: Callable[[np.ndarray, np.ndarray], EpsilonBound],
    *,
    m: int,
    runs: int,
    truth: float | None = None,
    fair: float = 0.5,
    seed: int = 0,
) -> int:
    """Return in how many of `runs` the bound is above the mechanism's epsilon (or `truth`)."""
    rng, wrong = np.random.default_rng([seed, m, runs]), 0
    for _ in range(runs):
        included = rng.random(m) < fair
        scores = mechanism.release(rng, included)
        found = bound(scores[included], scores[~included])
        assert 0 <= found.low <= found.attainable < math.inf
        wrong += found.low > (mechanism.epsilon if truth is None else truth)
    return wrong


def allowed(alpha: float, runs: int) -> float:
    """Return how many wrong bounds three standard errors allow."""
    return alpha * runs + 3 * math.sqrt(alpha * (1 - alpha) * runs)
