"""Could canaries have shown anything: did what one does to a step reach the updates as far as the claim admits?

A trainer may hide them: it adds no gradient, or clips means of random rows, in which canaries stand for each other.
A low bound then says nothing, however many canaries there were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.verify.adversary import Adversary, Claim
from redteam.verify.dirac import LAYERS, Coins
from redteam.verify.rehearsal import Rehearsed

_NEARLY = 0.97  # of what is claimed: clipping a little below the norm hides nothing
_ERRORS = 3.5  # standard errors: an honest trainer falls short by more once in 4,000 times
_HALF = 0.5  # what allows for less does not tell what is claimed from nothing


@dataclass(frozen=True)
class Reach:
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

    @property
    def _least(self) -> float:
        return _NEARLY - _ERRORS * self.error / self.claimed


def doubt(main: Reach, trial: Reach | None) -> str | None:
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


def reach(claim: Claim, rehearsed: Rehearsed, canaries: int, attacks: Sequence[tuple[Adversary, Coins]] = ()) -> Reach:
    """Measure on a rehearsal and on trainings whose coins are known by now; rows never heard of count as read."""
    rate = max(rehearsed.rate, claim.rate)
    ratios = np.abs((rehearsed.signal / np.maximum(rehearsed.noise, rehearsed.floor)).mean(axis=0))
    layers = [ratios * rehearsed.rate / rate, *(_moved(*attack) / rate for attack in attacks)]
    moved = float(np.linalg.norm(np.mean(layers, axis=0)))
    takes = canaries * rehearsed.steps * len(layers)
    noise = 2 / (rate * takes**0.5)  # of a difference of two means of half the canaries each
    sampling = moved * (2 * (1 - rate) / (rate * takes)) ** 0.5  # those that are in do not take part equally often
    return Reach(moved, float(np.hypot(noise, sampling)), claim.strength)


def _moved(adversary: Adversary, coins: Coins) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return by how many noises entries of canaries that are in lie off the others', a step and layer, [layers]."""
    scores = adversary.scores()
    alone = [scores[f"layer {layer + 1} alone"] for layer in range(LAYERS)]
    return np.array([values[coins].mean() - values[~coins].mean() for values in alone]) / len(adversary.noise)
