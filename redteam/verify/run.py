"""The verification: calibrate on the trainer, attack it, and compare what is shown with the epsilon it accounts for.

An honest trainer is called violated at most alpha of the time. The bound on epsilon errs 0.9 alpha of the time, shared
with the noise that is ruled out where a trainer says it is Gaussian noise on Poisson samples; all checks of the
mechanism (is the noise normal and drawn anew, do rows enter independently, how far does one move a step) share the
rest, 0.1 alpha, in equal parts. It takes three trainings on the canaries, and short ones on a few.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from redteam import __version__
from redteam.core import RedteamError, TargetError, UsageError
from redteam.plugins.defense import PrivateRun
from redteam.verify import moves
from redteam.verify import verdict as v
from redteam.verify.adversary import Adversary, Claim
from redteam.verify.calibration import Calibration, CalibrationRun
from redteam.verify.check import SHARE, MechanismCheck, contradictions
from redteam.verify.dirac_canaries import Design, Inclusion, problem
from redteam.verify.evidence import Shown, choose, shown
from redteam.verify.inspection import READ, Inspection
from redteam.verify.plan import VerificationPlan
from redteam.verify.side import Both, SideTrainings, Watcher, checks_of, raising
from redteam.verify.signal_check import SignalCheck, beside, best, check_signal, doubt, of_move
from redteam.verify.subject import Subject, TrainerSettings, train

__all__ = ["VerificationPlan", "verify"]

Progress = Callable[[int, int], None]

_DEFAULT = VerificationPlan()
_FAMILIES = (8, 64)  # micro-batches of 2, 4 and 8 rows fit into the first, of 16, 32 and 64 into the second
_PROBES = 500  # canaries of a trial of families: enough to see a step move twice as far
_PROBE_EPSILON = 8.0  # a trial is clearer with less noise
_CLEARLY = 1.3  # lone canaries are judged unless families move a step so much farther
_MORE = 1.1  # what the next larger family has to add


def verify(
    subject: Subject,
    plan: VerificationPlan = _DEFAULT,
    *,
    seed: int = 0,
    alpha: float = 0.01,
    progress: Progress | None = None,
) -> v.Verification:
    """Return the verdict on a trainer, violated for an honest one at most `alpha` of the time.

    Raises TargetError where the trainer crashes or does not keep to what `redteam.verify.subject` asks for.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha}: give a number between 0 and 1")
    runs = _Runs(subject, plan, np.random.default_rng(seed), progress)
    found = _attacked(runs, plan, (1 - SHARE) * alpha)
    design, calibration, run, bounds = found.design, found.calibration, found.run, found.bounds
    adversary = found.attacks[-1][0]
    nominal, accounted = v.stated(run)
    bound = bounds.clopper_pearson if v.plain(run) else bounds.one_run
    side = runs.beside(design)  # come last: they change nothing for the others
    signal = check_signal(runs.claim, calibration, design.canaries, found.attacks)
    hidden = _hidden(runs.farthest(signal), side)
    proven, against = _contradictions(runs, side, found, signal, alpha)
    hiding = [reason for reason in (hidden, runs.untried(adversary)) if reason]
    doubts = [*v.doubts(nominal, accounted, bounds, bound), *against, *hiding]
    word, reason = v.decide(accounted, bound, alpha=alpha, proven=proven, doubts=doubts)
    told = v.promises(nominal, accounted, bound, asked=(plan.epsilon, plan.delta))
    findings = (*told, *proven, *against, *v.findings(run.mechanism, calibration, adversary, bounds))
    return v.Verification(
        subject=subject.name,
        verdict=word,
        reason=reason,
        nominal=nominal,
        accounted=accounted,
        mechanism=run.mechanism,
        clopper_pearson=bounds.clopper_pearson,
        gdp=bounds.gdp,
        one_run=bounds.one_run,
        subsampled=bounds.subsampled,
        decides=v.deciding(run),
        score=bounds.score,
        findings=(*findings, *runs.notes, *side.notes),
        canaries=design.canaries,
        family=design.family,
        alpha=alpha,
        delta=found.delta,
        seed=seed,
        tool_version=__version__,
    )


