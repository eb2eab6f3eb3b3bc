"""The layers that have an exact rule: how each is run on detached parameters, and the use it leaves on the tape."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.edpsgd.embedding import EmbeddingUse
from defenses.edpsgd.linear import LinearUse, SharedInput
from defenses.edpsgd.normalisation import LayerNormUse
from defenses.edpsgd.recurrent import lstm
from defenses.edpsgd.tape import Tape, UnsupportedLayer, version

Forward = Callable[..., Any]


class Inputs:
    """The inputs that linear maps have read, so that those which read the same one find each other."""

    def __init__(self) -> None:
        """Start without any; the graph alone keeps them alive."""
        self._known: weakref.WeakValueDictionary[object, SharedInput] = weakref.WeakValueDictionary()

    def shared(self, x: Tensor) -> SharedInput:
        """Return what is shared by the maps that read x [B, T, d] as it is now."""
        key = (x.data_ptr(), version(x), x.shape, x.stride(), x.dtype)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = SharedInput(x)
        return found


def linear(name: str, module: Any, tape: Tape, inputs: Inputs, *, transposed: bool = False) -> Forward:
    """Run nn.Linear, or GPT-2's Conv1D (`transposed`)."""

    def forward(x: Tensor) -> Tensor:
        weight, bias = module.weight, module.bias
        matrix = weight.detach().t() if transposed else weight.detach()
        vector = None if bias is None else bias.detach()
        if not torch.is_grad_enabled():
            return functional.linear(x, matrix, vector)
        x = tape.batched(x)
        if x.dim() < 2:
            raise UnsupportedLayer(f"{name}: its input has shape {tuple(x.shape)}; a batch of examples comes first")
        # One matrix in, one out: a view here would lose the hook where an in-place activation follows.
        flat = x.reshape(-1, x.shape[-1])
        shared = inputs.shared(flat.detach().view(x.shape[0], -1, x.shape[-1]))
        use = LinearUse(name, shared, _trained(weight), _trained(bias), transposed=transposed)
        return tape.watch(functional.linear(flat, matrix, vector), use).view(*x.shape[:-1], matrix.shape[0])

    return forward


def conv1d(name: str, module: Any, tape: Tape, inputs: Inputs) -> Forward:
    """Run GPT-2's Conv1D: a linear map whose weight lies transposed."""
    return linear(name, module, tape, inputs, transposed=True)


def embedding(name: str, module: nn.Embedding, tape: Tape, inputs: Inputs) -> Forward:
    """Run nn.Embedding; options that change rows or gradients by the whole batch are refused."""
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        option = "max_norm" if module.max_norm is not None else "sparse" if module.sparse else "scale_grad_by_freq"
        raise UnsupportedLayer(f"{name}: Embedding with {option} has no exact per-example gradient; turn it off")

    def forward(input: Tensor) -> Tensor:
        weight: Any = module.weight
        if not torch.is_grad_enabled():
            return functional.embedding(input, weight.detach(), module.padding_idx)
        ids = tape.batched(input)
        if ids.dim() < 1:
            raise UnsupportedLayer(f"{name}: its input is a single number; a batch of examples comes first")
        use = EmbeddingUse(name, weight, ids, module.padding_idx)
        return tape.watch(functional.embedding(ids, weight.detach(), module.padding_idx), use)

    return forward


def layer_norm(name: str, module: nn.LayerNorm, tape: Tape, inputs: Inputs) -> Forward:
    """Run nn.LayerNorm and keep the statistics of its rows."""

    def forward(input: Tensor) -> Tensor:
        weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
        shape = module.normalized_shape
        if not torch.is_grad_enabled():
            return functional.layer_norm(input, shape, weight, bias, module.eps)
        x = tape.batched(input)
        if x.dim() <= len(shape):
            raise UnsupportedLayer(f"{name}: its input has shape {tuple(x.shape)}; a batch of examples comes first")
        statistics = None
        if x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type):
            output, mean, scale = torch.native_layer_norm(x, shape, weight, bias, module.eps)
            statistics = mean.detach(), scale.detach()
        else:
            output = functional.layer_norm(x, shape, weight, bias, module.eps)
        use = LayerNormUse(name, module, x.detach(), statistics)
        return tape.watch(output, use)

    return forward


def _trained(parameter: nn.Parameter | None) -> nn.Parameter | None:
    return parameter if parameter is not None and parameter.requires_grad else None


Rule = Callable[[str, Any, Tape, Inputs], Forward]
_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Embedding: embedding,
    nn.LayerNorm: layer_norm,
    nn.LSTM: lstm,
}


def rule_for(module: nn.Module) -> Rule | None:
    """Return the rule of a module's very type (a subclass may do something else), or None."""
    if type(module).__module__ == "transformers.pytorch_utils" and type(module).__name__ == "Conv1D":
        return conv1d
    return _RULES.get(type(module))
