"""Populations with a known AUC and ROC curve, and a loop that counts how often an interval misses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from redteam.statistics import Interval
from redteam.statistics.ranking import Ranking, rank

Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Population:
    """How members and non-members score, the true AUC, and the true ROC curve where it is known."""

    members: Draw
    nonmembers: Draw
    auc: float
    roc: Callable[[float], float] | None = None

    def sample(self, rng: np.random.Generator, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        scores = np.concatenate([self.members(rng, m), self.nonmembers(rng, n)])
        return scores, np.arange(m + n) < m


def _null(rng: np.random.Generator, k: int) -> np.ndarray:
    return rng.normal(0, 1, k)


def binormal(auc: float, spread: float = 1.0) -> Population:
    """Members N(shift, spread), non-members N(0, 1)."""
    shift = float(norm.ppf(auc)) * math.hypot(1, spread)
    return Population(
        lambda rng, k: rng.normal(shift, spread, k),
        _null,
        auc,
        lambda fpr: float(norm.sf((norm.isf(fpr) - shift) / spread)),
    )


def contaminated(share: float) -> Population:
    """A few members with huge scores, the rest like non-members: the typical membership inference."""
    return Population(
        lambda rng, k: _null(rng, k) + 100 * (rng.random(k) < share),
        _null,
        (1 + share) / 2,
        lambda fpr: share + (1 - share) * fpr,
    )


def fallen(share: float, auc: float) -> Population:
    """Members well above, but for a few below everybody: small samples look better than the population."""
    rest = binormal(auc)
    return Population(lambda rng, k: rest.members(rng, k) - 100 * (rng.random(k) < share), _null, (1 - share) * auc)


def risen(share: float) -> Population:
    """Non-members below all members, but for a few above everybody."""
    return Population(
        lambda rng, k: rng.normal(50, 1, k),
        lambda rng, k: _null(rng, k) + 100 * (rng.random(k) < share),
        1 - share,
    )


def levels(members: Sequence[float], nonmembers: Sequence[float]) -> Population:
    """A few levels from low to high, with these probabilities: heavy ties."""
    p, q = np.array(members), np.array(nonmembers)

    def roc(fpr: float) -> float:
        used = found = 0.0
        for more_p, more_q in zip(p[::-1], q[::-1], strict=True):
            if used + more_q > fpr:
                return found + more_p * (fpr - used) / more_q
            used, found = used + more_q, found + more_p
        return 1.0

    return Population(
        lambda rng, k: rng.choice(len(p), k, p=p).astype(float),
        lambda rng, k: rng.choice(len(q), k, p=q).astype(float),
        float(p @ (np.cumsum(q) - q / 2)),
        roc,
    )


def cliff(fpr: float, tpr: float) -> Population:
    """Most members just below the threshold of `fpr`: the worst case for an estimated threshold."""

    def members(rng: np.random.Generator, k: int) -> np.ndarray:
        return np.where(rng.random(k) < tpr, 2.0, 1 - fpr - 1e-9 * rng.random(k))

    def roc(at: float) -> float:
        return tpr if at <= fpr else 1.0

    return Population(members, lambda rng, k: rng.random(k), tpr + (1 - tpr) * (1 - fpr), roc)


def best_rate(roc: Callable[[float], float], fpr: float) -> float:
    """Return the TPR of the best of those who threshold, and accuse at random a part of what is above."""
    return max(roc(p) * fpr / p for p in [*np.geomspace(fpr, 1, 4000), fpr * (1 + 1e-9)])


def count_misses(
    population: Population,
    sizes: tuple[int, int],
    runs: int,
    interval: Callable[[Ranking, int], Interval],
    truth: float,
    seed: int = 0,
) -> tuple[int, int, int]:
    """Return how often the interval lies above the truth, below it, and how often there was one at all.

    Samples whose scores are all equal have no interval: the audit refuses them.
    """
    rng = np.random.default_rng(seed)
    above = below = made = 0
    for run in range(runs):
        scores, is_member = population.sample(rng, *sizes)
        if np.ptp(scores) == 0:
            continue
        made += 1
        found = interval(rank(scores, is_member), run)
        above += found.low > truth + 1e-12
        below += found.high < truth - 1e-12
    return above, below, made


def allowed(alpha: float, runs: int) -> float:
    """Misses that an interval of error alpha may show: the mean and three standard errors."""
    return alpha * runs + 3 * math.sqrt(alpha * (1 - alpha) * runs)
