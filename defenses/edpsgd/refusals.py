"""What private training cannot be exact about and would else end in an error of torch: each refused by its name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.tape import UnsupportedLayer
from redteam.core import UsageError


class TrainedWeights:
    """The trainable weights of a model, which must stay the same while they are trained privately."""

    def __init__(self, model: nn.Module) -> None:
        """Note them; UsageError where there are none."""
        self._model = model
        self._known = self._now()
        if not self._known:
            raise UsageError("the model has no trainable parameters: nothing to clip")

    @property
    def names(self) -> tuple[str, ...]:
        """Their names in the model, in its order."""
        return tuple(self._known)

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The weights, in the same order."""
        return tuple(self._known.values())

    def check(self) -> None:
        """Raise UsageError where a weight was frozen, unfrozen, added, taken out or replaced since."""
        now, why = self._now(), "while it is trained privately; close the trainer, change the model, and open another"
        for name, parameter in self._known.items():
            if name not in now:
                did = "taken out" if parameter.requires_grad else "frozen"
                raise UsageError(f"{name} was {did} {why}")
            if now[name] is not parameter:
                raise UsageError(f"{name} was replaced by another tensor {why}")
        for name in now:
            if name not in self._known:
                raise UsageError(f"{name} was unfrozen or added {why}")

    def _now(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._model.named_parameters() if p.requires_grad}


def refuse_compiled(model: nn.Module) -> None:
    """Raise UnsupportedLayer for a model of which torch.compile or TorchScript runs a part: its layers have no say."""
    for name, module in model.named_modules():
        compiled = getattr(module, "_compiled_call_impl", None) is not None
        if compiled or isinstance(module, torch._dynamo.OptimizedModule):
            raise UnsupportedLayer(
                f"{name or 'the model'}: torch.compile runs it, past the layers whose gradients are clipped; train the "
                "model as it was before torch.compile"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedLayer(
                f"{name or 'the model'}: TorchScript runs it, past the layers whose gradients are clipped; train the "
                "model that it was made from"
            )


def refuse_compiling(error: BaseException) -> None:
    """Raise UnsupportedLayer where an error comes through torch.compile, at work on what calls the model."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("torch._dynamo"):
            raise UnsupportedLayer(
                "torch.compile runs what calls the model, past the layers whose gradients are clipped; compute the "
                "losses without torch.compile"
            ) from error
        trace = trace.tb_next


def refuse_closures(optimizer: torch.optim.Optimizer) -> None:
    """Raise UsageError for an optimiser that asks for the loss itself, as LBFGS does: what it asks gets no noise."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UsageError(
            f"{type(optimizer).__name__} asks for the losses several times a step, where no noise is added; use one "
            "that takes one gradient a step, such as Adam or SGD"
        )


def gradients(outputs: Tensor, inputs: Sequence[Tensor], weights: Tensor | None = None, **how: Any) -> Any:
    """Return `torch.autograd.grad`, None for what was not reached; UnsupportedLayer where checkpoints forbid it."""
    try:
        return torch.autograd.grad(outputs, tuple(inputs), weights, allow_unused=True, **how)
    except RuntimeError:
        if _is_reentrant(outputs):
            raise UnsupportedLayer(
                "the model is checkpointed with use_reentrant=True, under which gradients are computed in a backward "
                "of their own; say use_reentrant=False"
            ) from None
        raise


def blamed(error: BaseException, model: nn.Module) -> str:
    """Return the name and kind of the innermost module of the model that an error comes from."""
    names, found = {id(module): name for name, module in model.named_modules()}, ""
    trace = error.__traceback__
    while trace is not None:
        for local in ("self", "module", "layer"):
            module = trace.tb_frame.f_locals.get(local)
            if id(module) in names and isinstance(module, nn.Module):
                found = f"{names[id(module)] or 'the model'} ({type(module).__name__})"
        trace = trace.tb_next
    return found or f"the model ({type(model).__name__})"


def _is_reentrant(outputs: Tensor) -> bool:
    """Look for the node of a reentrant checkpoint in the graph behind `outputs`."""
    seen: set[Any] = set()
    waiting = [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "CheckpointFunctionBackward":
            return True
        waiting += [each for each, _ in node.next_functions]
    return False
