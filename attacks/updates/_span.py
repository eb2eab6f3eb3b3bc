"""Which tokens a frozen embedding table still shows: those whose direction lies in the span of the layer's inputs.

The gradient of query, key and value weights is a sum over cells of error times input, so that its rows span the inputs.
A cell's input is the word's direction and the position's, each divided by one number, and the LayerNorm's bias: a word
is in the batch if its direction is a combination of the gradient's rows and of all positions. That needs fewer tokens
than the width of the model. The residual is computed as a vector, and not as the square root of 1 less a square, which
even in double precision knows seven digits fewer.
"""

from dataclasses import dataclass

import torch

from attacks.updates._first_layer import FirstLayer

_RELATIVE = 1e-6  # of the largest singular value: what float32 makes of a gradient
_MARGIN = 4  # dimensions that must be left over, or everything is in the span


@dataclass(frozen=True)
class Spanned:
    """The tokens that lie in the span, and how many positions the longest text has; `rank` of the gradient."""

    tokens: tuple[int, ...]
    length: int
    rank: int


def spanned_tokens(
    layer: FirstLayer, gradient: torch.Tensor, *, longest: int, near: float = 1e-3, floor: float = 0.0
) -> Spanned:
    """Return the tokens of a batch from its gradient, [3H, H]; none where its rank fills the width.

    `near` is the largest distance of a unit vector in the span, `floor` the singular value below which all is rounding
    or noise.
    """
    basis = row_space(gradient, floor=floor)
    rank = basis.shape[1]
    free = layer.width - rank - _MARGIN
    if free < _MARGIN:
        return Spanned((), 0, rank)
    length = min(longest, max(_MARGIN, free))
    known = torch.cat((layer.directions(layer.places[1:length]), layer.shift[None], layer.first_input))
    together = torch.cat([basis, row_space(known - (known @ basis) @ basis.T)], 1)
    there = set(torch.nonzero(distance(layer.word_directions, together) < near).flatten().tolist()) | {layer.cls}
    there -= {layer.pad}
    ids = torch.tensor(sorted(there))
    nearest = [float(distance(layer.inputs(ids, torch.full_like(ids, place)), basis).min()) for place in range(length)]
    return Spanned(tuple(ids.tolist()), 1 + max((p for p, d in enumerate(nearest) if d < near), default=0), rank)


def row_space(gradient: torch.Tensor, *, floor: float = 0.0) -> torch.Tensor:
    """Return an orthonormal basis of the rows of a gradient, [H, rank]."""
    values, vectors = torch.linalg.eigh(gradient.T @ gradient)
    sizes = values.clamp_min(0).sqrt()
    kept: torch.Tensor = vectors[:, sizes > max(_RELATIVE * float(sizes[-1]), floor)]
    return kept


def distance(rows: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return how far each row is from the span of an orthonormal basis, as a share of its length, [n]."""
    found: torch.Tensor = (rows - (rows @ basis) @ basis.T).norm(dim=1) / rows.norm(dim=1).clamp_min(1e-300)
    return found
