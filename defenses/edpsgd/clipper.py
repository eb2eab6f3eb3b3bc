"""Exact per-example clipping with one forward, one backward and no per-example gradients.

    with ExampleClipper(model, clip=1.0) as clipper:
        clipper.buffer.normal_(0.0, std)
        clipper.add(cross_entropy(model(**batch).logits, labels, reduction="none"), scale=1 / expected_batch)
        optimizer.step()

While it is open, layers run on detached parameters, so that the backward makes input gradients alone; norms come from
inputs and output gradients, and the clipped sum goes straight into one flat buffer (Bu et al. 2023, "Differentially
private optimization on large model at small cost"). What has no exact rule is refused by name.

So is a model that mixes examples: at the first batches, and then now and again, it is called once more on other rows
(`separation.py`). What is done to a batch before the model sees it, as by mixup, or to its output, only who can ask for
other rows can check: `PrivateTrainer` does, and in a loop of one's own `check_separate` is there for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from defenses.edpsgd import kernel as compiled
from defenses.edpsgd.backward import BackwardPass
from defenses.edpsgd.calls import Calls
from defenses.edpsgd.passes import Scratch
from defenses.edpsgd.patching import lifted, patch, refuse_tables_that_shrink, restore
from defenses.edpsgd.refusals import TrainedWeights, blamed, gradients, refuse_compiled, refuse_compiling
from defenses.edpsgd.sampling import IntArray
from defenses.edpsgd.separation import FLOOR, Losses, Separation
from defenses.edpsgd.tape import Tape, UnsupportedLayer, Use
from defenses.edpsgd.untouched import left_as_it_was
from redteam.core import RedteamError, UsageError, first_line

__all__ = ["Clipped", "ExampleClipper", "UnsupportedLayer"]

_SLACK = 1e-5  # norms are float32: clipping to a little less keeps their rounding from breaking the bound

_CLIPS = 1e-4, 1e12  # beyond, squares that matter would not be float32 numbers


@dataclass(frozen=True)
class Clipped:
    """Norms of the examples' gradients before clipping, float32 [b], and how many examples were dropped.

    An example whose gradient is not finite, or too large for its square to be, adds nothing; its norm is not finite.
    """

    norms: Tensor
    dropped: int


class ExampleClipper:
    """Adds up the clipped gradients of a model's examples in `buffer`, float32 [P], noise or zeros beforehand.

    `parameters` are the trainable ones; their `.grad` are views into `buffer` (copies, made by `publish`, where they
    are not float32). Raises UnsupportedLayer, naming the module, and UsageError.
    """

    def __init__(self, model: nn.Module, *, clip: float, kernel: bool | None = None) -> None:
        """Take over the trainable layers of the model until `close`."""
        refuse_compiled(model)
        refuse_tables_that_shrink(model)
        if not _CLIPS[0] <= clip <= _CLIPS[1]:
            raise UsageError(f"clip is {clip:g}; give a norm from {_CLIPS[0]:g} to {_CLIPS[1]:g}")
        self._model, self._trained = model, TrainedWeights(model)
        self.parameters, self._names = self._trained.parameters, self._trained.names
        if kernel and not compiled.available():
            raise UsageError("the compiled kernel was asked for and is not available here; leave kernel out")
        self._compiled = compiled.available() if kernel is None else kernel
        self._bound = clip * (1.0 - _SLACK)
        self._batch_norms = tuple((n, m) for n, m in model.named_modules() if isinstance(m, _BatchNorm))
        self._refuse_batch_norm()
        device = self.parameters[0].device
        self.buffer = torch.zeros(sum(p.numel() for p in self.parameters), device=device)
        self._views = dict(zip(map(id, self.parameters), _views(self.buffer, self.parameters), strict=True))
        self._tape, self._scratch, self._separate = Tape(device), Scratch(), False
        self._separation, self._calls = Separation(model, self._sum_of_kept), Calls(model)
        self._asked = False  # by who knows the losses, which tells more than the model alone
        self._patched = patch(model, self._tape)
        self._views |= self._parts_of(self._views)
        self._hook = model.register_forward_pre_hook(self._called, prepend=True, with_kwargs=True)
        self._grads_before = [p.grad for p in self.parameters]
        self.publish()

    def __enter__(self) -> Self:
        """Return the clipper itself."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Give the model back."""
        self.close()

    def close(self) -> None:
        """Give the model back as it was; harmless when done twice."""
        restore(self._patched)
        for parameter, grad in zip(self.parameters, self._grads_before, strict=True) if self._patched else ():
            parameter.grad = grad
        self._patched = ()
        self._calls.forget()
        self._hook.remove()

    def publish(self) -> None:
        """Let the parameters' `.grad` show the buffer; needed before an optimizer's step where no `add` came before."""
        for parameter in self.parameters:
            view = self._views[id(parameter)]
            if parameter.dtype == torch.float32:
                if parameter.grad is not view:
                    parameter.grad = view
            else:
                parameter.grad = view.to(parameter.dtype)

    def add(self, losses: Tensor, *, scale: float = 1.0) -> Clipped:
        """Run the backward of `losses` [b] and add `scale` times the sum of the clipped gradients to the buffer.

        Raises UsageError for losses that are not one an example or depend on no trained layer, and UnsupportedLayer
        for a layer or a use of one that has no exact rule; the buffer is untouched then.
        """
        self._check(losses)
        self._check_separate(losses)
        if not self._asked and (calls := self._calls.take(len(losses))) is not None:
            self._separation.check_now_and_then(calls, torch.arange(len(losses), device=losses.device))
        norms, dropped = self._clip(losses, self._views, scale)
        self.publish()
        return Clipped(norms, dropped)

    def named(self, losses: Losses) -> Losses:
        """Return `losses` with an error that only the rules of the layers bring about turned into UnsupportedLayer."""

        def ask(rows: Tensor) -> Tensor:
            try:
                return losses(rows)
            except RedteamError:
                raise
            except Exception as error:
                refuse_compiling(error)
                if not self._works_without(losses, rows):
                    raise
                raise UnsupportedLayer(
                    f"{blamed(error, self._model)}: takes what a layer made of the batch for something else "
                    f"({first_line(error)}); no exact rule applies: freeze that layer, or train another model"
                ) from error

        return ask

    def _works_without(self, losses: Losses, rows: Tensor) -> bool:
        with lifted(self._patched), torch.no_grad(), left_as_it_was(self._model, []):
            try:
                losses(rows)
            except Exception:
                return False
        return True

    def check_separate(self, losses: Losses, rows: Tensor, rng: np.random.Generator | None = None) -> None:
        """Refuse losses that mix examples; `losses(rows)`, called a few times, gives those of any rows, int64 [b].

        Adds nothing to the buffer and leaves all random generators as they were; `rng` chooses which rows stay. Raises
        UnsupportedLayer, with the name of the module that mixes where it can be found.
        """
        self._asked = True
        self._separation.check(losses, rows, rng)

    def check_batch(self, step: int, losses: Losses, parts: list[IntArray], rng: np.random.Generator) -> None:
        """Do `check_separate` on one physical part of a step's batch, at the first steps and then now and again."""
        self._asked = True
        self._separation.check_batch(step, losses, parts, self.buffer.device, rng)

    def _sum_of_kept(self, losses: Tensor, kept: Tensor) -> tuple[Tensor, float]:
        total = torch.zeros_like(self.buffer)
        if not losses.requires_grad:  # `add` says what is wrong with them
            return total, FLOOR
        self._check(losses)
        self._check_separate(losses)
        views = dict(zip(map(id, self.parameters), _views(total, self.parameters), strict=True))
        views |= self._parts_of(views)
        norms, _ = self._clip(losses, views, kept.to(total.dtype))
        possible = norms.clamp(max=self._bound)[kept & norms.isfinite()].double().sum()
        return total, float(possible) + FLOOR * min(self._bound, 1.0)

    def _parts_of(self, views: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return the views of the stand-ins for parts of parameters."""
        return {id(part): views[id(whole)][rows] for part, whole, rows in self._tape.parts if id(whole) in views}

    def _clip(self, losses: Tensor, views: dict[int, Tensor], scale: float | Tensor) -> tuple[Tensor, int]:
        """Add the clipped gradients, each times its scale, to `views`; return norms and how many were dropped."""
        done = BackwardPass(len(losses), views, self._tape.repeated(), self._scratch, compiled=self._compiled)
        self._backward(losses, torch.ones_like(losses), lambda use, gradient: use.receive(gradient, done), keep=False)
        with torch.no_grad():
            norms = done.norms()
            dropped = ~torch.isfinite(norms)
            weights = (self._bound / norms).clamp_(max=1.0).mul_(scale).masked_fill_(dropped, 0.0)
            count = int(dropped.sum())
            if count:
                done.drop(dropped)
            done.add_to_buffer(weights)
        done.release()
        return norms, count

    def _called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            self._trained.check()
            self._refuse_batch_norm()
            self._tape.batch = _leading((*args, *kwargs.values()))
            self._calls.note(args, kwargs)

    def _check(self, losses: Tensor) -> None:
        if not self._patched:
            raise UsageError("the ExampleClipper is closed")
        self._trained.check()
        if losses.dim() != 1:
            raise UsageError(f"losses of shape {tuple(losses.shape)}; give one loss per example (reduction='none')")
        if not losses.requires_grad:
            raise UsageError("the losses depend on no trained layer of the model; was it run under torch.no_grad()?")

    def _check_separate(self, losses: Tensor) -> None:
        """Refuse a model that mixes examples: the losses of some must send nothing to the rows of the others."""
        if self._separate or len(losses) < 2:
            return

        def look(use: Use, gradient: Tensor) -> None:
            others = gradient.reshape(len(losses), -1)[~chosen]
            if bool(((others != 0) & torch.isfinite(others)).any()):
                raise UnsupportedLayer(
                    f"{use.name}: one example's loss depends on another's row of its output; examples are mixed, "
                    "or the first dimension is not the batch"
                )

        for chosen in _halves(len(losses), losses.device):
            self._backward(losses, chosen.to(losses.dtype), look, keep=True)
        self._separate = True

    def _backward(self, losses: Tensor, weights: Tensor, receive: Any, *, keep: bool) -> None:
        def checked(use: Use, gradient: Tensor) -> None:
            if use.batch != len(losses):
                raise UnsupportedLayer(
                    f"{use.name}: the first dimension of its input is {use.batch}, but there are {len(losses)} losses; "
                    "give one loss per example (reduction='none'), and batches whose first dimension is the examples"
                )
            seen.add(use.name)
            if not keep:
                self._tape.forget(use)
            receive(use, gradient)

        seen: set[str] = set()
        self._tape.receiver = checked
        try:
            inputs = (self._tape.origin, *self.parameters)
            grads = gradients(losses, inputs, weights, retain_graph=keep)
        finally:
            self._tape.receiver = None
        reached = [n for n, g in zip(self._names, grads[1:], strict=True) if g is not None]
        if reached:
            raise UnsupportedLayer(f"{reached[0]}: used outside its own layer's forward, where no exact rule applies")
        if not seen:
            raise UsageError("the losses depend on no trained layer of the model")

    def _refuse_batch_norm(self) -> None:
        for name, module in self._batch_norms:
            trained = any(p.requires_grad for p in module.parameters(recurse=False))
            if trained or module.training or not module.track_running_stats:
                raise UnsupportedLayer(
                    f"{name}: {type(module).__name__} mixes the examples of a batch, so that no example has a gradient "
                    "of its own; use LayerNorm, or freeze it and call its eval()"
                )


def _halves(batch: int, device: torch.device) -> list[Tensor]:
    """Return masks [batch] of some examples: of any two among 8, one mask has the first alone, one the second."""
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(0)).to(device)
    bits = [order // 2**k % 2 == 1 for k in range(min(3, (batch - 1).bit_length()))]
    return [mask for bit in bits for mask in (bit, ~bit)]


def _views(buffer: Tensor, parameters: tuple[nn.Parameter, ...]) -> list[Tensor]:
    parts = torch.split(buffer, [p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


def _leading(values: Any) -> int | None:
    """Return the first dimension of the first tensor in nested arguments."""
    for value in values:
        if isinstance(value, Tensor):
            if value.dim() > 0:
                return value.shape[0]
        elif isinstance(value, dict):
            found = _leading(value.values())
            if found is not None:
                return found
        elif isinstance(value, (list, tuple)):
            found = _leading(value)
            if found is not None:
                return found
    return None
