"""Embedding tables: the squared norm counts tokens that meet in one example, and leaves padding out as autograd does.

Row v of example i's gradient is the sum of its output gradients at v, so the squared norm is the sum of G_i G_i^T
over the pairs of positions that hold the same token. Tables whose outputs are added up, as words, positions and types
are, receive the same gradients and share one Gram matrix.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from defenses.edpsgd.gram import EVERY, Ghosts, Part, inner
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import version
from redteam.core import UsageError


class EmbeddingUse:
    """One call of a table on token ids [B, ...]."""

    def __init__(self, name: str, weight: nn.Parameter, ids: Tensor, padding: int | None) -> None:
        """Keep the ids; `padding` is the token whose row gets no gradient."""
        self.name, self.weight, self.padding = name, weight, padding
        self.batch = ids.shape[0]
        self.parameters: tuple[nn.Parameter, ...] = (weight,)
        self._given, self._version = ids, version(ids)
        self.ids = ids.reshape(self.batch, -1).long()
        self.gradient: Tensor | None = None

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient; its norms wait for the other tables'."""
        if version(self._given) != self._version:
            raise UsageError(f"{self.name}: its input was changed in place after the layer read it; use a copy")
        self.gradient = gradient.reshape(self.batch, -1, gradient.shape[-1])
        into.embeddings.append(self)
        if into.repeats(self.weight):
            into.defer(self, self.weight)

    def meets(self, part: Part) -> Tensor:
        """Return where two positions add to the same row, bool [B, T, T]."""
        ids = self.ids[part.rows]
        same = ids.unsqueeze(2) == ids.unsqueeze(1)
        return same if self.padding is None else same & (ids != self.padding).unsqueeze(2)

    @property
    def columns(self) -> Tensor:
        """The output gradients [B, T, d] that reach the table: none from padding."""
        assert self.gradient is not None
        if self.padding is None:
            return self.gradient
        return self.gradient.masked_fill((self.ids == self.padding).unsqueeze(2), 0.0)

    def zero(self, dropped: Tensor) -> None:
        """Set the rows of dropped examples, bool [B], to zero."""
        if self.gradient is not None:
            self.gradient = self.gradient.masked_fill(dropped[:, None, None], 0.0)

    def add_to(self, into: Pass) -> None:
        """Add the weighted sum of the gradients to the gradient buffer."""
        assert self.gradient is not None
        rows, ids = into.weighted(self.gradient), self.ids.flatten()
        if self.padding is not None:
            rows = rows.masked_fill((ids == self.padding).unsqueeze(1), 0.0)
        into.gradients[id(self.weight)].index_add_(0, ids, rows)

    def release(self) -> None:
        """Let go of the gradients."""
        self.gradient = None


def ghosts(uses: list[EmbeddingUse]) -> Ghosts:
    """Return the squared norms of tables that received the very same gradients."""
    gram, meets = _grams(uses, EVERY)
    squares = inner(gram, meets)
    return Ghosts(squares, inner(gram.abs_(), meets), partial(_squares, uses))


def _grams(uses: list[EmbeddingUse], part: Part) -> tuple[Tensor, Tensor]:
    assert uses[0].gradient is not None
    gradient = part.numbers(uses[0].gradient)
    meets = uses[0].meets(part).to(gradient.dtype)
    for use in uses[1:]:
        meets += use.meets(part)
    return torch.bmm(gradient, gradient.transpose(1, 2)), meets


def _squares(uses: list[EmbeddingUse], part: Part) -> Tensor:
    gram, meets = _grams(uses, part)
    return (gram * meets).sum((1, 2))
