"""What a private training is going to do, and its nominal and accounted epsilon, before its first step."""

import math
from collections.abc import Callable
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from defenses.accounting import Phase, Release, calibrate, guarantee, spent, spent_rdp, warnings_about
from defenses.edpsgd.checks import check_mechanism
from redteam.core.errors import UsageError
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Mechanism
from redteam.report.values import Guarantee

LARGEST_DEFAULT_BATCH = 512
USUAL_PASSES = 10  # with few labels
_FEW_LABELS = 8
_MOST, _MOST_PRETRAINED = 3.0, 2.0  # times the passes
_LONGEST = 2.0  # times the learning rate
_RATE_FACTORS = {"all": 5.0, "biases": 50.0}  # times what suits without privacy: steps are few
_RATE_OF_A_CLASSIFIER = 0.1  # alone, at so few steps; with more of them each is shorter:
_FEW_STEPS, _STEPS_ON_WORDS = 20, 100  # on a summary that was learned, on words as they are
_PASSES_OVER_WORDS = 100
_LARGEST_OF_A_CLASSIFIER = 4096  # rows of a batch, which is all of the data where that is less
_ROWS_OF_A_LABEL = 200  # fewer teach a new model no words through the noise, only which words go with a label


class PrivateSettings(Protocol):
    """What every private trainer is told; None is chosen here."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def epsilon(self) -> float | None:
        """What all runs together may spend."""

    @property
    def delta(self) -> float:
        """Of the guarantee."""

    @property
    def noise_multiplier(self) -> float | None:
        """Noise over clip, instead of epsilon."""

    @property
    def clip(self) -> float:
        """Largest norm of an example's gradient."""

    @property
    def epochs(self) -> int | None:
        """Expected passes over the rows."""

    @property
    def batch_size(self) -> int | None:
        """Expected rows of a step."""

    @property
    def physical_batch(self) -> int:
        """Rows in memory at once."""

    @property
    def learning_rate(self) -> float | None:
        """Of the optimiser."""

    @property
    def weights(self) -> str | None:
        """Which weights are trained: all, or biases and head."""

    @property
    def runs(self) -> int | None:
        """Trainings that share the budget."""


Private = TypeVar("Private", bound=PrivateSettings)


@dataclass(frozen=True)
class TrainingPlan:
    """A private training before it begins: what each step does, and the nominal and accounted epsilon of one."""

    mechanism: Mechanism
    nominal: Release
    accounted: Release
    delta: float
    runs: int

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
        """Return what the nominal and accounted epsilon of all declared runs together; None without noise."""
        return guarantee(nominal=[self.nominal] * self.runs, accounted=[self.accounted] * self.runs, delta=self.delta)

    def spent_after(self, steps: int) -> float:
        """Return the epsilon accounted for by the first `steps` steps of this run."""
        return spent([replace(self.accounted, phases=_first(self.accounted.phases, steps))], delta=self.delta)

    def record(self, steps: int) -> dict[str, Any]:
        """Return what a checkpoint keeps of the privacy spent, in plain values."""
        m = self.mechanism
        settings = {"noise_multiplier": m.noise_multiplier, "clip": m.clip, "sample_rate": m.sample_rate}
        return settings | {"sampling": m.sampling, "delta": self.delta, "runs": self.runs, "steps": steps}


