"""What is verified: a defence by id, or a function of the user's.

A function is named `module:function` and called as `function(problem, settings)`. That runs its module, with everything
the user may do. `problem` is a `redteam.plugins.defense.Problem`: a model, an optimiser, `losses(rows)` and the number
of rows. `settings` is a `TrainerSettings`. The function trains in place: it calls `problem.losses(rows)` for the rows
of a step, leaves its noisy gradient in each parameter's `.grad`, divided by `sample_rate * population`, and calls
`problem.optimizer.step()`. It returns a `redteam.plugins.defense.PrivateRun`, or any object with these two attributes:
`mechanism` (a `Mechanism`: clip, noise_multiplier, sample_rate, steps, sampling) and `guarantee` (a
`redteam.report.values.Guarantee`, or None).
"""

import contextlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redteam.core import RedteamError, TargetError, UsageError
from redteam.plugins.defense import MAY_ASK_AGAIN, Defense, Mechanism, PrivateRun, PrivateTraining, Problem
from redteam.report.values import Guarantee
from redteam.verify.dirac_canaries import Watched

_AT_ONCE = 4096  # rows in one backward pass, where a trainer can be told


@dataclass(frozen=True)
class TrainerSettings:
    """What a trainer is told; `batch_size` is the expected number of rows in a step."""

    epsilon: float
    delta: float
    clip: float
    epochs: int
    batch_size: int
    seed: int


class Subject(Protocol):
    """Something that trains privately, and its name."""

    @property
    def name(self) -> str:
        """What it is called."""

    def __call__(self, problem: Problem, settings: TrainerSettings) -> PrivateRun:
        """Train `problem.model` in place and say what was done."""


@dataclass(frozen=True)
class DefenseSubject:
    """A defence of the registry; `chosen` are settings beyond those of the verification."""

    defense: Defense
    chosen: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raise UsageError where there is nothing private to verify, or a setting is unknown."""
        if not isinstance(self.defense, PrivateTraining):
            raise UsageError(
                f"{self.name} has no train_on: it does not train privately, so there is nothing to verify; "
                "name a private trainer; redteam defenses lists them all"
            )
        for name in self.chosen:
            if name not in self.defense.parameters():
                raise UsageError(f"{name}: {self.name} has no such setting")

    @property
    def name(self) -> str:
        """Id and name."""
        return f"{self.defense.id} ({self.defense.name})"

    def __call__(self, problem: Problem, settings: TrainerSettings) -> PrivateRun:
        """Train by the very loop that `fit` uses."""
        known = self.defense.parameters()
        asked = {name: getattr(settings, name) for name in ("epsilon", "delta", "clip", "epochs", "batch_size")}
        asked["physical_batch"] = min(settings.batch_size, _AT_ONCE)
        chosen = known | {name: value for name, value in asked.items() if name in known} | dict(self.chosen)
        trainer: Any = type(self.defense)(**chosen)
        token = MAY_ASK_AGAIN.set(False)  # the rows that a step reads are counted
        try:
            run: PrivateRun = trainer.train_on(problem, seed=settings.seed)
        finally:
            MAY_ASK_AGAIN.reset(token)
        return run


@dataclass(frozen=True)
class FunctionSubject:
    """A user's function, called with the working directory importable and standard output kept clean."""

    name: str
    function: Callable[[Problem, TrainerSettings], Any]
    directory: Path | None = None

    def __call__(self, problem: Problem, settings: TrainerSettings) -> PrivateRun:
        """Run the user's code."""
        from redteam.targets.function import surroundings

        with surroundings(self.directory):
            answer = self.function(problem, settings)
        for name in ("mechanism", "guarantee"):
            if not hasattr(answer, name):
                raise TargetError(f"{self.name}: returned {type(answer).__name__} without .{name}; return a PrivateRun")
        run: PrivateRun = answer if isinstance(answer, PrivateRun) else PrivateRun(answer.mechanism, answer.guarantee)
        return run


def load_function(source: str) -> FunctionSubject:
    """Import `module:function`, which runs the module; raise TargetError where there is none."""
    from redteam.targets.function import import_function

    function, _, directory = import_function(source)
    if not callable(function):
        raise TargetError(f"{source}: not callable; name a function of a problem and settings")
    return FunctionSubject(source, function, directory)


def train(subject: Subject, problem: Problem, settings: TrainerSettings) -> PrivateRun:
    """Run the trainer once and check what it says; TargetError where it crashes or says nothing usable."""
    held = list(problem.model.named_parameters())
    shapes, buffers = [tuple(p.shape) for _, p in held], len(list(problem.model.buffers()))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            run = subject(problem, settings)
    except RedteamError:
        raise
    except (Exception, SystemExit) as error:  # a trainer's sys.exit(0) must not end a verification as consistent
        from redteam.targets.function import in_one_line

        raise TargetError(f"{subject.name}: raised {in_one_line(error)}") from None
    now = list(problem.model.named_parameters())
    same = len(now) == len(held) and all(a == b and p is q for (a, p), (b, q) in zip(now, held, strict=True))
    if not same or [tuple(p.shape) for _, p in now] != shapes or len(list(problem.model.buffers())) != buffers:
        raise TargetError(f"{subject.name}: changed the model's parameters; train those that are there")
    if isinstance(problem.optimizer, Watched):
        problem.optimizer.check()  # what was changed after the last step is released as well
    _check(subject.name, run)
    return run


def _check(name: str, run: PrivateRun) -> None:
    mechanism, guarantee = run.mechanism, run.guarantee
    numbers = ("clip", "noise_multiplier", "sample_rate", "steps")
    if not isinstance(mechanism, Mechanism) or not all(_is_number(getattr(mechanism, each)) for each in numbers):
        raise TargetError(f"{name}: its mechanism is {_shortly(mechanism)}; return a redteam.plugins.defense.Mechanism")
    if not (mechanism.clip > 0 and mechanism.noise_multiplier >= 0 and 0 < mechanism.sample_rate <= 1):
        raise TargetError(f"{name}: its mechanism makes no sense: {_shortly(mechanism)}")
    if guarantee is None:
        return
    if not isinstance(guarantee, Guarantee):
        raise TargetError(
            f"{name}: its guarantee is {_shortly(guarantee)}; return a redteam.report.values.Guarantee or None"
        )
    for budget in (guarantee.nominal, guarantee.accounted):
        if not (budget.epsilon >= 0 and 0 < budget.delta < 1):
            raise TargetError(f"{name}: guarantees epsilon {budget.epsilon} at delta {budget.delta}, which is none")


def _shortly(value: object) -> str:
    return f"{value!r:.200}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
