"""From what a training showed to a verdict on its trainer, and what was seen on the way, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from redteam.core import INCONCLUSIVE, LEAK, PASS, StatisticsError
from redteam.plugins.defense import Mechanism, PrivateRun
from redteam.report.values import Budget
from redteam.statistics.epsilon import EpsilonBound, Sampled
from redteam.verify.adversary import Adversary
from redteam.verify.calibration import Calibration
from redteam.verify.evidence import Shown

Word = Literal["consistent", "violated", "inconclusive"]
FORMAT = "redteam.verification/2"
LOW_IS_NO_EVIDENCE = "A low bound is not evidence of privacy"

_NOT_GAUSSIAN = (
    1.05  # times epsilon is granted: trade-offs of subsampled Gaussians, read as Gaussian, show 1.02 at most
)
_UNEVEN = 1.5  # times the least noise of a step is what is clearly not the same at all steps; below, 1.05 covers it too
_SAID = 3  # contradictions that a reason holds; all are among the findings


@dataclass(frozen=True)
class Verification:
    """What one verification found; every bound misses the truth at most `alpha` of the time, where it holds.

    `decides` names the bound that the verdict is taken from. `canaries` were each included with probability 1/2;
    `score` is the adversary's, chosen on another training. `family` is the number of rows of each canary.
    """

    subject: str
    verdict: Word
    reason: str
    nominal: Budget | None
    accounted: Budget | None
    mechanism: Mechanism
    clopper_pearson: EpsilonBound
    gdp: EpsilonBound
    one_run: EpsilonBound
    subsampled: EpsilonBound | None
    decides: Literal["clopper_pearson", "one_run"]
    score: str
    findings: tuple[str, ...]
    canaries: int
    family: int
    alpha: float
    delta: float
    seed: int
    tool_version: str
    format: str = FORMAT

    @property
    def bound(self) -> EpsilonBound:
        """The bound that decides."""
        return self.clopper_pearson if self.decides == "clopper_pearson" else self.one_run

    @property
    def exit_code(self) -> int:
        """0 consistent, 1 violated, 2 inconclusive."""
        return {"consistent": PASS, "violated": LEAK, "inconclusive": INCONCLUSIVE}[self.verdict]


def decide(
    accounted: Budget | None,
    bound: EpsilonBound,
    *,
    alpha: float,
    proven: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> tuple[Word, str]:
    """Return the verdict and the reason for it; with a doubt, or NaN, nothing is consistent.

    `proven` are contradictions between what a trainer does and what its guarantee is accounted for: they break it as
    surely as a bound on epsilon does, though they do not say what epsilon is instead.
    """
    if accounted is None:
        return "inconclusive", "the trainer guarantees nothing, so there is nothing that could be violated"
    shown, promised = f"epsilon is at least {bound.low:.2f}", f"the {accounted.epsilon:.2f} that it accounts for"
    if bound.low > accounted.epsilon:
        return "violated", f"{shown} at {1 - alpha:.0%} confidence, above {promised} (delta {accounted.delta:g})"
    if proven:
        return (
            "violated",
            f"it does not do what its epsilon of {accounted.epsilon:.2f} is accounted for: {'; '.join(proven[:_SAID])}",
        )
    if not bound.attainable > accounted.epsilon:
        return (
            "inconclusive",
            f"so many canaries can show {bound.attainable:.2f} at most, not above {promised}: give more, or ask for a "
            "smaller epsilon",
        )
    if doubts or not bound.low <= accounted.epsilon:
        return "inconclusive", "; ".join(doubts[:_SAID]) or shown
    return "consistent", f"{shown} at {1 - alpha:.0%} confidence, not above {promised} (delta {accounted.delta:g})"


def deciding(run: PrivateRun) -> Literal["clopper_pearson", "one_run"]:
    """Return which bound holds for what the trainer says it does.

    Clopper-Pearson needs scores that are independent across canaries: clipped and sampled each by itself. A trainer
    that accounts for less privacy than its nominal noise gives (micro-batches, say) claims no such thing, and is judged
    by the bound that needs independent inclusion only.
    """
    return "clopper_pearson" if plain(run) else "one_run"


def sampled_as_told(run: PrivateRun, adversary: Adversary) -> Sampled | None:
    """Return how a trainer says that it samples, where its steps can be judged by the noise that is ruled out.

    It must say that each is the Gaussian mechanism on a Poisson sample and account for no more; and the noise must not
    be seen to differ from step to step, which a trainer may say by accounting for it.
    """
    m = run.mechanism
    if not (plain(run) and m.sampling == "poisson" and m.noise_multiplier > 0) or _noise(adversary):
        return None
    try:
        return Sampled(m.sample_rate, m.steps)
    except StatisticsError:
        return None


def ruled_out(accounted: Budget | None, shown: Shown) -> list[str]:
    """Return what to say where the noise that a trainer accounts for is ruled out, as it says that it samples."""
    bound = shown.subsampled
    if bound is None or accounted is None or not bound.low > _NOT_GAUSSIAN * accounted.epsilon:
        return []
    return [
        f"Gaussian noise on Poisson samples, which it says its steps are, shows so much from epsilon {bound.low:.2f} on"
    ]


def plain(run: PrivateRun) -> bool:
    """Say whether a trainer accounts no more than its nominal epsilon: each step is then what its mechanism says."""
    told = run.guarantee
    return told is None or not told.accounted.epsilon > told.nominal.epsilon


def stated(run: PrivateRun) -> tuple[Budget | None, Budget | None]:
    """Return the nominal and the accounted budget; none where it is infinite, which promises nothing."""
    told = run.guarantee
    if told is None or not np.isfinite([told.nominal.epsilon, told.accounted.epsilon]).all():
        return None, None
    return told.nominal, told.accounted


def broken_claim(nominal: Budget | None, bound: EpsilonBound) -> str | None:
    """Return what to say where more is shown than the nominal epsilon, which is what a trainer publishes."""
    if nominal is None or not bound.low > nominal.epsilon:
        return None
    return f"epsilon is at least {bound.low:.2f}, above the nominal {nominal.epsilon:.2f}: the claim is broken"


def doubts(nominal: Budget | None, accounted: Budget | None, shown: Shown, bound: EpsilonBound) -> list[str]:
    """Return what forbids to call a trainer consistent though it is not shown to violate what it accounts for."""
    found = [doubt for doubt in (broken_claim(nominal, bound),) if doubt]
    if accounted is None:
        return found
    promised = f"above the {accounted.epsilon:.2f} that it accounts for"
    independent, gaussian = shown.clopper_pearson, shown.gdp
    if independent.low > accounted.epsilon:
        found.append(
            f"epsilon is at least {independent.low:.2f} if canaries are independent, {promised}; it does not say that "
            "they are, and without that less is shown"
        )
    if gaussian.low > _NOT_GAUSSIAN * accounted.epsilon:
        found.append(f"epsilon is at least {gaussian.low:.2f} if the mechanism is Gaussian, as it says, {promised}")
    return found


def promises(
    nominal: Budget | None, accounted: Budget | None, bound: EpsilonBound, *, asked: tuple[float, float]
) -> tuple[str, ...]:
    """Return where the nominal epsilon is exceeded, and what differs from the epsilon and delta that were asked for."""
    epsilon, delta = asked
    found = [broken for broken in (broken_claim(nominal, bound),) if broken]
    if accounted is not None and accounted.epsilon > epsilon * (1 + 1e-6):
        found.append(f"it was asked for epsilon {epsilon:g}, and accounts for {accounted.epsilon:.2f}")
    for name, budget in (("accounted", accounted), ("nominal", nominal)):
        if budget is not None and budget.delta != delta:
            found.append(f"it was asked for delta {delta:g}; the {name} epsilon holds at {budget.delta:g}")
    return tuple(found)


def findings(mechanism: Mechanism, calibration: Calibration, adversary: Adversary, shown: Shown) -> tuple[str, ...]:
    """Return what was seen of the mechanism and is worth to know, in plain sentences."""
    found = [
        *_noise(adversary),
        *_order(mechanism, calibration, adversary),
        *_strength(mechanism, calibration, adversary.design.canaries),
        f"the score that told most was: {shown.score}",
    ]
    return tuple(found)


def _noise(adversary: Adversary) -> list[str]:
    seen = np.array(adversary.noise)
    seen = seen[seen > 0]
    if not len(seen) or not seen.max() > _UNEVEN * seen.min():
        return []
    return [f"the noise is not the same at all steps: the least is {seen.min() / seen.max():.2f} of the most"]


def _order(mechanism: Mechanism, calibration: Calibration, adversary: Adversary) -> list[str]:
    taken = np.array(adversary.reader.taken)
    common = min(len(taken), calibration.steps)
    found = []
    if calibration.rate < 0.999 and common and bool((taken[:common] == calibration.taken[:common]).all()):
        found.append("each step reads the same rows under another seed: the order is predictable, not random")
    told, error = mechanism.sample_rate, 4 * (calibration.rate / (adversary.design.canaries * calibration.steps)) ** 0.5
    if mechanism.sampling == "poisson" and calibration.rate < told - max(error, 0.02 * told):
        found.append(f"steps read fewer rows than it says: rate {calibration.rate:.3g}; the claim is {told:.3g}")
    return found


def _strength(mechanism: Mechanism, calibration: Calibration, canaries: int) -> list[str]:
    if not mechanism.noise_multiplier > 0:
        return []
    told = 1 / mechanism.noise_multiplier
    error = 2 / (
        calibration.rate * (canaries * calibration.steps) ** 0.5
    )  # of a difference of two means over all steps
    if abs(calibration.strength - told) <= max(0.1 * told, 4 * error):
        return []
    ratio = calibration.strength / told
    return [f"a canary stands out from a step's noise {ratio:.2f} times as far as clip and noise multiplier say"]