def check_settings(settings: PrivateSettings) -> None:
    """Raise UsageError for a setting that makes no sense by itself, NaN included."""
    check_mechanism(
        clip=settings.clip,
        noise_multiplier=0.0 if settings.noise_multiplier is None else settings.noise_multiplier,
        physical_batch=settings.physical_batch,
    )
    if not 0 < settings.delta < 1:
        raise UsageError(f"delta {settings.delta:g}: must lie above 0 and below 1, and well below 1 / examples")
    if settings.epsilon is not None and not 0 < settings.epsilon < math.inf:
        raise UsageError(f"epsilon {settings.epsilon:g}: must be a positive number, such as 8")
    if settings.epsilon is None and settings.noise_multiplier is None:
        raise UsageError("neither epsilon nor noise_multiplier: give one of them (noise_multiplier 0: no privacy)")
    if settings.weights not in (None, "all", "biases", "classifier"):
        raise UsageError(f"weights {settings.weights!r}: must be one of all, biases, classifier")
    for name, value in (("epochs", settings.epochs), ("batch_size", settings.batch_size), ("runs", settings.runs)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: must be at least 1")


def expected_batch(settings: PrivateSettings, population: int) -> int:
    """Return the expected logical batch [default: a sixth of the population, 512 at most]; it must fit the data."""
    batch = settings.batch_size or max(1, min(LARGEST_DEFAULT_BATCH, population // 6))
    if batch > population:
        raise UsageError(f"batch size {batch:,} is larger than the data, {population:,} examples: take a smaller one")
    return batch


def passes_of(settings: PrivateSettings) -> int:
    """Return how often a training goes over the data; of one that is not settled, as often as is usual."""
    return USUAL_PASSES if settings.epochs is None else settings.epochs


def settle(settings: Private, initial: InitialModel, rows: int) -> Private:
    """Return a private training with its open settings chosen for a model and the public number of rows.

    With many labels each gets less of the signal, and the noise stays: that takes more passes and longer steps. Noise
    grows with the number of weights, and few of them are enough where a text is summed up well from the beginning: by a
    sentence encoder's mean, the classifier alone; so too on the words of a new model, if its labels have few rows each.
    What that is given never changes, so that batches may be all rows, which noise harms least. All of it is public.
    """
    many = min(
        max(1.0, math.sqrt(len(initial.labels) / _FEW_LABELS)), _MOST_PRETRAINED if initial.pretrained else _MOST
    )
    weights = settings.weights or _weights_of(initial, rows)
    if weights == "classifier":
        passes = settings.epochs or (USUAL_PASSES if initial.pretrained else _PASSES_OVER_WORDS)
        batch = settings.batch_size or min(_LARGEST_OF_A_CLASSIFIER, rows)
        few = _FEW_STEPS if initial.pretrained else _STEPS_ON_WORDS
        rate = _RATE_OF_A_CLASSIFIER * min(1.0, math.sqrt(few * batch / (passes * rows)))
    else:
        passes, batch = settings.epochs or round(USUAL_PASSES * many), expected_batch(settings, rows)
        rate = initial.learning_rate * _RATE_FACTORS[weights] * min(many, _LONGEST)
    return replace(
        settings,
        epochs=passes,
        batch_size=batch,
        learning_rate=settings.learning_rate or rate,
        weights=weights,
    )


def _weights_of(initial: InitialModel, rows: int) -> Literal["all", "biases", "classifier"]:
    if initial.pooled or (not initial.pretrained and rows < _ROWS_OF_A_LABEL * len(initial.labels)):
        return "classifier"
    return "biases" if initial.pretrained else "all"


def choose_noise(settings: PrivateSettings, release_of: Callable[[float], Release]) -> float:
    """Return the noise multiplier that was given, or the smallest that meets epsilon over all declared runs.

    Raises UsageError where no noise is enough, and where both are given and contradict each other.
    """
    runs = settings.runs or 1
    if settings.noise_multiplier is None:
        assert settings.epsilon is not None  # check_settings
        return calibrate(
            epsilon=settings.epsilon,
            delta=settings.delta,
            release_of=lambda sigma: _repeated(release_of(sigma), runs),
        )
    if settings.epsilon is not None:
        cost = spent([release_of(settings.noise_multiplier)] * runs, delta=settings.delta)
        if not cost <= settings.epsilon:
            raise UsageError(
                f"noise_multiplier {settings.noise_multiplier:g} spends epsilon {cost:.3g}, above the epsilon "
                f"{settings.epsilon:g} asked for: leave one of the two out"
            )
    return settings.noise_multiplier


def notes_of(plan: TrainingPlan, settings: PrivateSettings, *, population: int, dropped: int) -> tuple[str, ...]:
    """Return what whoever trained must know of the guarantee, one sentence each."""
    told: list[str] = []
    if plan.mechanism.noise_multiplier > 0:
        told += warnings_about(
            [plan.accounted] * plan.runs, delta=plan.delta, population=population, runs=settings.runs
        )
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


def _repeated(release: Release, runs: int) -> Release:
    return replace(release, phases=release.phases * runs)
