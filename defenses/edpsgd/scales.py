"""RMSNorm and GroupNorm: y = weight * f(x) + bias, where f has no parameters and keeps examples apart.

A per-example gradient is as small as the layer, so it is made and kept: the sum of dL/dy * f(x), and of dL/dy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from defenses.edpsgd.gram import single
from defenses.edpsgd.inputs import trained
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import Tape, UnsupportedLayer

_PROBES = 4


class ScaleUse:
    """One call of y = weight * normalised + bias; `normalised` and dL/dy are [B, N, K] for a weight of K numbers."""

    def __init__(self, name: str, weight: nn.Parameter | None, bias: nn.Parameter | None, normalised: Tensor) -> None:
        """Keep what the weight was multiplied with; a parameter that is not trained is None."""
        self.name, self.weight, self.bias, self.batch = name, weight, bias, len(normalised)
        self.parameters = tuple(p for p in (weight, bias) if p is not None)
        self._normalised: Tensor | None = normalised if weight is not None else None

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient and keep the per-example gradients of weight and bias."""
        flat = single(self._arranged(gradient))
        if self.weight is not None and self._normalised is not None:
            into.add_vector(self.weight, (flat * single(self._normalised)).sum(1))
        if self.bias is not None:
            into.add_vector(self.bias, flat.sum(1))
        self._normalised = None

    def _arranged(self, gradient: Tensor) -> Tensor:
        count = (self.weight if self.weight is not None else self.parameters[0]).numel()
        return gradient.reshape(self.batch, -1, count)


class ChannelUse(ScaleUse):
    """The same where dL/dy is [B, K, ...]: channels before positions."""

    def _arranged(self, gradient: Tensor) -> Tensor:
        return gradient.reshape(self.batch, gradient.shape[1], -1).transpose(1, 2)


def rms_norm(name: str, module: nn.RMSNorm, tape: Tape, inputs: object) -> Callable[[Tensor], Tensor]:
    """Run nn.RMSNorm."""

    def forward(x: Tensor) -> Tensor:
        shape, weight, eps = module.normalized_shape, module.weight.detach(), module.eps
        if not torch.is_grad_enabled():
            return functional.rms_norm(x, shape, weight, eps)
        x = _with_batch(name, x, tape, len(shape))
        normalised = functional.rms_norm(x.detach(), shape, None, eps).reshape(len(x), -1, weight.numel())
        use = ScaleUse(name, trained(module.weight), None, normalised)
        return tape.watch(functional.rms_norm(x, shape, weight, eps), use)

    return forward


def group_norm(name: str, module: nn.GroupNorm, tape: Tape, inputs: object) -> Callable[[Tensor], Tensor]:
    """Run nn.GroupNorm, whose groups are of channels of one example."""

    def forward(x: Tensor) -> Tensor:
        weight, bias = module.weight.detach(), module.bias.detach()
        if not torch.is_grad_enabled():
            return functional.group_norm(x, module.num_groups, weight, bias, module.eps)
        x = _with_batch(name, x, tape, 1)
        normalised = functional.group_norm(x.detach(), module.num_groups, eps=module.eps)
        arranged = normalised.reshape(*x.shape[:2], -1).transpose(1, 2)
        use = ChannelUse(name, trained(module.weight), trained(module.bias), arranged)
        return tape.watch(functional.group_norm(x, module.num_groups, weight, bias, module.eps), use)

    return forward


def own_rms_norm(name: str, module: Any, tape: Tape, inputs: object) -> Callable[[Tensor], Tensor]:
    """Run an RMSNorm of a model's own, as T5, Llama and Gemma have: `is_rms_norm` saw what it computes."""
    kind = _kind(module)

    def forward(x: Tensor) -> Tensor:
        weight = module.weight.detach()
        if not torch.is_grad_enabled():
            return _own(kind, x, weight, _eps(module))
        x = _with_batch(name, x, tape, 1)
        normalised = _normalised(x.detach(), _eps(module)).reshape(len(x), -1, len(weight))
        return tape.watch(_own(kind, x, weight, _eps(module)), ScaleUse(name, trained(module.weight), None, normalised))

    return forward


def is_rms_norm(module: nn.Module) -> bool:
    """Tell whether a module of any class computes weight * x / rms(x), or (1 + weight) * x / rms(x): it is asked."""
    return _kind(module) is not None


def _kind(module: Any) -> str | None:
    """Return which of the two a module computes on random inputs and weights, or None."""
    names = [name for name, _ in module.named_parameters()]
    if names != ["weight"] or module.weight.dim() != 1 or not isinstance(_eps(module), float):
        return None
    weight = module.weight
    if not weight.is_floating_point() or weight.is_meta:
        return None
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(_PROBES, 3, len(weight), generator=generator).to(weight)
    scale = torch.randn(len(weight), generator=generator).to(weight)
    try:
        with torch.no_grad():
            given = functional_call(module, {"weight": scale}, (probe,))
            for kind in ("plain", "one more"):
                ours = _own(kind, probe, scale, _eps(module))
                if given.shape == ours.shape and torch.allclose(given.float(), ours.float(), rtol=1e-2, atol=1e-2):
                    exact = weight.dtype not in (torch.float32, torch.float64)
                    return kind if exact or torch.allclose(given, ours, rtol=1e-5, atol=1e-5) else None
    except (RuntimeError, TypeError, AttributeError, IndexError, ValueError):  # it wants other arguments: another thing
        return None
    return None


def _own(kind: str | None, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    scale = weight if kind == "plain" else 1.0 + weight.float()
    return (scale * _normalised(x, eps)).to(weight.dtype if kind == "plain" else x.dtype)


def _normalised(x: Tensor, eps: float) -> Tensor:
    wide = single(x)
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def _eps(module: Any) -> Any:
    for name in ("variance_epsilon", "eps", "epsilon"):
        if name in module.__dict__:
            return module.__dict__[name]
    return None


def _with_batch(name: str, x: Tensor, tape: Tape, own: int) -> Tensor:
    x = tape.batched(x)
    if x.dim() <= own:
        raise UnsupportedLayer(f"{name}: its input has shape {tuple(x.shape)}; a batch of examples comes first")
    return x