@dataclass(frozen=True)
class _Attacked:
    """Two trainings that were attacked, of which the second is judged by what was best on the first."""

    design: Design
    calibration: Calibration
    attacks: tuple[tuple[Adversary, Inclusion], ...]
    run: PrivateRun
    delta: float
    bounds: Shown


def _attacked(runs: "_Runs", plan: VerificationPlan, alpha: float) -> _Attacked:
    design, calibration = runs.prepare()
    practice, known, run = runs.attack(design, calibration, inspect=False)  # two of three show enough, and cost less
    delta = _delta(run, plan)
    sampled = v.sampled_as_told(run, practice)
    alpha = alpha if sampled is None else alpha / 2  # two bounds may find a violation then
    rules = choose(practice.scores(), known, delta=delta, alpha=alpha)
    adversary, included, run = runs.attack(design, calibration)
    if _delta(run, plan) != delta:
        raise TargetError(
            f"{runs.subject.name}: guarantees at delta {delta} once and {_delta(run, plan)} the other time"
        )
    bounds = shown(adversary.scores(), included, rules, delta=delta, alpha=alpha, sampled=sampled)
    return _Attacked(design, calibration, ((practice, known), (adversary, included)), run, delta, bounds)


def _contradictions(
    runs: "_Runs", side: SideTrainings, found: _Attacked, signal: SignalCheck, alpha: float
) -> tuple[list[str], list[str]]:
    """Return what is proven to break the guarantee, and what else contradicts the trainer."""
    among = beside(signal, found.design.family) if v.plain(found.run) else []
    proven, against = contradictions([*runs.checks(), *side.checks(), *among], alpha)
    return [*v.ruled_out(v.stated(found.run)[1], found.bounds), *proven], against


def _hidden(signal: SignalCheck, side: SideTrainings) -> str | None:
    """Return why canaries could not have shown a violation; None too where all examples move a step alike, if less."""
    trial = side.farthest()
    found = doubt(signal.of(side.shortened()), trial)
    part = side.steadily() if found and trial is not None and trial.short else None
    if part is None or trial is None:
        return found
    return doubt(signal.of(part * side.shortened(part)), trial.of(part))


def _delta(run: PrivateRun, plan: VerificationPlan) -> float:
    _, accounted = v.stated(run)
    return accounted.delta if accounted else plan.delta


