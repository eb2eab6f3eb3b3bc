"""Epsilon by the noise that is ruled out: steps of the Gaussian mechanism on Poisson samples (Balle, Barthe, Gaboardi
2018, arXiv 1807.01647, for one step; Koskela et al. 2020, arXiv 1906.03049, for many by Fourier transform).

A canary's place in the sum of one step is N(0, s^2) without it and (1 - q) N(0, s^2) + q N(1, s^2) with it, s being the
noise multiplier and q the sampling rate. Whatever a test does with T such steps, its rates satisfy

    TPR <= e^a FPR + d(a) for every real a,    d(a) = E[(1 - e^(a - L))_+],

L being the sum of the T losses of a canary that is in. A multiplier s is ruled out where the measured TPR is above what
the least of these allows, and with it all larger ones; epsilon is that of the smallest one ruled out.

Each rounding is on the side of the trainer. For what a test can find, losses are rounded up to a grid; for epsilon they
are rounded down; what lies beyond the grid, what the transform wraps round, and what it loses to rounding is added to
d(a) there and taken off here.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, special

from redteam.core import StatisticsError
from redteam.statistics import require_rate
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.epsilon.bound import EpsilonBound, require_counts, require_delta
from redteam.statistics.ranking import Floats

SUBSAMPLED = (
    "each step is the Gaussian mechanism on a Poisson sample, with the sampling rate and the number of steps that the "
    "training names; and the scores are independent of each other, given who was a member"
)
_REACH = 9.0  # standard deviations of the noise on the grid; beyond lies less than 2e-19
_BEYOND = 1e-12  # of the composed losses, at most, beyond either end of the grid
_ROUNDING = 1e-11  # of a probability, lost by the transforms; 1e-13 was the most ever seen
_CELLS = 1 << 15, 1 << 21  # of the composed loss: at least, at most
MOST_STEPS = 1 << 18
_SHIFT = 0.008  # of the standard deviation of the composed loss that rounding all steps may add
_ORDERS = np.geomspace(1e-3, 300.0, 60)  # of the moments that bound the tails, by so many points of the noise
_POINTS = 1001
_LEAST, _MOST_STARTS = 0.05, 20.0  # noise multipliers looked at: at least, and at most over q sqrt(T)
_RATIO = 1.002  # between the multiplier that is ruled out and one that is not
_QUIET = 1e-3  # of the loss of a step; below it all steps say nothing that a test could find


@dataclass(frozen=True)
class Sampled:
    """How a training samples: each of `steps` takes every example independently with probability `rate`."""

    rate: float
    steps: int

    def __post_init__(self) -> None:
        """Raise StatisticsError for a rate outside of (0, 1] or no step."""
        if not 0.0 < self.rate <= 1.0:
            raise StatisticsError(f"sampling rate is {self.rate}; it must lie above 0, and 1 at most")
        if not (1 <= self.steps <= MOST_STEPS and self.steps == int(self.steps)):
            raise StatisticsError(f"number of steps is {self.steps}; give a whole number, 1 to {MOST_STEPS:,}")


def subsampled_from_counts(
    tp: int, n_in: int, fp: int, n_out: int, *, sampled: Sampled, delta: float, alpha: float
) -> EpsilonBound:
    """Return the epsilon, at `delta` > 0, of the least noise that the counts of a rule fixed in advance rule out.

    `tp` of `n_in` canaries that were in were found, and `fp` of `n_out` others; the largest attainable bound is that of
    the same rule where it finds all that were in. Wrong at most `alpha` of the time where its assumption holds, and
    then also for a test by a threshold at a fixed rank of the others. Raises StatisticsError where a part is larger
    than its whole, or delta or alpha out of range.

    >>> bound = subsampled_from_counts(900, 1000, 100, 1000, sampled=Sampled(0.1, 100), delta=1e-5, alpha=0.05)
    >>> round(bound.low, 1)
    21.9
    """
    require_counts("members found", tp, n_in)
    require_counts("non-members found", fp, n_out)
    require_delta(delta, positive=True)
    require_rate("alpha", alpha)
    fpr = float(clopper_pearson_high(fp, n_out, alpha / 2))
    low, most = (_epsilon(float(clopper_pearson_low(k, n_in, alpha / 2)), fpr, sampled, delta) for k in (tp, n_in))
    return EpsilonBound(low, max(low, most), "subsampled", SUBSAMPLED)


def most_found(noise_multiplier: float, fpr: float, sampled: Sampled) -> float:
    """Return an upper bound on the TPR of every test of one example, at most 1, at an FPR, of so much noise."""
    losses, masses, beyond = _composed(noise_multiplier, sampled, up=True)
    # Above a loss a, all masses and all masses times e^-loss, from the top down: d(a) = above - e^a weighed.
    above = np.cumsum(masses[::-1])[::-1]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        weighed = np.cumsum((masses * np.exp(-losses))[::-1])[::-1]
        allowed = np.exp(losses) * (fpr - weighed) + above
    allowed = allowed[np.isfinite(allowed) & (losses > -600.0)]
    return min(1.0, float(allowed.min(initial=1.0)) + beyond)


def least_epsilon(noise_multiplier: float, sampled: Sampled, *, delta: float) -> float:
    """Return a lower bound on the epsilon at `delta` of training with so much noise, 0 where delta covers it."""
    losses, masses, beyond = _composed(noise_multiplier, sampled, up=False)
    found, low, high = delta + beyond, 0.0, float(losses[-1])

    def spent(epsilon: float) -> float:
        above = losses > epsilon
        return float(-np.expm1(epsilon - losses[above]) @ masses[above])

    if not spent(0.0) > found:
        return 0.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > found else (low, middle)
    return low


@lru_cache(maxsize=256)
def _epsilon(tpr: float, fpr: float, sampled: Sampled, delta: float) -> float:
    """Return the epsilon of the least noise multiplier under which no test has these rates; 0 where all may have."""
    high = _MOST_STARTS * max(1.0, sampled.rate * math.sqrt(sampled.steps))
    if not (tpr > fpr and most_found(high, fpr, sampled) < tpr):
        return 0.0
    low = high / 3
    while low > _LEAST and most_found(low, fpr, sampled) < tpr:
        low, high = low / 3, low
    while low > _LEAST and high > _RATIO * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if most_found(middle, fpr, sampled) < tpr else (middle, high)
    return least_epsilon(high, sampled, delta=delta)


def _composed(noise: float, sampled: Sampled, *, up: bool) -> tuple[Floats, Floats, float]:
    """Return a grid of composed losses, ascending, the probability of each for an example that is in, and of the rest.

    The losses of steps are rounded `up`, or down; then what is beyond the grid counts as nothing.
    """
    x = np.linspace(-_REACH * noise, 1 + _REACH * noise, _POINTS)
    loss, density = _loss(x, noise, sampled.rate), _density(x, noise, sampled.rate)
    low, high, spread = _ends(loss, density, sampled.steps)
    wanted = (high - low) * sampled.steps / (2 * _SHIFT * max(spread, _QUIET))
    cells = int(min(max(2 ** math.ceil(math.log2(max(wanted, 4.0 * sampled.steps))), _CELLS[0]), _CELLS[1]))
    width = (high - low) / (cells - 2 * sampled.steps)  # rounding moves a sum by as many cells as there are steps
    masses, first, gone = _one_step(noise, sampled.rate, width, up=up)
    # The k-th cell of the sum of T steps is at (T first + k) width, and the grid is a window of it, wrapped round.
    start = math.floor(low / width) - (0 if up else sampled.steps)
    folded = np.pad(masses, (0, -len(masses) % cells)).reshape(-1, cells).sum(axis=0)
    summed = np.maximum(fft.irfft(fft.rfft(folded) ** sampled.steps, cells), 0.0)
    summed = np.roll(summed, sampled.steps * first - start)
    losses = np.asarray((start + np.arange(cells)) * width, dtype=np.float64)
    lost = abs(float(summed.sum()) - 1.0) + sampled.steps * gone
    return losses, summed, min(1.0, lost + 2 * _BEYOND + _ROUNDING)


def _one_step(noise: float, rate: float, width: float, *, up: bool) -> tuple[Floats, int, float]:
    """Return the probabilities of the losses (first + k) width of one step, rounded, `first`, and that of the rest."""
    ends = _loss(np.array([-_REACH * noise, 1 + _REACH * noise]), noise, rate)
    first, last = math.floor(ends[0] / width), math.ceil(ends[1] / width)
    edges = np.arange(first, last + 1) * width
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = (np.expm1(edges) + rate) / rate  # e^((x - 1/2) / s^2)
        x = np.where(inner > 0, 0.5 + noise**2 * np.log(np.maximum(inner, 1e-300)), -np.inf)
    x[-1] = np.inf if not up else x[-1]  # rounded down, the rest is no more than the largest loss
    below, above = _below(x, noise, rate), _below(x, noise, rate, turned=True)
    # Differences of the smaller tail, or all would be rounding far out.
    masses = np.where(x[1:] <= 0.5, np.diff(below), -np.diff(above))
    masses[0] += below[0]
    return np.maximum(masses, 0.0), first + (1 if up else 0), float(above[-1])


def _ends(loss: Floats, density: Floats, steps: int) -> tuple[float, float, float]:
    """Return between which sums of `steps` losses nearly all lie, by Chernoff's bound, and their standard deviation."""
    limit, orders = math.log(_BEYOND), _ORDERS[:, None]
    mean = float(density @ loss)
    spread = math.sqrt(steps * float(density @ (loss - mean) ** 2))
    with np.errstate(divide="ignore"):
        logs = np.log(density)
    up = special.logsumexp(logs + orders * (loss - mean), axis=1) * steps
    down = special.logsumexp(logs - orders * (loss - mean), axis=1) * steps
    high = float(((up - limit) / _ORDERS).min())
    low = float(((down - limit) / _ORDERS).min())
    # A little more than the moments say, which are of a coarser grid, and for the rounding of each step.
    return steps * mean - 1.05 * low - 1e-6, steps * mean + 1.05 * high + 1e-6, spread


def _loss(x: Floats, noise: float, rate: float) -> Floats:
    ratio = (x - 0.5) / noise**2
    if rate == 1.0:
        return ratio
    return np.logaddexp(math.log1p(-rate), math.log(rate) + ratio)


def _density(x: Floats, noise: float, rate: float) -> Floats:
    """Return probabilities of the points x, even apart, for an example that is in."""
    out = np.exp(-(x**2) / (2 * noise**2))
    inside = np.exp(-((x - 1) ** 2) / (2 * noise**2))
    mass = (1 - rate) * out + rate * inside
    found: Floats = mass / mass.sum()
    return found


def _below(x: Floats, noise: float, rate: float, *, turned: bool = False) -> Floats:
    """Return the probability of a place below x, or above it where `turned`, for an example that is in."""
    sign = -1.0 if turned else 1.0
    out, inside = special.ndtr(sign * x / noise), special.ndtr(sign * (x - 1) / noise)
    found: Floats = (1 - rate) * out + rate * inside
    return found
