"""One backward over a batch: squared norms as the gradients come, then the clipped sum into the buffer."""

import torch
from torch import Tensor

from defenses.edpsgd import embedding, repeated
from defenses.edpsgd.embedding import EmbeddingUse
from defenses.edpsgd.gram import sum_of
from defenses.edpsgd.linear import LinearUse
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.rounding import settled


class BackwardPass(Pass):
    """A pass that makes norms and the weighted sum of what was handed in."""

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