class _Runs:
    """The trainings of one verification, each with canaries and a seed of its own."""

    def __init__(
        self, subject: Subject, plan: VerificationPlan, rng: np.random.Generator, progress: Progress | None
    ) -> None:
        self.subject, self.plan, self.rng, self.progress = subject, plan, rng, progress
        self.done, self.tried, self.parts, self.notes = 0, 0, set[int](), list[str]()
        self.claim = Claim(1.0, 1.0)
        self.inspected: list[tuple[PrivateRun, Inspection]] = []

    def prepare(self) -> tuple[Design, Calibration]:
        """Return the canaries that show most of this trainer, and what a calibration run on them teaches."""
        alone = Design(self.plan.canaries)
        calibration = self.calibrate(alone)
        family = self.telling_family(calibration)
        if family is None:
            return alone, calibration
        together = Design(self.plan.canaries, family)
        return together, self.calibrate(together)

    def calibrate(self, design: Design, *, plan: VerificationPlan | None = None) -> Calibration:
        """Train with canaries whose inclusion is known and return what that teaches."""
        run_before = CalibrationRun(design, design.sample_inclusion(self.rng))
        run = self._watched(design, run_before, run_before.included, plan or self.plan)
        self.parts = run_before.reader.parts
        sigma = run.mechanism.noise_multiplier
        self.claim = Claim(1 / max(sigma, 1 / 30), run.mechanism.sample_rate)
        return run_before.learned()

    def telling_family(self, calibration: Calibration) -> int | None:
        """Return the family size at which a step moves clearly farther than for lone canaries, None without one."""
        claim, parts = self.claim, self.parts
        alone = calibration.strength / claim.strength
        best: tuple[float, int | None] = (_CLEARLY * max(alone, 1.0), None)
        probes = min(_PROBES, self.plan.canaries)
        plan = replace(self.plan, canaries=probes, epsilon=max(self.plan.epsilon, _PROBE_EPSILON))
        for family in sorted({*_FAMILIES, *(size for size in parts if len(parts) <= 2 and 2 <= size <= 64)}):
            try:
                learned = self.calibrate(Design(probes, family), plan=plan)
            except RedteamError as error:  # one that refuses a single step over everything can be honest all the same
                self.notes.append(f"families of {family} rows could not be tried: {error}")
                continue
            self.tried += 1
            found = learned.strength / self.claim.strength
            best = (found, family) if found > _MORE * best[0] else best
        self.claim = claim
        return best[1]

    def beside(self, design: Design) -> SideTrainings:
        """Run the short trainings."""
        return SideTrainings(self.train, self.told(design, self.plan), self.plan.short, self.rng)

    def checks(self) -> list[MechanismCheck]:
        """Return what is checked of the trainings on lone canaries."""
        return checks_of(self.inspected)

    def farthest(self, signal: SignalCheck) -> SignalCheck:
        """Return how far canaries moved a step, measured in the way that shows most."""
        if not self.inspected:
            return signal
        (run, _), seen = self.inspected[-1], [one for _, one in self.inspected]
        moved = moves.measure(seen, states=(READ,), kinds=[0], steps=[np.ones(one.steps, dtype=bool) for one in seen])
        others = of_move(moved, run.mechanism, clip=self.plan.clip, population=self.plan.canaries)
        return best([signal, *others]) or signal

    def untried(self, adversary: Adversary) -> str | None:
        """Return what to say where a trainer takes few rows at once and refused all families; None elsewhere."""
        most, step = max(adversary.reader.parts, default=0), self.plan.rate * adversary.design.size
        if self.tried or not 2 <= most <= max(_FAMILIES) or step < 2 * most:
            return None
        return f"it takes at most {most} rows at once, and whether it clips their means could not be tried"

    def attack(
        self, design: Design, calibration: Calibration, *, inspect: bool = True
    ) -> tuple[Adversary, Inclusion, PrivateRun]:
        """Draw canaries anew and train, watched by the adversary, which does not know which are in."""
        included = design.sample_inclusion(self.rng)
        adversary = Adversary(design, calibration, self.claim)
        run = self._watched(design, adversary, included, self.plan, inspect=inspect)
        if not adversary.noise:
            raise TargetError(f"{self.subject.name}: called problem.optimizer.step() in one training, not in another")
        return adversary, included, run

    def told(self, design: Design, plan: VerificationPlan) -> TrainerSettings:
        """Return what a trainer is told, without a seed."""
        alone = design.family == 1
        return TrainerSettings(
            epsilon=plan.epsilon,
            delta=plan.delta,
            clip=plan.clip,
            epochs=plan.epochs if alone else 1,  # families stay together where every row is in every step
            batch_size=max(1, round(plan.rate * design.size)) if alone else design.size,
            seed=0,
        )

    def train(
        self, design: Design, watcher: Watcher, included: Inclusion, told: TrainerSettings, *, raises: bool = False
    ) -> PrivateRun:
        """Run the trainer once, with a fresh seed; with `raises`, one call for losses raises as a full memory does."""
        posed = problem(design, included, clip=told.clip, read=watcher.reader.read, observe=watcher.observe)
        settings = replace(told, seed=int(self.rng.integers(2**62)))
        run = train(self.subject, raising(posed) if raises else posed, settings)
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, max(self.done, 9))
        return run

    def _watched(
        self,
        design: Design,
        watcher: CalibrationRun | Adversary,
        included: Inclusion,
        plan: VerificationPlan,
        *,
        inspect: bool = True,
    ) -> PrivateRun:
        """Train under inspection as well, where canaries are alone."""
        if design.family > 1 or not inspect:
            return self.train(design, watcher, included, self.told(design, plan))
        inspection = Inspection(design, included, watcher.reader)
        run = self.train(design, Both(inspection, watcher), included, self.told(design, plan))
        if plan is self.plan:
            self.inspected.append((run, inspection))
        return run
