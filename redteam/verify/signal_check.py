"""Could canaries have shown anything: did what one does to a step reach the updates as far as the claim admits?

A trainer may hide them: it adds no gradient, or clips means of random rows, in which canaries stand for each other.
A low bound then says nothing, however many canaries there were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.plugins.defense import Mechanism
from redteam.verify.adversary import Adversary, Claim
from redteam.verify.calibration import Calibration
from redteam.verify.check import MechanismCheck
from redteam.verify.dirac_canaries import LAYERS, Inclusion
from redteam.verify.moves import Move, above

_NEARLY = 0.97  # of what is claimed: clipping a little below the norm hides nothing
_ERRORS = 3.5  # standard errors: an honest trainer falls short by more once in 4,000 times
_AS_CLAIMED = 0.1  # means of micro-batches of two are off by more, by their divisor
_HALF = 0.5  # what allows for less does not tell what is claimed from nothing


@dataclass(frozen=True)
class SignalCheck:
    """How far a canary moves a step, in standard deviations of its noise: measured, its standard error, and claimed."""

    moved: float
    error: float
    claimed: float

    @property
    def share(self) -> float:
        """What was measured over what is claimed."""
        return self.moved / self.claimed

    @property
    def coarse(self) -> bool:
        """Whether the error is too large to tell anything; NaN is."""
        return not self._least >= _HALF

    @property
    def short(self) -> bool:
        """Whether it is clearly less than is claimed; NaN is."""
        return not self.share >= self._least

    def of(self, part: float) -> "SignalCheck":
        """Return the same with a part of the claim as the claim."""
        return SignalCheck(self.moved, self.error, part * self.claimed)

    @property
    def _least(self) -> float:
        return _NEARLY - _ERRORS * self.error / self.claimed


def doubt(main: SignalCheck, trial: SignalCheck | None) -> str | None:
    """Return why canaries could not have shown a violation, None where they could.

    `trial` is a measurement with less noise, where the trainer took part in one: `main` alone may be too coarse.
    """
    for measured in (trial, main):
        if measured is not None and measured.short and not measured.coarse:
            return (
                f"a canary moved a step only {measured.share:.2f} of what the claim admits, so this sample could not "
                "have shown it (clipped means of random micro-batches hide canaries like that, whatever they leak)"
            )
    if main.short or (main.coarse and (trial is None or trial.coarse)):
        return (
            f"so few canaries cannot tell how far one moves a step ({main.share:.2f} of what the claim admits, give or "
            f"take {main.error / main.claimed:.2f}): give more, or more epochs"
        )
    return None


def check_signal(
    claim: Claim, calibration: Calibration, canaries: int, attacks: Sequence[tuple[Adversary, Inclusion]] = ()
) -> SignalCheck:
    """Measure on a calibration run and on trainings whose canaries are known; rows not heard of count as read.

    `claim` is what the trainer says a canary does, `attacks` are the trainings that were attacked, each with who was
    in.
    """
    rate = max(calibration.rate, claim.rate)
    ratios = np.abs((calibration.signal / np.maximum(calibration.noise, calibration.floor)).mean(axis=0))
    layers = [ratios * calibration.rate / rate, *(_moved(*attack) / rate for attack in attacks)]
    moved = float(np.linalg.norm(np.mean(layers, axis=0)))
    takes = canaries * calibration.steps * len(layers)
    noise = 2 / (rate * takes**0.5)  # of a difference of two means of half the canaries each
    sampling = moved * (2 * (1 - rate) / (rate * takes)) ** 0.5  # those that are in do not take part equally often
    return SignalCheck(moved, float(np.hypot(noise, sampling)), claim.strength)


def beside(signal: SignalCheck, family: int) -> list[MechanismCheck]:
    """Return whether an example moves a step too far among companions that pull the other way."""
    if family == 1:
        return []
    words = f"an example among {family - 1} others moves a step {signal.share:.2f} times as far"
    p = above(signal.moved, signal.error, signal.claimed)
    return [MechanismCheck(f"{words} as clip and noise multiplier say (are their means clipped, not each?)", p)]


def best(measured: Sequence[SignalCheck]) -> SignalCheck | None:
    """Return the largest share: canaries of one kind that were seen in full are enough."""
    return max(measured, key=lambda one: one.share if np.isfinite(one.share) else -np.inf, default=None)


def of_move(moved: Move | None, mechanism: Mechanism, *, clip: float, population: int) -> list[SignalCheck]:
    """Return how far examples moved the steps that read them: in noises, and by itself where its size is as claimed.

    A trainer with more noise than it says moves fewer noises and hides nothing.
    """
    if moved is None or not mechanism.noise_multiplier > 0:
        return []
    claimed = 1 / mechanism.noise_multiplier
    found = [SignalCheck(moved.length, moved.error, claimed)]
    by_itself = float(np.linalg.norm(moved.raw)) * mechanism.sample_rate * population / clip
    relative = moved.error / moved.length if moved.length > 0 else np.inf
    if abs(by_itself - 1) <= max(_AS_CLAIMED, min(_ERRORS * relative, _HALF)) and moved.length < claimed:
        found.append(SignalCheck(by_itself * claimed, relative * by_itself * claimed, claimed))
    return found


def _moved(adversary: Adversary, included: Inclusion) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return by how many noises entries of canaries that are in lie off the others', a step and layer, [layers]."""
    scores = adversary.scores()
    alone = [scores[f"layer {layer + 1} alone"] for layer in range(LAYERS)]
    return np.array([values[included].mean() - values[~included].mean() for values in alone]) / len(adversary.noise)
