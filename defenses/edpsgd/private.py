"""What every private trainer of texts does: settings, their defaults, the noise they need, and the training itself.

A trainer of this kind says two things more: what a training is going to do (`plan`), and what does its steps
(`stepper`).
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from defenses import described
from defenses.accounting import Release, calibrate, spent
from defenses.edpsgd.checks import check_mechanism
from defenses.edpsgd.loop import Stepper, run
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.plan import TrainingPlan
from defenses.edpsgd.sampling import Sampler
from defenses.edpsgd.texts import prepare, text_problem
from redteam.canary.label_watch import harvest, plant
from redteam.core import UsageError
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Defense, PrivateRun, Problem, Progress, Trained

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
_WARM_UP = 0.05  # share of the steps


@dataclass(frozen=True)
class PrivateDefense(Defense):
    """A private trainer: `batch_size` is the expected logical batch, of which `physical_batch` rows are held at once.

    What is None is chosen for the model, the public number of rows and the labels (see `settled`). Raises UsageError
    for values that make no sense.
    """

    plants_labels = True

    epsilon: float | None = described.EPSILON.default(8.0)
    noise_multiplier: float | None = described.NOISE_MULTIPLIER.default(None)
    delta: float = described.DELTA.default(1e-5)
    clip: float = described.CLIP.default(1.0)
    epochs: int | None = described.EPOCHS.default(None)
    batch_size: int | None = described.BATCH_SIZE.default(None)
    learning_rate: float | None = described.LEARNING_RATE.default(None)
    weight_decay: float = described.WEIGHT_DECAY.default(0.0)
    physical_batch: int = described.PHYSICAL_BATCH.default(64)
    runs: int | None = described.RUNS.default(None)
    weights: Literal["all", "biases", "classifier"] | None = described.WEIGHTS.default(None)

    def __post_init__(self) -> None:
        """Refuse a setting that makes no sense by itself, NaN included."""
        noise = 0.0 if self.noise_multiplier is None else self.noise_multiplier
        check_mechanism(clip=self.clip, noise_multiplier=noise, physical_batch=self.physical_batch)
        if not 0 < self.delta < 1:
            raise UsageError(f"delta {self.delta:g}: must lie above 0 and below 1, and well below 1 / examples")
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon {self.epsilon:g}: must be a positive number, such as 8")
        if self.epsilon is None and self.noise_multiplier is None:
            raise UsageError("neither epsilon nor noise_multiplier: give one of them (noise_multiplier 0: no privacy)")
        if self.weights not in (None, "all", "biases", "classifier"):
            raise UsageError(f"weights {self.weights!r}: must be one of all, biases, classifier")
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size), ("runs", self.runs)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: must be at least 1")

    @abstractmethod
    def plan(self, problem: Problem) -> TrainingPlan:
        """Return what training on `problem` will do, and its epsilon; nothing in it depends on the realised data."""

    @abstractmethod
    def stepper(self, problem: Problem, plan: TrainingPlan, source: NoiseSource) -> Stepper:
        """Return what does the steps of `plan`; raise UsageError where it cannot be exact."""

    def source(self, seed: int) -> NoiseSource:
        """Return where noise and batches come from."""
        return NoiseSource(seed)

    def settled(self, initial: InitialModel, rows: int) -> Self:
        """Return the trainer with passes, batch, learning rate and weights chosen where they were left open.

        With many labels each gets less of the signal, and the noise stays: that takes more passes and longer steps.
        Noise grows with the number of weights, and few of them are enough where a text is summed up well from the
        beginning: by a sentence encoder's mean, the classifier alone; so too on the words of a new model, if its labels
        have few rows each. What that is given never changes, so that batches may be all rows, which noise harms least.
        All of it is public.
        """
        many = min(
            max(1.0, math.sqrt(len(initial.labels) / _FEW_LABELS)), _MOST_PRETRAINED if initial.pretrained else _MOST
        )
        weights = self.weights or _weights_of(initial, rows)
        if weights == "classifier":
            passes = self.epochs or (USUAL_PASSES if initial.pretrained else _PASSES_OVER_WORDS)
            batch = self.batch_size or min(_LARGEST_OF_A_CLASSIFIER, rows)
            few = _FEW_STEPS if initial.pretrained else _STEPS_ON_WORDS
            rate = _RATE_OF_A_CLASSIFIER * min(1.0, math.sqrt(few * batch / (passes * rows)))
        else:
            passes, batch = self.epochs or round(USUAL_PASSES * many), self.expected_batch(rows)
            rate = initial.learning_rate * _RATE_FACTORS[weights] * min(many, _LONGEST)
        return replace(
            self,
            epochs=passes,
            batch_size=batch,
            learning_rate=self.learning_rate or rate,
            weights=weights,
        )

    def expected_batch(self, population: int) -> int:
        """Return the expected logical batch [default: a sixth of the population, 512 at most]; it must fit the data."""
        batch = self.batch_size or max(1, min(LARGEST_DEFAULT_BATCH, population // 6))
        if batch > population:
            raise UsageError(
                f"batch size {batch:,} is larger than the data, {population:,} examples: take a smaller one"
            )
        return batch

    @property
    def passes(self) -> int:
        """How often a training goes over the data; of one that is not settled, as often as is usual."""
        return USUAL_PASSES if self.epochs is None else self.epochs

    def noise_for(self, release_of: Callable[[float], Release]) -> float:
        """Return the noise multiplier that was given, or the smallest that meets epsilon over all declared runs.

        Raises UsageError where no noise is enough, and where both are given and contradict each other.
        """
        runs = self.runs or 1

        def repeated(sigma: float) -> Release:
            release = release_of(sigma)
            return replace(release, phases=release.phases * runs)

        if self.noise_multiplier is None:
            assert self.epsilon is not None  # seen to before
            return calibrate(epsilon=self.epsilon, delta=self.delta, release_of=repeated)
        if self.epsilon is not None:
            cost = spent([release_of(self.noise_multiplier)] * runs, delta=self.delta)
            if not cost <= self.epsilon:
                raise UsageError(
                    f"noise_multiplier {self.noise_multiplier:g} spends epsilon {cost:.3g}, above the epsilon "
                    f"{self.epsilon:g} asked for: leave one of the two out"
                )
        return self.noise_multiplier

    def fit(
        self,
        initial: InitialModel,
        examples: Examples,
        *,
        seed: int,
        population: int | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train by AdamW with a short warm-up and a linear decay, by the loop of `train_on`; return the model.

        Who knows `seed` can subtract the noise, so it should be a secret one.
        """
        trainer = self.settled(initial, population or len(examples))
        prepare(initial, trainer.weights)
        planted, watch = plant(initial)
        trained = [p for p in initial.model.parameters() if p.requires_grad]
        rate = trainer.learning_rate or initial.learning_rate  # which is settled
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=trainer.weight_decay, fused=True)

        def schedule(share: float) -> None:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (share + 0.01) / _WARM_UP, (1.0 - share) / (1.0 - _WARM_UP))

        problem = text_problem(initial, examples, optimizer, population=population, planted=planted)
        problem = replace(problem, watch=watch)
        done, notes = trainer.train(problem, seed=seed, checkpoint=checkpoint, progress=progress, schedule=schedule)
        initial.model.eval()
        canaries = harvest(planted, watch)
        return Trained(initial.bundle(), done.guarantee, notes, canaries=canaries)

    def train_on(
        self,
        problem: Problem,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> PrivateRun:
        """Train `problem.model` in place, by the loop that `fit` uses."""
        return self.train(problem, seed=seed, checkpoint=checkpoint, progress=progress)[0]

    def train(
        self,
        problem: Problem,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
        schedule: Callable[[float], None] | None = None,
    ) -> tuple[PrivateRun, tuple[str, ...]]:
        """Do what `train_on` does, with a schedule of the learning rate; return what to tell as well."""
        plan, source = self.plan(problem), self.source(seed)
        sampler = Sampler(
            source,
            size=problem.size,
            population=problem.population,
            sample_rate=plan.mechanism.sample_rate,
            sampling="shuffled" if plan.mechanism.sampling == "shuffled" else "poisson",
            drop_last=plan.drop_last,
        )
        steps = self.stepper(problem, plan, source)
        if problem.watch is not None:
            told = plan.guarantee()
            divisor = plan.mechanism.sample_rate * problem.population
            problem.watch.begin(problem.optimizer, plan.mechanism, told, divisor=divisor)
        try:
            dropped = run(problem, plan, steps, sampler, checkpoint=checkpoint, progress=progress, schedule=schedule)
        finally:
            steps.close()
            if problem.watch is not None:
                problem.watch.close()
        return PrivateRun(plan.mechanism, plan.guarantee()), plan.notes(population=problem.population, dropped=dropped)


def _weights_of(initial: InitialModel, rows: int) -> Literal["all", "biases", "classifier"]:
    if initial.pooled or (not initial.pretrained and rows < _ROWS_OF_A_LABEL * len(initial.labels)):
        return "classifier"
    return "biases" if initial.pretrained else "all"
