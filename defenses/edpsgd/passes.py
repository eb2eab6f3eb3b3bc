"""What the uses of one batch hand in during its backward, and the memory they share: what layers know of a pass."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.gram import Ghosts, single


class Scratch:
    """Memory that every pass uses again: fresh pages cost as much as the arithmetic on them."""

    def __init__(self) -> None:
        """Start with none."""
        self._memory: Tensor | None = None

    def like(self, tensor: Tensor) -> Tensor:
        """Return float32 memory of the tensor's shape; whatever was asked for before is overwritten."""
        count = tensor.numel()
        if self._memory is None or self._memory.numel() < count or self._memory.device != tensor.device:
            self._memory = torch.empty(count, device=tensor.device)
        return self._memory[:count].view(tensor.shape)


class Pass:
    """What the uses of one batch say: squared norms [B], and what their weighted sum is made of.

    `gradients` are the buffer's views by parameter id; `repeated` the ids of parameters with more than one use.
    """

    def __init__(
        self,
        batch: int,
        gradients: Mapping[int, Tensor],
        repeated_ids: frozenset[int],
        scratch: Scratch,
        *,
        compiled: bool,
    ) -> None:
        """Start without any norms; `compiled` says to use the kernel where it can."""
        self.compiled = compiled
        self.batch, self.gradients, self._repeated, self._scratch = batch, gradients, repeated_ids, scratch
        self.linears: list[Any] = []
        self.embeddings: list[Any] = []
        self.weights = torch.empty(0)
        self._vectors: dict[int, Tensor] = {}
        self._deferred: dict[int, list[Any]] = {}
        self._shared: dict[int, Any] = {}
        self._squares: list[Tensor] = []
        self._ghosts: list[Ghosts] = []
        self._weighted: tuple[object, Tensor] | None = None

    def repeats(self, parameter: nn.Parameter) -> bool:
        """Return whether a parameter has more than one use."""
        return id(parameter) in self._repeated

    def defer(self, use: object, weight: nn.Parameter) -> None:
        """Let a use of a repeated weight wait for the others."""
        self._deferred.setdefault(id(weight), []).append(use)

    def touched(self, shared: object) -> None:
        """Remember an input whose maps may not all be reached by the backward."""
        self._shared[id(shared)] = shared

    def add_squares(self, squares: Tensor) -> None:
        """Add squared norms [B] that are sums of squares."""
        self._squares.append(squares)

    def add_ghosts(self, ghosts: Ghosts | None) -> None:
        """Add squared norms that rounding may have spoiled."""
        if ghosts is not None:
            self._ghosts.append(ghosts)

    def add_vector(self, parameter: nn.Parameter, gradients: Tensor) -> None:
        """Add whole per-example gradients [B, ...] of a small parameter."""
        flat = gradients.reshape(self.batch, -1)
        known = self._vectors.get(id(parameter))
        self._vectors[id(parameter)] = flat if known is None else known + flat

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a - b in scratch memory."""
        return torch.sub(a, b, out=self._scratch.like(a))

    def weighted(self, x: Tensor) -> Tensor:
        """Return x [B, T, d] times its examples' weights, as [B * T, d], in scratch memory."""
        key = (x.data_ptr(), x.shape, x.stride(), x.dtype)
        if self._weighted is None or self._weighted[0] != key:  # Q, K and V come one after the other
            scaled = torch.mul(single(x), self.weights.view(-1, 1, 1), out=self._scratch.like(x))
            self._weighted = key, scaled.flatten(0, 1)
        return self._weighted[1]
