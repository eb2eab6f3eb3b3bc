"""RD101 dpsgd: DP-SGD by Opacus, the field's baseline, as its users run it.

Per-example gradients of every weight (Opacus's "hooks" mode), clipped and noised by its `DPOptimizer`, logical
batches of any size through its `BatchMemoryManager`, Poisson sampling. A few things differ from a first script with
Opacus. The noise is drawn in float64: in float32, as Opacus draws it, torch's normals end at 5.8 sigma on the CPU, and
a sum further out exposes an example, with a chance that can be larger than delta (see `edpsgd/noise.py`). The clip
is 1e-5 below the one that the noise is made for, against rounding. The divisor is the public batch size, where
`PrivacyEngine` takes one from the realised data. Position ids of shape (1, T), the default of Hugging Face, are
expanded to the batch, or Opacus would raise. The guarantee comes from this package's accountant.

Opacus does not set non-finite examples aside: one of them ends the training. It has no rule for torch's own LSTM, GRU
or multi-head attention; RD102 trains the first. Needs: pip install '.[dp]'.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from defenses.accounting import Phase, Release
from defenses.edpsgd import history
from defenses.edpsgd.checks import check_losses, check_optimizer
from defenses.edpsgd.noise import NoiseSource, fill_normal
from defenses.edpsgd.plan import TrainingPlan
from defenses.edpsgd.private import PrivateDefense
from defenses.edpsgd.refusals import TrainedWeights, refuse_compiled
from defenses.edpsgd.sampling import IntArray, parts_of
from defenses.edpsgd.separation import Separation, unclipped
from defenses.edpsgd.steps import Losses, Outcome
from defenses.edpsgd.tape import UnsupportedLayer
from defenses.opacus_exact import MOST_ROWS, check_exact, forget_gradients, hooked, refuse_unsupported
from redteam.core import UsageError
from redteam.plugins.defense import Mechanism, Problem

_SLACK = 1e-5  # of the clip, as in RD102: the norms are float32


@dataclass(frozen=True)
class DPSGD(PrivateDefense):
    """Train by Opacus, with the settings of every private trainer (`PrivateDefense`)."""

    id = "RD101"
    name = "dpsgd"
    canaries = 4_000  # Opacus keeps a table of gradients for each example

    def plan(self, problem: Problem) -> TrainingPlan:
        """Return what training on `problem` will do, and its epsilon; nothing in it depends on the realised data."""
        rate = self.expected_batch(problem.population) / problem.population
        steps = max(1, round(self.passes / rate))

        def release(sigma: float) -> Release:
            return Release((Phase(sigma, steps),), "poisson", rate)

        sigma = self.noise_for(release)
        mechanism = Mechanism(self.clip, sigma, rate, steps)
        return TrainingPlan(mechanism, release(sigma), release(sigma), self.delta, self.runs)

    def stepper(self, problem: Problem, plan: TrainingPlan, source: NoiseSource) -> "OpacusSteps":
        """Hook the model and ask whether Opacus is right about the gradients of its first rows."""
        steps = OpacusSteps(
            problem.model,
            problem.optimizer,
            source,
            clip=self.clip,
            noise_multiplier=plan.mechanism.noise_multiplier,
            divisor=plan.mechanism.sample_rate * problem.population,
            physical_batch=self.physical_batch,
        )
        try:
            steps.check_exact(problem.losses, np.arange(min(problem.size, MOST_ROWS)))
        except BaseException:
            steps.close()
            raise
        return steps


class OpacusSteps:
    """The step of Opacus: per-example gradients by hooks on the layers, clipping and noise in its optimiser."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        source: NoiseSource,
        *,
        clip: float,
        noise_multiplier: float,
        divisor: float,
        physical_batch: int,
    ) -> None:
        """Hook the model; `close` takes the hooks off. Raises UsageError, by name, for what Opacus cannot train."""
        opacus, optimizers = _opacus()
        refuse_compiled(model)
        self.trained = TrainedWeights(model)
        self.parameters = list(self.trained.parameters)
        check_optimizer(optimizer, self.parameters)
        refuse_unsupported(model)
        self.source, self.physical_batch, self.model = source, physical_batch, model
        self.noise, self.std = torch.Generator(self.parameters[0].device), noise_multiplier * clip
        self.optimizer = optimizers.DPOptimizer(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip * (1 - _SLACK),
            expected_batch_size=divisor,
            generator=self.noise,
        )
        self.optimizer.add_noise = self._add_noise
        self.hooked = hooked(opacus, model)
        self.separation = Separation(model, unclipped(self.parameters, clip), alone=True)
        self._step, self._rows = 0, np.zeros(0, dtype=np.int64)

    def step(self, number: int, losses: Losses, rows: IntArray, lengths: IntArray | None) -> Outcome:
        """Do step `number` on a logical batch; Opacus cuts it into physical ones of like size, unsorted."""
        from opacus.utils.batch_memory_manager import BatchMemoryManager

        self._step, self._rows = number, rows
        self.trained.check()
        self._check(number, losses, rows)
        loader: DataLoader[int] = DataLoader(
            range(int(rows.max(initial=0)) + 1),  # type: ignore[arg-type]  # a data set of row numbers
            batch_sampler=[rows.tolist()],
            collate_fn=lambda batch: torch.tensor(batch, dtype=torch.int64),
        )
        total = 0.0
        with BatchMemoryManager(
            data_loader=loader, max_physical_batch_size=self.physical_batch, optimizer=self.optimizer
        ) as physical:
            for part in physical:
                total += self._accumulate(losses, part.to(self.parameters[0].device))
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        return Outcome(total / len(rows) if len(rows) else math.nan, len(rows), 0)

    def check_exact(self, losses: Losses, rows: IntArray) -> None:
        """Raise UnsupportedLayer unless Opacus gives each of the rows, [b], the gradient that is its own."""
        part = torch.from_numpy(rows).to(self.parameters[0].device)
        with _positions_expanded(self.model, len(part)):
            check_exact(self.hooked, self.model, self.trained, losses, part)

    def _check(self, number: int, losses: Losses, rows: IntArray) -> None:
        """Refuse losses of rows that are mixed, while Opacus looks away; then ask whether its gradients are right."""
        parts, rng = parts_of(rows, None, at_once=self.physical_batch), self.source.generator(number, "separation")
        self.hooked.disable_hooks()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                done = self.separation.check_batch(number, losses, parts, self.parameters[0].device, rng)
        finally:
            self.hooked.enable_hooks()
        if done:
            self.check_exact(losses, rng.permutation(rows)[:MOST_ROWS])

    @property
    def settings(self) -> tuple[Any, ...]:
        """What tells its trainings from those of other trainers."""
        return type(self).__name__, self.std

    def close(self) -> None:
        """Take off hooks and gradients."""
        self.hooked.remove_hooks()
        forget_gradients(self.model)
        for parameter in self.parameters:  # its own del_grad_sample stops at a frozen one
            for name in ("summed_grad", "grad_sample", "_forward_counter"):
                if hasattr(parameter, name):
                    delattr(parameter, name)

    def _add_noise(self) -> None:
        """Do what Opacus's optimiser does at this point, with noise that was drawn in float64, of this very sum."""
        sums = [p.summed_grad for p in self.optimizer.params]
        history.extend(self.source, self._rows, sums, [self.std], self.optimizer)
        self.source.reseed(self.noise, self._step)
        for parameter in self.optimizer.params:
            parameter.grad = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            if self.std > 0:
                fill_normal(parameter.grad, self.std, self.noise)
            parameter.grad += parameter.summed_grad.view_as(parameter)
            parameter.summed_grad._processed = True  # Opacus refuses to release a sum twice

    def _accumulate(self, losses: Losses, part: torch.Tensor) -> float:
        """Leave the per-example gradients of one physical batch with the parameters; return the sum of its losses."""
        if not len(part):  # an empty logical batch releases noise alone
            for parameter in self.parameters:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))  # type: ignore[attr-defined]
            return 0.0
        with warnings.catch_warnings(), _positions_expanded(self.model, len(part)):
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            values = losses(part)
            check_losses(values, len(part))
            values.mean().backward()  # type: ignore[no-untyped-call]
        for name, parameter in zip(self.trained.names, self.parameters, strict=True):
            found = getattr(parameter, "grad_sample", None)
            if found is not None and (isinstance(found, list) or len(found) != len(part)):
                raise UnsupportedLayer(f"{name}: Opacus has gradients of other examples for it; try --defense edpsgd")
        for parameter in self.parameters:  # what the loss does not reach has no gradient, as in ordinary training
            if getattr(parameter, "grad_sample", None) is None:
                parameter.grad_sample = parameter.new_zeros((len(part), *parameter.shape))  # type: ignore[attr-defined]
        return float(values.detach().double().sum())


@contextmanager
def _positions_expanded(model: nn.Module, rows: int) -> Iterator[None]:
    """Give embeddings that are fed one row for the whole batch, as position ids are, a row for each example."""

    def expand(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        ids = inputs[0]
        return (ids.expand(rows, *ids.shape[1:]), *inputs[1:]) if ids.dim() > 1 and len(ids) == 1 != rows else None

    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    handles = [table.register_forward_pre_hook(expand) for table in tables]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _opacus() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own and its dependencies' deprecations
            import opacus
            import opacus.optimizers
    except ImportError:
        raise UsageError("dpsgd needs the package opacus: pip install '.[dp]'") from None
    return opacus, opacus.optimizers
