"""What private training spends: epsilon at a delta from what was really done, and the noise that an epsilon needs.

A `Release` is one training run as it was, in `Phase`s of equal noise; all of it is composed event by event, and the
smallest of several upper bounds is taken (`defenses.privacy_loss`). `spent` goes from runs to epsilon, `calibrate` from
epsilon to noise.

Sampling says which bound holds, and between which neighbours.

- "poisson": each example enters each step independently with probability `sample_rate`; a step is a Poisson-subsampled
  Gaussian, between data sets that differ by one example added or removed.
- "shuffled", "fixed": each example is in one step of each pass and nothing is amplified, between data sets that differ
  by one example replaced by a null one, which has no gradient (zero-out; Chua et al. 2024, arXiv 2403.17673). Fix the
  order of all passes: then the example is in one step of each pass and moves its sum by at most the sensitivity, so
  that E passes are E adaptively composed Gaussians, which is one of mu^2 = sum_e 1 / sigma_e^2 (Dong, Roth, Su 2019,
  arXiv 1905.02383). A random order is a mixture of such runs, with the same weights on both sides because both data
  sets have the same number of places; the hockey-stick divergence is jointly convex, so that of the mixture is at most
  the largest of its parts. No order spends more than a pass whose least noise fell on the example: sigma_e is that.
  Poisson's epsilon never stands for shuffled batches: one pass of 10,000 steps at sigma 0.5 and delta 1e-6 spends 1.95
  by Poisson's reckoning, 10.99 at least in truth, and 11.00 here.

A noise multiplier is always the effective one: noise over the L2 sensitivity of one step's sum. What one example can
move must not depend on the others: micro-batches that are cut from a sorted or a packed batch do not qualify.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from defenses.privacy_loss import Event, epsilon_by_rdp, smallest_epsilon
from redteam.core import UsageError
from redteam.report.values import Budget, Guarantee

Sampling = Literal["poisson", "shuffled", "fixed"]
Unit = Literal["example", "client"]

_ADD_OR_REMOVE, _ZERO_OUT = "add or remove one", "replace one by a null example"
_NEIGHBOURS: dict[str, str] = {"poisson": _ADD_OR_REMOVE, "shuffled": _ZERO_OUT, "fixed": _ZERO_OUT}
_LEAST_NOISE, _MOST_NOISE, _TOLERANCE = 1e-2, 1e6, 8e-4  # where `calibrate` looks, and how near it comes


@dataclass(frozen=True)
class Phase:
    """Consecutive steps with the same noise: its standard deviation over the L2 sensitivity of one step's sum."""

    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < math.inf:
            raise UsageError(f"noise multiplier is {self.noise_multiplier}: give a number that is not negative")
        if not (isinstance(self.steps, int) and self.steps >= 0):
            raise UsageError(f"number of steps is {self.steps}: give a whole number that is not negative")


