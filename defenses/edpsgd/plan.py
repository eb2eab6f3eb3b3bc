"""What a private training is going to do, and its nominal and accounted epsilon, before its first step."""

import math
from dataclasses import dataclass, replace
from typing import Any

from defenses.accounting import Phase, Release, guarantee, spent, spent_rdp, warnings_about
from redteam.core import UsageError
from redteam.plugins.defense import Mechanism
from redteam.report.values import Guarantee


@dataclass(frozen=True)
class TrainingPlan:
    """A private training before it begins: what each step does, and the nominal and accounted epsilon of one.

    `declared` is how many trainings on this data the guarantee has to cover; None, of one that did not say, is 1.
    """

    mechanism: Mechanism
    nominal: Release
    accounted: Release
    delta: float
    declared: int | None
    drop_last: bool = False

    @property
    def runs(self) -> int:
        """How many trainings the guarantee covers."""
        return self.declared or 1

    def __post_init__(self) -> None:
        """Refuse noise that promises nothing, before anything is trained on the belief that it does."""
        for release in (self.nominal, self.accounted) if self.mechanism.noise_multiplier > 0 else ():
            runs = [release] * self.runs
            if math.isinf(spent_rdp(runs, delta=self.delta)) and math.isinf(spent(runs, delta=self.delta)):
                raise UsageError(
                    f"noise multiplier {self.mechanism.noise_multiplier:g} gives no finite epsilon at delta "
                    f"{self.delta:g}: take more noise, a noise decay that stays above zero, or 0 for no privacy"
                )

    def guarantee(self) -> Guarantee | None:
        """Return the nominal and accounted epsilon of all declared runs together; None without noise."""
        return guarantee(nominal=[self.nominal] * self.runs, accounted=[self.accounted] * self.runs, delta=self.delta)

    def spent_after(self, steps: int) -> float:
        """Return the epsilon accounted for by the first `steps` steps of this run."""
        return spent([replace(self.accounted, phases=_first(self.accounted.phases, steps))], delta=self.delta)

    def record(self, steps: int) -> dict[str, Any]:
        """Return what a checkpoint keeps of the privacy spent, in plain values."""
        m = self.mechanism
        settings = {"noise_multiplier": m.noise_multiplier, "clip": m.clip, "sample_rate": m.sample_rate}
        return settings | {"sampling": m.sampling, "delta": self.delta, "runs": self.runs, "steps": steps}

    def notes(self, *, population: int, dropped: int) -> tuple[str, ...]:
        """Return what whoever trained must know of the guarantee, one sentence each."""
        told: list[str] = []
        if self.mechanism.noise_multiplier > 0:
            runs = [self.accounted] * self.runs
            told += warnings_about(runs, delta=self.delta, population=population, runs=self.declared)
        else:
            told.append("noise multiplier 0: nothing hides what one example does, so no epsilon is claimed")
        if dropped:
            told.append(
                f"{dropped:,} times an example was dropped because its loss or gradient was no number "
                "(a count that the guarantee does not cover)"
            )
        return tuple(told)


def _first(phases: tuple[Phase, ...], steps: int) -> tuple[Phase, ...]:
    kept = []
    for phase in phases:
        kept.append(replace(phase, steps=min(phase.steps, steps)))
        steps -= kept[-1].steps
    return tuple(kept)
