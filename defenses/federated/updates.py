"""What a client sends: its weights after local training minus those before, by the parameter's name, in float32."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

Update = Mapping[str, Tensor]
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def trained_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name: what updates are of. Buffers and frozen weights stay."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights that are trained."""
    return {name: parameter.detach().clone() for name, parameter in trained_of(model).items()}


def load_weights(model: nn.Module, weights: Update) -> None:
    """Put weights into the model, in place."""
    with torch.no_grad():
        for name, parameter in trained_of(model).items():
            parameter.copy_(weights[name])


def difference(model: nn.Module, before: Update) -> dict[str, Tensor]:
    """Return the update of a model that began with the weights `before`."""
    return {name: (p.detach() - before[name]).to(torch.float32) for name, p in trained_of(model).items()}


def zeros_like(weights: Update) -> dict[str, Tensor]:
    """Return an update of nothing."""
    return {name: torch.zeros_like(value, dtype=torch.float32) for name, value in weights.items()}


def norm_of(update: Update) -> float:
    """Return the L2 norm of an update over all of its tensors, added up in float64."""
    return math.sqrt(sum(float(value.detach().double().square().sum()) for value in update.values()))


def trouble_with(update: object, like: Update) -> str | None:
    """Say what is wrong with an update that a client sent, None where nothing is; a client may be hostile."""
    if not isinstance(update, Mapping):
        return f"sent a {type(update).__name__}, not tensors by name"
    if set(update) != set(like):
        odd = sorted(map(str, set(update) ^ set(like)))
        return f"sent other parameters than the model has ({odd[0][:60]}, {len(odd)} in all)"
    for name, wanted in like.items():
        if (trouble := _trouble_of(name, update[name], wanted)) is not None:
            return trouble
    return None


def _trouble_of(name: str, value: object, wanted: Tensor) -> str | None:
    if not isinstance(value, Tensor):
        return f"sent {type(value).__name__} for {name}, which is {tuple(wanted.shape)}"
    # Of a tensor of another kind even the shape, or whether it is finite, may be an error.
    if value.is_nested or value.layout is not torch.strided or value.is_meta or value.dtype not in _NUMBERS:
        return f"sent something for {name} that is no dense tensor of floating-point numbers"
    if value.shape != wanted.shape:
        return f"sent {tuple(value.shape)} for {name}, which is {tuple(wanted.shape)}"
    if not bool(torch.isfinite(value.detach().to(torch.float32)).all()):  # as they are added up
        return f"sent numbers for {name} that are not finite"
    return None


def flat(update: Update) -> Tensor:
    """Return an update as one vector [d], its tensors in the order of their names."""
    return torch.cat([update[name].reshape(-1) for name in sorted(update)])


def unflat(vector: Tensor, like: Update) -> dict[str, Tensor]:
    """Return the update of which `flat` made the vector [d]."""
    parts: dict[str, Tensor] = {}
    at = 0
    for name in sorted(like):
        size = like[name].numel()
        parts[name] = vector[at : at + size].reshape(like[name].shape)
        at += size
    return parts


@torch.no_grad()
def add_scaled(total: dict[str, Tensor], update: Update, scale: float) -> None:
    """Add `scale` times an update to a running total, in place."""
    for name, value in total.items():
        value.add_(update[name], alpha=scale)
