"""The loop of private training, whatever does its steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from defenses.edpsgd import history
from defenses.edpsgd.checks import LARGEST_WEIGHTS, weights_norm
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.plan import TrainingPlan
from defenses.edpsgd.sampling import IntArray, Sampler
from defenses.edpsgd.steps import Losses, Outcome
from redteam.core import RedteamError, UsageError
from redteam.plugins.defense import Checkpoint, Problem, Progress
from redteam.training.checkpoint import TrainingState


class Stepper(Protocol):
    """What does one private step: clips, sums, adds noise and lets the optimiser step."""

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The weights that are trained."""

    @property
    def physical_batch(self) -> int:
        """Rows in memory at once."""

    @property
    def settings(self) -> tuple[Any, ...]:
        """What tells its trainings from those of other trainers."""

    def step(self, number: int, losses: Losses, rows: IntArray, lengths: IntArray | None) -> Outcome:
        """Do step `number` on some rows."""

    def close(self) -> None:
        """Leave the model as it was, but for its weights."""


def run(
    problem: Problem,
    plan: TrainingPlan,
    stepper: Stepper,
    sampler: Sampler,
    *,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
    schedule: Callable[[float], None] | None = None,
) -> int:
    """Do all steps of the plan, from where a checkpoint left off; return how many examples were dropped.

    `schedule(share)` is told before each step which share of the training is done. Raises RedteamError where the
    weights are no numbers any more: the checkpoint then holds the last good ones.
    """
    source, steps = sampler.source, plan.mechanism.steps
    state = TrainingState(problem.model, problem.optimizer, _keyed(checkpoint, source, problem.model))
    done, lengths = _resume(state, plan), None if problem.lengths is None else np.asarray(problem.lengths)
    training = _identity(problem, plan, stepper, sampler)

    def first() -> bytes:
        at_once = stepper.physical_batch
        told = b"" if problem.data else history.data_digest(problem, source, at_once=at_once)
        return str(at_once).encode() + told

    history.begin(source, problem.model, state.extra, training=training, optimizer=problem.optimizer, first=first)
    dropped = int(state.extra.get("dropped", 0))
    if done and problem.watch is not None:
        problem.watch.take(state.extra.get("watched", {}))

    def spent(step: int) -> dict[str, Any]:
        history_so_far = history.keep(source, problem.model, training=training, optimizer=problem.optimizer)
        watched = {} if problem.watch is None else {"watched": problem.watch.kept()}
        return plan.record(step) | {"dropped": dropped} | history_so_far | watched

    if not done:
        _check_weights(stepper, plan, 0, checkpoint)
        state.keep(0, spent(0))  # something good to fall back on
    for step in state.steps(done, steps, spent):
        torch.manual_seed(source.torch_seed(step, "dropout"))  # depends on the step, not on what came before
        if schedule is not None:
            schedule(step / steps)
        with _forgetting(checkpoint if not step else None):
            outcome = stepper.step(step, problem.losses, sampler.rows(step), lengths)
        dropped += outcome.dropped
        _check_weights(stepper, plan, step + 1, checkpoint)
        if progress is not None:
            progress(step + 1, steps, outcome.loss)
    return dropped


@contextmanager
def _forgetting(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Remove the checkpoint of a training that is refused at its first step: nothing is there to take up again."""
    try:
        yield
    except UsageError:
        if checkpoint is not None:
            checkpoint.path.unlink(missing_ok=True)
        raise


def _keyed(checkpoint: Checkpoint | None, source: NoiseSource, model: nn.Module) -> Checkpoint | None:
    """Bind a checkpoint to the generator of the noise: with another one, the same seed would draw other noise."""
    if checkpoint is None:
        return None
    device = next(model.parameters()).device
    return replace(checkpoint, key=f"{checkpoint.key} {source.generator_on(device)}")


def _identity(problem: Problem, plan: TrainingPlan, stepper: Stepper, sampler: Sampler) -> str:
    lengths = None if problem.lengths is None else np.asarray(problem.lengths, dtype=np.int64)
    public = (problem.size, problem.population, lengths, problem.data)
    settings = (repr(plan.mechanism), plan.delta, plan.runs, sampler.steps_per_pass, stepper.settings)
    return history.identity(problem.optimizer, *settings, *public)


def _resume(state: TrainingState, plan: TrainingPlan) -> int:
    """Return how many steps are done; UsageError names what differs from the training that was broken off."""
    done = state.resume()
    for name, now in plan.record(done).items():
        before = state.extra.get(name, now) if done else now
        if before != now:
            raise UsageError(f"{name} is {now}, but the unfinished training has {before}: repeat it or say --restart")
    return done


def _check_weights(stepper: Stepper, plan: TrainingPlan, steps: int, checkpoint: Checkpoint | None) -> None:
    if weights_norm(stepper.parameters) <= LARGEST_WEIGHTS:
        return
    if not steps:
        raise UsageError("the weights are no usable numbers before the first step: start from another model")
    where = "" if checkpoint is None else f"; the last good state is in {checkpoint.path}, which --restart forgets"
    raise RedteamError(
        f"the weights are no usable numbers after step {steps:,} of {plan.mechanism.steps:,}: try a smaller learning "
        f"rate; privacy spent so far by this run: epsilon {plan.spent_after(steps):.3g} at delta {plan.delta:g}{where}"
    )
