"""LayerNorm: a per-example gradient is as small as the layer, so it is made and kept."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from defenses.edpsgd import kernel
from defenses.edpsgd.gram import single
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import version
from redteam.core import UsageError


class LayerNormUse:
    """One call of a LayerNorm; `statistics` are the mean and 1/std of its rows where the forward made them."""

    def __init__(
        self,
        name: str,
        layer: nn.LayerNorm,
        inputs: Tensor,
        statistics: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Keep the input of a layer whose weight or bias is trained."""
        self.name, self._shape, self._eps = name, layer.normalized_shape, layer.eps
        self.weight = layer.weight if layer.weight.requires_grad else None
        self.bias = layer.bias if layer.bias is not None and layer.bias.requires_grad else None
        self.batch = inputs.shape[0]
        self.parameters = tuple(p for p in (self.weight, self.bias) if p is not None)
        self._inputs: Tensor | None = inputs if self.weight is not None else None
        self._version = version(inputs)
        self._statistics = statistics

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient and keep the per-example gradients of weight and bias."""
        flat = single(gradient).reshape(self.batch, -1, *self._shape)
        if self.weight is not None and self._inputs is not None:
            if version(self._inputs) != self._version:
                raise UsageError(f"{self.name}: its input was changed in place after the layer read it; use a copy")
            if self._compiled(flat, into):
                return
            into.add_vector(self.weight, self._normalised(into, self._inputs).view_as(flat).mul_(flat).sum(1))
        if self.bias is not None:
            into.add_vector(self.bias, flat.sum(1))
        self._inputs = self._statistics = None

    def _compiled(self, gradient: Tensor, into: Pass) -> bool:
        """Take both gradients in one pass of the kernel, where it can; say whether it did."""
        if not into.compiled or self._statistics is None or self.bias is None or len(self._shape) != 1:
            return False
        assert self.weight is not None
        assert self._inputs is not None
        inputs, statistics = self._inputs.reshape(gradient.shape), self._statistics
        if not kernel.suits(inputs, gradient):
            return False
        weight, bias = kernel.layer_norm(inputs, gradient, *statistics)
        into.add_vector(self.weight, weight)
        into.add_vector(self.bias, bias)
        self._inputs = self._statistics = None
        return True

    def _normalised(self, into: Pass, inputs: Tensor) -> Tensor:
        if self._statistics is None:
            return functional.layer_norm(single(inputs), self._shape, eps=self._eps)
        mean, scale = self._statistics
        return into.subtract(inputs, mean).mul_(scale)
