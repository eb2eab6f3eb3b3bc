"""The layers that have an exact rule: how each is run on detached parameters, and the use it leaves on the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.edpsgd.attention import attention
from defenses.edpsgd.convolution import convolution
from defenses.edpsgd.embedding import EmbeddingUse
from defenses.edpsgd.inputs import Inputs, watched_linear
from defenses.edpsgd.normalisation import LayerNormUse
from defenses.edpsgd.recurrent import recurrent
from defenses.edpsgd.scales import group_norm, is_rms_norm, own_rms_norm, rms_norm
from defenses.edpsgd.tables import embedding_bag
from defenses.edpsgd.tape import Tape, UnsupportedLayer

Forward = Callable[..., Any]


def linear(name: str, module: Any, tape: Tape, inputs: Inputs, *, transposed: bool = False) -> Forward:
    """Run nn.Linear, or GPT-2's Conv1D (`transposed`)."""

    def forward(x: Tensor) -> Tensor:
        weight, bias = module.weight, module.bias
        if not torch.is_grad_enabled():
            matrix = weight.detach().t() if transposed else weight.detach()
            return functional.linear(x, matrix, None if bias is None else bias.detach())
        return watched_linear(name, x, weight, bias, tape, inputs, transposed=transposed)

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


Rule = Callable[[str, Any, Tape, Inputs], Forward]
_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Embedding: embedding,
    nn.EmbeddingBag: embedding_bag,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    nn.GroupNorm: group_norm,
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
    nn.RNN: recurrent,
    nn.MultiheadAttention: attention,
}
# Every parameter of these has its rule, whatever its name; all others have `weight` and `bias` alone.
_WHOLE = (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)


def rule_for(module: nn.Module) -> Rule | None:
    """Return the rule of a module, or None.

    It is that of its type, or of the type that it inherits from (`base_of`: what a subclass makes of its base's forward
    is seen by autograd, and a use of the parameters outside of it is refused); an RMSNorm of a model's own is asked.
    """
    if type(module).__module__ == "transformers.pytorch_utils" and type(module).__name__ == "Conv1D":
        return conv1d
    base = base_of(module)
    if base is not None:
        return _RULES[base]
    return own_rms_norm if is_rms_norm(module) else None


def base_of(module: nn.Module) -> type[nn.Module] | None:
    """Return the type with a rule that a module is or inherits from; recurrent layers must be it."""
    base = next((kind for kind in type(module).__mro__ if kind in _RULES), None)
    return None if base in _WHOLE and type(module) is not base else base


def covers(module: nn.Module, names: list[str]) -> bool:
    """Tell whether a module's rule is for all of the parameters that are named."""
    return isinstance(module, _WHOLE) or set(names) <= {"weight", "bias"}
