"""What the attention of the first layer says of a cell, token w at position p: its keys and its queries, head by head.

By the softmax, the error of a head's query is a combination of the keys of its own sentence whose weights sum to zero,
and the error of a key one of the queries of its own sentence. So the errors of a token that occurs once are vectors in
2 x heads small spaces, all explained by the same few cells: those of its sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attacks.updates._first_layer import FirstLayer

Cell = tuple[int, int]  # a token and its position


@dataclass(frozen=True)
class CandidateCells:
    """Candidate cells of a batch: n of them, as vectors [2 heads, n, width + 1] that explain errors.

    The last entry holds the softmax's condition on weights of keys: they sum to zero.
    """

    cells: tuple[Cell, ...]
    places: torch.Tensor
    ends: torch.Tensor
    vectors: torch.Tensor
    squares: torch.Tensor
    index: dict[Cell, int]
    first: Cell

    @classmethod
    def of(cls, layer: FirstLayer, cells: Sequence[Cell]) -> "CandidateCells":
        """Compute keys and queries of cells."""
        words, places = (torch.tensor(each) for each in zip(*cells, strict=True))
        inputs = layer.inputs(words, places)
        keys, queries = layer.heads_of(inputs, 1), layer.heads_of(inputs, 0)
        one = keys.norm(dim=2).mean() * torch.ones(*keys.shape[:2], 1, dtype=keys.dtype)
        both = torch.cat([torch.cat([keys, one], 2), torch.cat([queries, 0 * one], 2)]).float().contiguous()
        index = {cell: i for i, cell in enumerate(cells)}
        ends = words == layer.sep
        return cls(tuple(cells), places, ends, both, (both**2).sum(2), index, (layer.cls, 0))

    @property
    def width(self) -> int:
        """The numbers of a head."""
        return self.vectors.shape[2] - 1


def errors_to_explain(layer: FirstLayer, errors: Sequence[torch.Tensor], *, floor: float) -> torch.Tensor:
    """Stack query and key errors of tokens, each [3H], to [2 heads, width + 1, tokens], every head weighted alike.

    Heads whose errors are below `floor` of the largest count less: a weak one drowns first in rounding and noise.
    """
    size = layer.width
    stacked = torch.stack(
        [
            torch.cat([each[:size].view(layer.heads, -1), each[size : 2 * size].view(layer.heads, -1)])
            for each in errors
        ],
        2,
    )
    nothing = torch.zeros(stacked.shape[0], 1, stacked.shape[2], dtype=stacked.dtype)
    stacked = torch.cat([stacked, nothing], 1)
    norms = stacked.norm(dim=1, keepdim=True)
    even = stacked / (norms + floor * norms.amax(0, keepdim=True)).clamp_min(1e-300)
    scaled: torch.Tensor = (even / (even.shape[0] * even.shape[2]) ** 0.5).float()
    return scaled
