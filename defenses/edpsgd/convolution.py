"""nn.Conv1d: a linear map of windows, so its norms are those of a linear map over places.

With groups, as depthwise convolutions have, the weight is small and each example's gradient is made and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from defenses.edpsgd.gram import single
from defenses.edpsgd.inputs import trained
from defenses.edpsgd.linear import LinearUse, SharedInput
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import Tape, UnsupportedLayer


class ConvUse:
    """One call of a convolution without groups on `windows` [B, T, d * k]."""

    def __init__(self, name: str, module: Any, windows: Tensor) -> None:
        """Hand what is read to a linear use."""
        self.name, self.batch = name, len(windows)
        self._linear = LinearUse(name, SharedInput(windows), trained(module.weight), trained(module.bias))
        self.parameters = self._linear.parameters

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient [B, p, T]."""
        self._linear.receive(gradient.transpose(1, 2).contiguous(), into)


class GroupedConvUse:
    """One call of a convolution with groups on `windows` [B, T, d * k]."""

    def __init__(self, name: str, module: Any, windows: Tensor) -> None:
        """Keep the windows of a layer whose weight is trained."""
        self.name, self.batch, self._groups = name, len(windows), module.groups
        self.weight, self.bias = trained(module.weight), trained(module.bias)
        self.parameters = tuple(p for p in (self.weight, self.bias) if p is not None)
        self._windows: Tensor | None = windows if self.weight is not None else None

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient [B, p, T] and keep the per-example gradients."""
        gradient = single(gradient)
        if self.weight is not None and self._windows is not None:
            rows = gradient.reshape(self.batch, self._groups, -1, gradient.shape[2])
            columns = single(self._windows).reshape(self.batch, gradient.shape[2], self._groups, -1)
            into.add_vector(self.weight, torch.einsum("bgpt,btgd->bgpd", rows, columns))
        if self.bias is not None:
            into.add_vector(self.bias, gradient.sum(2))
        self._windows = None


def convolution(name: str, module: Any, tape: Tape, inputs: object) -> Callable[[Tensor], Tensor]:
    """Run nn.Conv1d, with any padding, stride, dilation and groups."""
    use_of = ConvUse if module.groups == 1 else GroupedConvUse
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode

    def forward(x: Tensor) -> Tensor:
        weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
        if torch.is_grad_enabled():
            x = tape.batched(x)
            if x.dim() != 3:
                raise UnsupportedLayer(f"{name}: its input has shape {tuple(x.shape)}; it needs a batch of examples")
        x = functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)  # as nn.Conv1d itself pads
        output = functional.conv1d(x, weight, bias, module.stride, 0, module.dilation, module.groups)
        if not torch.is_grad_enabled():
            return output
        (size,), (stride,), (dilation,) = module.kernel_size, module.stride, module.dilation
        columns = functional.unfold(x.detach().unsqueeze(2), (1, size), (1, dilation), 0, (1, stride))
        return tape.watch(output, use_of(name, module, columns.transpose(1, 2).contiguous()))

    return forward
