"""The loop of private training, whatever does its steps, and training on texts with it."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from defenses.edpsgd import history
from defenses.edpsgd.checks import LARGEST_WEIGHTS, weights_norm
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.plan import PrivateSettings, TrainingPlan, settle
from defenses.edpsgd.sampling import IntArray, Sampler
from defenses.edpsgd.trainer import Losses, Outcome
from defenses.training import tokenize
from redteam.core.errors import RedteamError, UsageError
from redteam.core.interrupts import Interrupts
from redteam.data import Examples
from redteam.models.initial import InitialModel, set_dropout
from redteam.models.pooling import begin_with_words
from redteam.plugins.defense import Checkpoint, PrivateRun, Problem, Progress, Trained
from redteam.targets.model import pad_batch
from redteam.training.checkpoint import TrainingState

CHECKPOINT_EVERY = 20.0  # seconds
_WARM_UP = 0.05  # share of the steps


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


class TextTrainer(PrivateSettings, Protocol):
    """A private trainer of text models, as `fit_texts` drives it."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""

    def train(
        self,
        problem: Problem,
        *,
        seed: int,
        checkpoint: Checkpoint | None,
        progress: Progress | None,
        schedule: Callable[[float], None] | None,
    ) -> tuple[PrivateRun, tuple[str, ...]]:
        """Train on the problem; return what was done and what must be known of it."""


TextTrained = TypeVar("TextTrained", bound=TextTrainer)


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

    def kept() -> dict[str, str]:
        return history.keep(source, problem.model, training=training, optimizer=problem.optimizer)

    history.begin(source, problem.model, state.extra, training=training, optimizer=problem.optimizer, first=first)
    dropped, kept_at = int(state.extra.get("dropped", 0)), time.monotonic()
    if not done:
        _check_weights(stepper, plan, 0, checkpoint)
        state.keep(0, plan.record(0) | kept())  # something good to fall back on
    with Interrupts() as interrupts:
        for step in range(done, steps):
            torch.manual_seed(source.torch_seed(step, "dropout"))  # depends on the step, not on what came before
            if schedule is not None:
                schedule(step / steps)
            with _forgetting(checkpoint if not step else None):
                outcome = stepper.step(step, problem.losses, sampler.rows(step), lengths)
            dropped += outcome.dropped
            _check_weights(stepper, plan, step + 1, checkpoint)
            if progress is not None:
                progress(step + 1, steps, outcome.loss)
            if interrupts.caught or time.monotonic() - kept_at > CHECKPOINT_EVERY:
                spent = plan.record(step + 1) | {"dropped": dropped}
                state.keep(step + 1, spent | kept())
                kept_at = time.monotonic()
                interrupts.raise_if_caught()
        interrupts.raise_if_caught()
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


def fit_texts(
    trainer: TextTrained,
    initial: InitialModel,
    examples: Examples,
    *,
    seed: int,
    population: int | None,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> Trained:
    """Train `initial` on the texts by AdamW with a short warm-up and a linear decay; the same loop as `train_on`."""
    model, trainer = initial.model.train(), settle(trainer, initial, population or len(examples))
    if initial.dropout is None:
        set_dropout(model, 0.0)  # the noise keeps the model from overfitting, and costs enough
    if not initial.pretrained:
        widen(model)
        begin_with_words(model)  # or noise drowns what little of the text reaches the classifier
    if trainer.weights == "biases":
        freeze_matrices(model)
    elif trainer.weights == "classifier":
        freeze_body(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = trainer.learning_rate or initial.learning_rate  # which is settled
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=trainer.weight_decay, fused=True)

    def schedule(share: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (share + 0.01) / _WARM_UP, (1.0 - share) / (1.0 - _WARM_UP))

    problem = text_problem(initial, examples, optimizer, population=population)
    done, notes = trainer.train(problem, seed=seed, checkpoint=checkpoint, progress=progress, schedule=schedule)
    model.eval()
    return Trained(initial.bundle(), done.guarantee, notes)


def widen(model: nn.Module) -> None:
    """Scale what is trained of the new weights of a narrow transformer to 1 / sqrt(width), in place.

    The usual standard deviation of 0.02 is made for a width of 768. In a narrower model it leaves so little gradient
    to the lower layers that noise drowns it; an optimiser that rescales gradients hides that where there is no noise.
    """
    config = getattr(model, "config", None)
    width, usual = getattr(config, "hidden_size", None), getattr(config, "initializer_range", None)
    if not width or not usual or usual >= width**-0.5:
        return
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.mul_(width**-0.5 / usual)


def freeze_matrices(model: nn.Module) -> None:
    """Leave only biases, normalisation and what classifies to be trained (DP-BiTFiT; Bu et al. 2022, arXiv 2210.00036).

    Noise grows with the number of weights and the signal does not: a pretrained model needs only few of them.
    """
    base: nn.Module = getattr(model, "base_model", model)
    pretrained = {id(p) for name, p in base.named_parameters() if "pooler" not in name}
    words = {id(p) for p in model.get_input_embeddings().parameters()}  # type: ignore[operator]
    for parameter in model.parameters():
        if parameter.dim() > 1 and id(parameter) in pretrained | words:
            parameter.requires_grad_(False)


def freeze_body(model: nn.Module) -> None:
    """Leave only what classifies to be trained: of an encoder whose summary of a text is good as it is."""
    base: nn.Module = getattr(model, "base_model", model)
    body = {id(p) for p in base.parameters()} | {id(p) for p in model.get_input_embeddings().parameters()}  # type: ignore[operator]
    for parameter in model.parameters():
        if id(parameter) in body:
            parameter.requires_grad_(False)


def text_problem(
    initial: InitialModel, examples: Examples, optimizer: torch.optim.Optimizer, *, population: int | None
) -> Problem:
    """Return the cross-entropy of each text's own label as a problem; `population` None is as many as there are."""
    tokens = tokenize(initial, list(examples.texts or ()))
    index = {label: i for i, label in enumerate(initial.labels)}
    targets = torch.tensor([index[label] for label in examples.labels or ()])
    model, pad = initial.model, initial.model.config.pad_token_id or 0

    def losses(rows: torch.Tensor) -> torch.Tensor:
        inputs = pad_batch([tokens[i] for i in rows.tolist()], pad=pad)
        return functional.cross_entropy(model(**inputs).logits, targets[rows], reduction="none")

    size = len(tokens)
    lengths = tuple(len(ids) for ids in tokens)
    data = hashlib.sha256(repr((tokens, targets.tolist())).encode()).hexdigest()
    return Problem(model, optimizer, losses, size, population or size, lengths, data)


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
