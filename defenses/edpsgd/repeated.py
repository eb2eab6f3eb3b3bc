"""Weights used more than once: tied to another layer, or in a layer that is called again.

An example's gradient is the sum over the uses, so its squared norm is the sum of the inner products of all pairs of
uses. Each is an inner product of two Gram matrices, of what makes the rows and of what makes the columns; a token id
stands for a row that is one at the token and zero elsewhere. Long inputs are cheaper by the product itself.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from defenses.edpsgd.embedding import EmbeddingUse
from defenses.edpsgd.gram import EVERY, Ghosts, Part, inner, mass, single, square_norms, sum_of
from defenses.edpsgd.linear import LinearUse

WeightUse = LinearUse | EmbeddingUse
_KEPT_BYTES = 1 << 26


def ghosts(uses: Sequence[WeightUse]) -> Ghosts:
    """Return the squared norms of the gradients of one weight, which all the uses share."""
    linear = [use for use in uses if isinstance(use, LinearUse)]
    length = sum(use.columns.shape[1] for use in uses)
    if len(linear) == len(uses):
        p, d = linear[0].rows.shape[2], linear[0].columns.shape[2]
        if length * (p + d) > 2 * p * d:
            squares = _by_product(linear)
            return Ghosts(squares, torch.zeros_like(squares), partial(_squares, uses))
    return Ghosts(_squares(uses, EVERY), sum_of(_root_mass(use) for use in uses).square_(), partial(_squares, uses))


def _squares(uses: Sequence[WeightUse], part: Part) -> Tensor:
    pairs = [(a, b, 1.0 if a is b else 2.0) for a, b in itertools.combinations_with_replacement(uses, 2)]
    return sum_of(weight * _inner(a, b, part) for a, b, weight in pairs)


def _root_mass(use: WeightUse) -> Tensor:
    """Return a bound [B] on the norm of a use's gradient that no cancellation makes small."""
    if isinstance(use, EmbeddingUse):
        norms: Tensor = torch.linalg.vector_norm(single(use.columns), dim=2)
        return norms.sum(1)
    assert use.gradient is not None
    return mass(square_norms(use.inputs), square_norms(use.gradient)).sqrt_()


def _inner(a: WeightUse, b: WeightUse, part: Part) -> Tensor:
    columns = torch.bmm(part.numbers(a.columns), part.numbers(b.columns).transpose(1, 2))
    return inner(_row_gram(a, b, part), columns)


def _row_gram(a: WeightUse, b: WeightUse, part: Part) -> Tensor:
    """Return the inner products [B, T_a, T_b] of what makes the rows of the two gradients."""
    if isinstance(a, LinearUse) and isinstance(b, LinearUse):
        return torch.bmm(part.numbers(a.rows), part.numbers(b.rows).transpose(1, 2))
    if isinstance(a, EmbeddingUse) and isinstance(b, EmbeddingUse):
        return (a.ids[part.rows].unsqueeze(2) == b.ids[part.rows].unsqueeze(1)).to(part.dtype)
    if isinstance(a, LinearUse) and isinstance(b, EmbeddingUse):
        rows, ids = part.numbers(a.rows), b.ids[part.rows]
        return rows.gather(2, ids.unsqueeze(1).expand(-1, rows.shape[1], -1))
    return _row_gram(b, a, part).transpose(1, 2)


def _by_product(uses: Sequence[LinearUse]) -> Tensor:
    """Return the squared norms by the per-example gradients themselves, a few examples at a time."""
    batch, size = uses[0].batch, uses[0].rows.shape[2] * uses[0].columns.shape[2]
    step = max(1, _KEPT_BYTES // (4 * size))
    parts = []
    for i in range(0, batch, step):
        part = Part(slice(i, i + step))
        rows = torch.cat([part.numbers(use.rows) for use in uses], 1)
        columns = torch.cat([part.numbers(use.columns) for use in uses], 1)
        parts.append(square_norms(torch.bmm(rows.transpose(1, 2), columns)))
    return torch.cat(parts)
