"""Tables of other kinds than nn.Embedding: bags of rows, and small tables that all examples share.

nn.EmbeddingBag adds up rows or takes their mean, so each row's output gradient is the bag's, times a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.edpsgd.embedding import EmbeddingUse
from defenses.edpsgd.gram import single
from defenses.edpsgd.passes import Pass
from defenses.edpsgd.tape import Tape, UnsupportedLayer

_RELATIVE = ("compute_bias", "compute_position_bias")


class BagUse:
    """One call of an EmbeddingBag: token ids and their factors, both [B, T]."""

    def __init__(self, name: str, weight: nn.Parameter, ids: Tensor, factors: Tensor, padding: int | None) -> None:
        """Keep what each row was multiplied with before rows were added up."""
        self.name, self.batch, self._factors = name, len(ids), factors
        self._table = EmbeddingUse(name, weight, ids, padding)
        self.parameters = self._table.parameters

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the bags' gradient [B, d]."""
        self._table.receive(gradient.unsqueeze(1) * self._factors.unsqueeze(2).to(gradient.dtype), into)


class SmallTableUse:
    """One call of a table so small that each example's gradient for it is made and kept, on token ids [B, ...]."""

    def __init__(self, name: str, weight: nn.Parameter, ids: Tensor) -> None:
        """Keep the ids."""
        self.name, self.batch, self.weight = name, len(ids), weight
        self.parameters: tuple[nn.Parameter, ...] = (weight,)
        self._ids = ids.reshape(self.batch, -1)

    def receive(self, gradient: Tensor, into: Pass) -> None:
        """Take the output's gradient [B, ..., d]."""
        rows = single(gradient).reshape(self.batch, -1, gradient.shape[-1])
        total = rows.new_zeros(self.batch, *self.weight.shape)
        into.add_vector(self.weight, total.scatter_add_(1, self._ids.unsqueeze(2).expand_as(rows), rows))


def embedding_bag(name: str, module: Any, tape: Tape, inputs: object) -> Callable[..., Tensor]:
    """Run nn.EmbeddingBag on [B, T] ids, or on a flat list of ids with offsets; "max" is refused, as are others."""
    if module.mode == "max" or module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        option = "mode 'max'" if module.mode == "max" else "max_norm, sparse or scale_grad_by_freq"
        raise UnsupportedLayer(f"{name}: EmbeddingBag with {option} has no exact rule here; turn it off")

    def forward(input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        output = functional.embedding_bag(
            input, module.weight.detach(), offsets, mode=module.mode, per_sample_weights=per_sample_weights,
            include_last_offset=module.include_last_offset, padding_idx=module.padding_idx,
        )  # fmt: skip
        if not torch.is_grad_enabled():
            return output
        factors = torch.ones_like(input, dtype=output.dtype) if per_sample_weights is None else per_sample_weights
        ids, factors = input, factors.detach()
        if input.dim() == 1:
            assert offsets is not None  # torch saw to it
            starts = offsets[:-1] if module.include_last_offset else offsets
            ids, factors = _bags(input, factors, starts)
        kept = factors if module.padding_idx is None else factors * (ids != module.padding_idx)
        if module.mode == "mean":
            kept = kept / kept.sum(1, keepdim=True).clamp(min=1.0)
        return tape.watch(output, BagUse(name, module.weight, ids, kept, module.padding_idx))

    return forward


def _bags(ids: Tensor, factors: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Turn a flat list of ids [N] into [B, T], as long as the longest bag; what fills it up has the factor 0."""
    ends = torch.cat([starts[1:], starts.new_tensor([len(ids)])])
    place = starts.unsqueeze(1) + torch.arange(max(1, int((ends - starts).max())), device=ids.device)
    inside = place < ends.unsqueeze(1)
    place = torch.where(inside, place, 0)
    if not len(ids):
        return place, torch.zeros_like(place, dtype=factors.dtype)
    return ids[place], torch.where(inside, factors[place], 0.0)


def relative_bias(owner: Any) -> str | None:
    """Return the method by which a T5- or MPNet-like `owner` looks up its relative positions, or None."""
    table = getattr(owner, "relative_attention_bias", None)
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return None
    return next((method for method in _RELATIVE if hasattr(type(owner), method)), None)


def shared_positions(name: str, owner: Any, method: str, tape: Tape) -> Callable[..., Tensor]:
    """Run `owner.method`, which looks up one bias [1, H, T, S] for all examples, once for each of them.

    Raises UnsupportedLayer where that is not what it does.
    """
    table, original = owner.relative_attention_bias, getattr(type(owner), method).__get__(owner)

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return original(*args, **kwargs)  # type: ignore[no-any-return]
        asked: list[Tensor] = []

        def look_up(ids: Tensor) -> Tensor:
            asked.append(ids)
            return functional.embedding(ids, table.weight.detach())

        mine = table.__dict__.get("forward")
        table.__dict__["forward"] = look_up
        try:
            given = original(*args, **kwargs)
        finally:
            table.__dict__["forward"] = mine
        if len(asked) != 1 or asked[0].dim() != 2 or tape.batch is None or table.padding_idx is not None:
            raise UnsupportedLayer(f"{name}: no exact rule for how it looks up relative positions; freeze the table")
        ids = asked[0].expand(tape.batch, *asked[0].shape)
        output = functional.embedding(ids, table.weight.detach())
        watched = tape.watch(output, SmallTableUse(name, table.weight, ids)).permute(0, 3, 1, 2)
        if (
            given.dim() != 4
            or given.shape[1:] != watched.shape[1:]
            or not torch.equal(given.expand_as(watched), watched)
        ):
            raise UnsupportedLayer(f"{name}: no exact rule for how it looks up relative positions; freeze the table")
        return watched

    return forward