@dataclass(frozen=True)
class Release:
    """One training run as it was really done: its phases in order, and how its steps chose examples.

    `sample_rate` is an example's chance to be in a step ("poisson"), else 1 / (steps of one pass). Batch size over
    data size does as well: then the bound holds with and without a last, smaller batch.
    """

    phases: tuple[Phase, ...]
    sampling: Sampling
    sample_rate: float

    def __post_init__(self) -> None:
        if self.sampling not in _NEIGHBOURS:
            raise UsageError(f"sampling is {self.sampling!r}: give one of {', '.join(_NEIGHBOURS)}")
        if not 0 < self.sample_rate <= 1:
            raise UsageError(f"sampling rate is {self.sample_rate}: give one above 0, and 1 at most")

    @property
    def steps(self) -> int:
        """The number of steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def passes(self) -> int:
        """How often an example can have taken part where sampling is not Poisson's: a begun pass counts whole."""
        shortest, _ = _steps_of_a_pass(self.sample_rate)
        return -(-self.steps // shortest)


def effective_multiplier(noise_stds: Sequence[float], clips: Sequence[float], *, micro_batches: bool) -> float:
    """Return the noise multiplier of a step that clips and noises layer by layer: 1 / (c sqrt(sum_l (C_l / s_l)^2)).

    `noise_stds` are the standard deviations s_l of the noise on the sum over a batch, `clips` the norms C_l that its
    parts are clipped to: one of each a layer, or one in all for flat clipping. Where the parts are means over
    micro-batches, one example moves a vector of norm C_l to any other such, 2 C_l away, and c = 2 (Ponomareva et al.
    2023, arXiv 2303.00654, section 5.6); else c = 1. Raises UsageError for a clip that is not positive.
    """
    if not clips or len(noise_stds) != len(clips):
        raise UsageError(f"{len(noise_stds)} noise scales for {len(clips)} clipping norms: give one of each a layer")
    for std, clip in zip(noise_stds, clips, strict=True):
        if not 0 < clip < math.inf:
            raise UsageError(f"clipping norm is {clip}: give a positive number")
        if not 0 <= std < math.inf:
            raise UsageError(f"standard deviation of the noise is {std}: give a number that is not negative")
    sensitivity = math.hypot(*(clip * _inverse(std) for std, clip in zip(noise_stds, clips, strict=True)))
    return _inverse((2 if micro_batches else 1) * sensitivity)


def nominal_and_accounted(
    *,
    noise_multiplier: float,
    decay: Sequence[tuple[float, int]],
    noise_scales: Sequence[float],
    clips: Sequence[float],
    micro_batches: bool,
    sampling: Sampling,
    sample_rate: float,
) -> tuple[Release, Release]:
    """Return a mechanism as its nominal noise reads, and as it is, the two that `guarantee` sets side by side.

    Step by step, `decay` holds (share of the nominal noise, steps). At nominal noise 1, layer l has noise of standard
    deviation `noise_scales[l]` on parts clipped to `clips[l]`: the same numbers where each layer has its own noise,
    sqrt(sum_l C_l^2) for all where the noise is for the joint vector.
    """
    unit = effective_multiplier(noise_scales, clips, micro_batches=micro_batches)
    nominal = Phase(noise_multiplier, sum(steps for _, steps in decay))
    phases = tuple(Phase(noise_multiplier * share * unit, steps) for share, steps in decay)
    return Release((nominal,), sampling, sample_rate), Release(phases, sampling, sample_rate)


def spent(releases: Sequence[Release], *, delta: float) -> float:
    """Return the epsilon at `delta` of all releases together, by the tightest accounting; infinity without noise.

    >>> training = Release((Phase(1.0, 1000),), "poisson", 0.01)  # noise multiplier 1, 1,000 steps at rate 0.01
    >>> round(spent([training], delta=1e-5), 2)
    1.83
    """
    return smallest_epsilon(_events(releases), _checked(delta))[0]


def spent_rdp(releases: Sequence[Release], *, delta: float) -> float:
    """Return the epsilon by Rényi differential privacy (Mironov 2017), mostly looser: the cross-check of `spent`."""
    return epsilon_by_rdp(_events(releases), _checked(delta))


def calibrate(*, epsilon: float, delta: float, release_of: Callable[[float], Release]) -> float:
    """Return the smallest noise multiplier, to 0.1 %, for which the release spends at most `epsilon` at `delta`.

    `release_of(sigma)` is the training at nominal noise `sigma`; it must spend less the larger sigma is. Raises
    UsageError where no noise is enough, and says what would do.
    """
    from scipy.optimize import brentq

    if not 0 < epsilon < math.inf:
        raise UsageError(f"epsilon is {epsilon}: give a positive number")
    _checked(delta)

    def excess(log_sigma: float, *, near: float | None = epsilon) -> float:
        events = _events([release_of(math.exp(log_sigma))])
        return math.log(min(max(smallest_epsilon(events, delta, near)[0] / epsilon, 1e-9), 1e9))

    low, high = _bracket(excess, epsilon, delta)
    best = float(brentq(excess, low, high, xtol=1e-4)) if low < high else high
    slope = min(-0.1, (excess(best + 0.05) - excess(best)) / 0.05)
    for _ in range(8):  # from the rough answer to the exact one, in steps of Newton
        over = excess(best, near=None)
        if slope * _TOLERANCE <= over <= 0 or (best <= math.log(_LEAST_NOISE) and over <= 0):
            break
        best -= (over - slope * _TOLERANCE / 2) / slope
    while excess(best, near=None) > 0:
        best += _TOLERANCE
    return math.exp(best)


def budget(releases: Sequence[Release], *, delta: float, unit: Unit = "example") -> Budget | None:
    """Return what the releases spent together, as a report shows it; None where epsilon is infinite."""
    epsilon, accountant = smallest_epsilon(_events(releases), _checked(delta))
    if not epsilon < math.inf:
        return None
    # A null example in a Poisson sample adds as little to the sum as one that is not there: together with batches of
    # another kind, zero-out is the neighbour that holds for both.
    zero_out = any(_NEIGHBOURS[release.sampling] == _ZERO_OUT for release in releases)
    return Budget(
        epsilon, delta, unit, _ZERO_OUT if zero_out else _ADD_OR_REMOVE, f"{accountant}, {_described(releases)}"
    )


def guarantee(
    *, nominal: Sequence[Release], accounted: Sequence[Release], delta: float, unit: Unit = "example"
) -> Guarantee | None:
    """Return the nominal and the accounted guarantee; None where either has no finite epsilon."""
    reads, spends = budget(nominal, delta=delta, unit=unit), budget(accounted, delta=delta, unit=unit)
    return None if reads is None or spends is None else Guarantee(reads, spends)


def warnings_about(
    releases: Sequence[Release], *, delta: float, population: int, realised: int | None = None, runs: int | None = None
) -> tuple[str, ...]:
    """Return what a reader of the guarantee must know, one short sentence each.

    `population` is the public number of examples, `realised` the number there were, `runs` the number of trainings on
    this data that the settings were chosen from, this one included (None: not declared).
    """
    found = []
    if not delta * population < 1:
        found.append(f"delta {delta:g} is not below 1 / {population:,} examples: publishing one whole would satisfy it")
    if runs is None:
        found.append("runs not declared: settings chosen by comparing trainings on this data cost privacy of their own")
    elif runs > len(releases):
        found.append(f"{runs:,} runs declared, {len(releases):,} accounted for: the others cost privacy too")
    if realised is not None and realised != population:
        found.append(f"{realised:,} examples, but {population:,} is the public number: rate and divisor follow that")
    if any(release.sampling != "poisson" for release in releases):
        found.append("batches were not sampled by Poisson: accounted without amplification")
    return tuple(found)


def _checked(delta: float) -> float:
    if not 0 < delta < 1:
        raise UsageError(f"delta is {delta}: give one above 0 and below 1, best well below 1 / examples")
    return delta


def _inverse(value: float) -> float:
    return 1 / value if value > 1e-300 else math.inf


def _events(releases: Sequence[Release]) -> tuple[Event, ...]:
    """Return what is to be composed: subsampled steps by rate and noise, and all plain ones as a single Gaussian."""
    sampled: Counter[tuple[float, float]] = Counter()
    plain: list[float] = []  # the mu of each, which add in squares
    for release in releases:
        if release.sampling != "poisson":
            plain += (_inverse(noise) for noise in _least_noise_of_passes(release))
            continue
        for phase in release.phases:
            if phase.steps and release.sample_rate < 1:
                sampled[release.sample_rate, phase.noise_multiplier] += phase.steps
            elif phase.steps:
                plain.append(math.sqrt(phase.steps) * _inverse(phase.noise_multiplier))
    events = [Event(rate, noise, steps) for (rate, noise), steps in sorted(sampled.items())]
    mu = math.hypot(*plain)
    return (*events, Event(1.0, 1 / mu, 1)) if mu > 0 else tuple(events)


def _least_noise_of_passes(release: Release) -> Iterator[float]:
    """Yield the smallest noise multiplier of each pass, over all the steps that can belong to it."""
    phases = [phase for phase in release.phases if phase.steps]
    shortest, longest = _steps_of_a_pass(release.sample_rate)
    first, begin = 0, 0  # the phase that a pass begins in, and the step that this phase begins with
    for index in range(release.passes):
        while begin + phases[first].steps <= index * shortest:
            begin += phases[first].steps
            first += 1
        last, end = first, begin + phases[first].steps
        while end < (index + 1) * longest and last + 1 < len(phases):
            last += 1
            end += phases[last].steps
        yield min(phase.noise_multiplier for phase in phases[first : last + 1])


def _steps_of_a_pass(rate: float) -> tuple[int, int]:
    """Return the steps of a pass without and with a last, smaller batch: equal where the rate is 1 / a whole number."""
    whole = round(1 / rate)
    if 1 / whole == rate:  # the very float that 1 / whole is, so that no rounding can take a step away
        return whole, whole
    exact = 1 / Fraction(rate)
    return math.floor(exact), math.ceil(exact)


def _bracket(excess: Callable[[float], float], epsilon: float, delta: float) -> tuple[float, float]:
    """Return log noise multipliers of which the first spends more than asked for and the second does not."""
    least, most = math.log(_LEAST_NOISE), math.log(_MOST_NOISE)
    low = high = 0.0
    while (over := excess(high)) > 0:
        if high >= most:
            raise UsageError(
                f"epsilon {epsilon:g} at delta {delta:g} is out of reach, whatever the noise: take fewer steps, "
                "a smaller batch, a larger delta, or a noise decay that stays above zero"
            )
        low, high = high, min(high + min(max(over, 0.7), 3.0), most)
    if low < high:
        return low, high
    while (over := excess(low)) <= 0:
        if low <= least:
            return least, least
        low, high = max(low + min(max(over, -1.0), -0.3), least), low
    return low, high


def _described(releases: Sequence[Release]) -> str:
    kinds = {_one_described(release): None for release in releases if release.steps}
    what = "several trainings" if len(kinds) > 1 else next(iter(kinds), "no steps")
    return what + (f", {len(releases):,} runs" if len(releases) > 1 else "")


def _one_described(release: Release) -> str:
    noises = [phase.noise_multiplier for phase in release.phases if phase.steps]
    noise = f"{noises[0]:.3g}" if min(noises) == max(noises) else f"{min(noises):.3g} to {max(noises):.3g}"
    if release.sampling == "poisson":
        return f"Poisson sampling at rate {release.sample_rate:.3g}, {release.steps:,} steps, noise multiplier {noise}"
    return f"{release.sampling} batches not amplified, {release.passes:,} passes, noise multiplier {noise}"
