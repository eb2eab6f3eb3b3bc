"""One backward over a batch: squared norms as the gradients come, then the clipped sum into the buffer."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from defenses.edpsgd import embedding, repeated
from defenses.edpsgd.embedding import EmbeddingUse
from defenses.edpsgd.gram import Ghosts, single, sum_of
from defenses.edpsgd.linear import LinearUse, SharedInput
from defenses.edpsgd.rounding import settled


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


class BackwardPass:
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
        self.linears: list[LinearUse] = []
        self.embeddings: list[EmbeddingUse] = []
        self.weights = torch.empty(0)
        self._vectors: dict[int, Tensor] = {}
        self._deferred: dict[int, list[LinearUse | EmbeddingUse]] = {}
        self._shared: dict[int, SharedInput] = {}
        self._squares: list[Tensor] = []
        self._ghosts: list[Ghosts] = []
        self._weighted: tuple[object, Tensor] | None = None

    def repeats(self, parameter: nn.Parameter) -> bool:
        """Return whether a parameter has more than one use."""
        return id(parameter) in self._repeated

    def defer(self, use: LinearUse | EmbeddingUse, weight: nn.Parameter) -> None:
        """Let a use of a repeated weight wait for the others."""
        self._deferred.setdefault(id(weight), []).append(use)

    def touched(self, shared: SharedInput) -> None:
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

    def norms(self) -> Tensor:
        """Return the norms [B] of the whole gradients, once all have come; not finite where they cannot be told."""
        for shared in self._shared.values():
            self.add_ghosts(shared.ghosts())
        for uses in self._tables():
            self.add_ghosts(embedding.ghosts(uses))
        for tied in self._deferred.values():
            self.add_ghosts(repeated.ghosts(tied))
        for vector in self._vectors.values():
            self.add_squares(torch.linalg.vecdot(vector, vector))
        if not self._squares and not self._ghosts:
            return next(iter(self.gradients.values())).new_zeros(self.batch)
        plain = sum_of(self._squares) if self._squares else torch.zeros_like(self._ghosts[0].squares)
        return settled(plain, self._ghosts)

    def _tables(self) -> list[list[EmbeddingUse]]:
        """Return the tables that are used once, those together that received the very same gradient."""
        together: dict[object, list[EmbeddingUse]] = {}
        for use in self.embeddings:
            if not self.repeats(use.weight) and use.gradient is not None:
                g = use.gradient
                together.setdefault((g.data_ptr(), g.shape, g.stride()), []).append(use)
        return list(together.values())

    def drop(self, dropped: Tensor) -> None:
        """Zero all that comes from dropped examples, bool [B]."""
        for use in self._uses():
            use.zero(dropped)
        for vector in self._vectors.values():
            vector[dropped] = 0.0

    def add_to_buffer(self, weights: Tensor) -> None:
        """Add the sum of the examples' gradients, each times its weight [B], to the buffer."""
        self.weights = weights
        for use in reversed(self.linears):
            use.add_to(self)
        for table in self.embeddings:
            table.add_to(self)
        for i, vector in self._vectors.items():
            self.gradients[i].view(-1).addmv_(vector.t(), weights)

    def release(self) -> None:
        """Let go of all tensors."""
        self._ghosts = []
        for use in self._uses():
            use.release()

    def _uses(self) -> list[LinearUse | EmbeddingUse]:
        return [*self.linears, *self.embeddings]
