"""Are the per-example gradients that Opacus takes those of the examples? Asked before the first step, and now and then.

Its hooks take the first dimension of what a layer reads for the examples. A table of relative positions is read once
for all of them, as [T, T]: where a text has as many tokens as the batch has rows, nothing fails and each row is clipped
by the gradient of a place. What is used outside of its layer's own call, or read by its name, is not seen at all.

So the losses of single rows are run backward. Every other row must then have no gradient, and the gradients of all
rows must add up to what autograd itself has: then each row has its own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.checks import check_losses
from defenses.edpsgd.layers import rule_for
from defenses.edpsgd.refusals import TrainedWeights, blamed
from defenses.edpsgd.tape import UnsupportedLayer
from defenses.edpsgd.untouched import left_as_it_was
from redteam.core import RedteamError, UsageError

Losses = Callable[[Tensor], Tensor]

_TOLERANCE = 1e-3  # of a weight's gradient; float32 rounds to about 1e-6 of it
_NOTHING = 1e-6  # of the gradient of all weights: what is smaller may be rounding alone
_ROUNDINGS = 8  # of a coarser format
_UNSEEN = "its call is checkpointed, or its weight is used outside of it"
MOST_ROWS = 3  # asked about at once: with three, no two dimensions are the same by chance in each of them


def hooked(opacus: Any, model: nn.Module) -> Any:
    """Put Opacus's hooks on the model and return them; UnsupportedLayer for a layer that it will not have."""
    try:
        return opacus.GradSampleModule(model)
    except NotImplementedError as error:  # a trained layer with buffers, such as a table that scales what it gives
        said = " ".join(str(error).split())
        found = re.search(r"currently support\((.*?):(\w+)\(", said)
        layer = f"{found[1]} ({found[2]})" if found else said[:160]
        raise UnsupportedLayer(
            f"Opacus has no exact gradient of each example for {layer}: it is trained and has buffers; "
            "try RD102 (--defense edpsgd)"
        ) from None


def refuse_unsupported(model: nn.Module) -> None:
    """Raise UsageError naming the first layer that Opacus cannot train exactly."""
    from opacus.validators import ModuleValidator

    problems = ModuleValidator.validate(model.train(model.training), strict=False)
    trained = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    for module in (*trained, *model.modules()):
        kind = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UsageError(f"{kind} mixes the rows of a batch: no row can be bounded; use LayerNorm")
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
            raise UsageError(f"Opacus has no rule for {kind}: use its own DP{kind}, or --defense edpsgd")
    for problem in problems:
        if "training mode" not in str(problem):
            raise UsageError(f"Opacus cannot train this model: {' '.join(str(problem).split())}")


def check_exact(hooked: Any, model: nn.Module, trained: TrainedWeights, losses: Losses, rows: Tensor) -> None:
    """Raise UnsupportedLayer, naming the layer, unless each of the rows int64 [b] has its own gradient from the hooks.

    `hooked` are Opacus's hooks. The model, its gradients and all random generators are left as they were.
    """
    for name in trained.names:
        layer = name.rpartition(".")[0]
        owner = model.get_submodule(layer)
        if not owner.training:
            raise UnsupportedLayer(
                f"Opacus leaves {layer or 'the model'} ({type(owner).__name__}) alone, which is in eval mode: call "
                "train() on the model"
            )
    devices = sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        for place in range(len(rows)):
            with left_as_it_was(model, devices):
                try:
                    _check_one(hooked, model, trained, losses, rows, place)
                finally:
                    forget_gradients(model)


def forget_gradients(model: nn.Module) -> None:
    """Take off the model what Opacus's hooks and a backward left in it."""
    for parameter in model.parameters():
        parameter.grad = None
        for name in ("grad_sample", "_current_grad_sample"):
            if getattr(parameter, name, None) is not None:
                setattr(parameter, name, None)
        if hasattr(parameter, "_current_grad_sample"):
            del parameter._current_grad_sample
        if hasattr(parameter, "_forward_counter"):
            parameter._forward_counter = 0
    for module in model.modules():
        for name in ("activations", "max_batch_len"):
            if name in module.__dict__:
                delattr(module, name)


def _check_one(
    hooked: Any, model: nn.Module, trained: TrainedWeights, losses: Losses, rows: Tensor, place: int
) -> None:
    try:
        values = losses(rows)
        check_losses(values, len(rows))
        if not values.requires_grad or not bool(values.detach().isfinite().all()):
            return  # what is wrong with them is said where they are trained on
        (values * (torch.arange(len(rows), device=values.device) == place)).mean().backward()  # type: ignore[no-untyped-call]
    except RedteamError:
        raise
    except Exception as error:
        if not _works_without(hooked, losses, rows):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise _refusal(model, blamed(error, model), f"its hooks fail on it: {said}") from error
    whole = torch.stack([p.grad.double().norm() for p in trained.parameters if p.grad is not None]).norm()
    for name, parameter in zip(trained.names, trained.parameters, strict=True):
        wrong = _fault(parameter, len(rows), place, float(whole))
        if wrong:
            owner = model.get_submodule(name.rpartition(".")[0])
            raise _refusal(model, f"{name.rpartition('.')[0] or 'the model'} ({type(owner).__name__})", wrong)


def _fault(parameter: Any, rows: int, place: int, whole: float) -> str | None:
    """Return what is wrong with a weight's gradients for the examples, where only the one at `place` has a loss."""
    own, each = parameter.grad, getattr(parameter, "grad_sample", None)
    if each is None:
        return _UNSEEN if own is not None and bool(own.any()) else None
    if isinstance(each, list) or each.shape != (rows, *parameter.shape):
        return "the first dimension of what it reads is not the examples"
    own = torch.zeros_like(parameter) if own is None else own * rows  # Opacus undoes the mean
    tolerance = max(_TOLERANCE, _ROUNDINGS * torch.finfo(each.dtype).eps)
    allowed = tolerance * float(own.double().norm()) + _NOTHING * rows * whole
    others = torch.cat([each[:place], each[place + 1 :]]).double()
    if float(others.norm()) > allowed:
        return "one example's loss gives a gradient to another example"
    if not float((each[place].double() - own.double()).norm()) <= allowed:
        return "the gradients of the examples do not add up to that of the batch"
    return None


def _works_without(hooked: Any, losses: Losses, rows: Tensor) -> bool:
    hooked.disable_hooks()
    try:
        losses(rows).sum().backward()  # type: ignore[no-untyped-call]
    except Exception:
        return False
    finally:
        hooked.enable_hooks()
    return True


def _refusal(model: nn.Module, layer: str, why: str) -> UnsupportedLayer:
    modules = {f"{name or 'the model'} ({type(module).__name__})": module for name, module in model.named_modules()}
    known = layer in modules and rule_for(modules[layer]) is not None
    instead = "RD102 (--defense edpsgd) has an exact rule for it" if known else "try RD102 (--defense edpsgd)"
    return UnsupportedLayer(f"Opacus has no exact gradient of each example for {layer}: {why}; {instead}")
