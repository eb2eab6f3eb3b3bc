"""Could canaries have shown anything: did what one does to a step reach the updates as far as the claim admits?

A trainer may hide them: it adds no gradient, or clips means of random rows, in which canaries stand for each other.
A low bound then says nothing, however many canaries there were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.plugins.defense import Mechanism
from redteam.verify.adversary import Adversary, Claim
from redteam.verify.check import Check
from redteam.verify.dirac import LAYERS, Coins
from redteam.verify.moves import Move, above
from redteam.verify.rehearsal import Rehearsed

_NEARLY = 0.97  # of what is claimed: clipping a little below the norm hides nothing
_ERRORS = 3.5  # standard errors: an honest trainer falls short by more once in 4,000 times
_AS_CLAIMED = 0.1  # means of micro-batches of two are off by more, by their divisor
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

    def of(self, part: float) -> "Reach":
        """Return the same with a part of the claim as the claim."""
        return Reach(self.moved, self.error, part * self.claimed)

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


def beside(reached: Reach, family: int) -> list[Check]:
    """Return whether an example moves a step too far among companions that pull the other way."""
    if family == 1:
        return []
    words = f"an example among {family - 1} others moves a step {reached.share:.2f} times as far"
    p = above(reached.moved, reached.error, reached.claimed)
    return [Check(f"{words} as clip and noise multiplier say (are their means clipped, not each?)", p)]


def best(measured: Sequence[Reach]) -> Reach | None:
    """Return the largest share: canaries of one kind that were seen in full are enough."""
    return max(measured, key=lambda one: one.share if np.isfinite(one.share) else -np.inf, default=None)


def of_move(moved: Move | None, mechanism: Mechanism, *, clip: float, population: int) -> list[Reach]:
    """Return how far examples moved the steps that read them: in noises, and by itself where its size is as claimed.

    A trainer with more noise than it says moves fewer noises and hides nothing.
    """
    if moved is None or not mechanism.noise_multiplier > 0:
        return []
    claimed = 1 / mechanism.noise_multiplier
    found = [Reach(moved.length, moved.error, claimed)]
    by_itself = float(np.linalg.norm(moved.raw)) * mechanism.sample_rate * population / clip
    relative = moved.error / moved.length if moved.length > 0 else np.inf
    if abs(by_itself - 1) <= max(_AS_CLAIMED, min(_ERRORS * relative, _HALF)) and moved.length < claimed:
        found.append(Reach(by_itself * claimed, relative * by_itself * claimed, claimed))
    return found


def _moved(adversary: Adversary, coins: Coins) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return by how many noises entries of canaries that are in lie off the others', a step and layer, [layers]."""
    scores = adversary.scores()
    alone = [scores[f"layer {layer + 1} alone"] for layer in range(LAYERS)]
    return np.array([values[coins].mean() - values[~coins].mean() for values in alone]) / len(adversary.noise)
