"""Gram matrices of each example's rows: what ghost norms are made of, by torch or by the compiled kernel."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 32  # rows; smaller blocks save flops and lose speed
_LARGEST = 1e30  # beyond, small gradients may have underflowed beside large inputs


def single(x: Tensor) -> Tensor:
    """Return `x` in float32, in which all norms and sums are taken."""
    return x if x.dtype == torch.float32 else x.float()


def square_norms(x: Tensor) -> Tensor:
    """Return the squared norm [B] of each example."""
    norms: Tensor = torch.linalg.vector_norm(single(x).flatten(1), dim=1)
    return norms.square_()


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner product [B] of x and y [B, ...]."""
    product: Tensor = torch.linalg.vecdot(x.flatten(1), y.flatten(1))
    return product


@dataclass(frozen=True)
class Part:
    """Which examples to look at, and in which precision."""

    rows: slice
    dtype: torch.dtype = torch.float32

    def numbers(self, x: Tensor) -> Tensor:
        """Return that part of x [B, ...]."""
        return x[self.rows].to(self.dtype)


EVERY = Part(slice(None))


@dataclass(frozen=True)
class Ghosts:
    """Squared norms [B] found through Gram matrices, whose rounding error is relative to `masses` [B].

    `of` finds them again, for a part of the examples in the precision that is asked for.
    """

    squares: Tensor
    masses: Tensor
    of: Callable[[Part], Tensor]


class Gram:
    """The lower block triangles of the Gram matrices x x^T of one or more x [B, T, ...], added up."""

    def __init__(self, x: Tensor) -> None:
        """Start with those of one x."""
        self._height = x.shape[1] if x.shape[1] < 2 * _BLOCK else _BLOCK
        self._blocks = [torch.bmm(rows, columns) for rows, columns in self._pairs(single(x))]

    def add(self, x: Tensor) -> None:
        """Add those of another x."""
        for block, (rows, columns) in zip(self._blocks, self._pairs(single(x)), strict=True):
            block.baddbmm_(rows, columns)

    def add_ones(self) -> None:
        """Add 1 to every entry, as if each row had one more number: what a bias sees."""
        for block in self._blocks:
            block += 1.0

    def trace(self) -> Tensor:
        """Return the squared norms [B] of the x."""
        total = torch.zeros_like(self._blocks[0][:, 0, 0])
        for block in self._blocks:
            total += block[:, :, -block.shape[1] :].diagonal(dim1=1, dim2=2).sum(1)
        return total

    def inner(self, other: "Gram") -> Tensor:
        """Return the inner product [B] with another."""
        total = inner(self._blocks[0], other._blocks[0])
        for a, b in zip(self._blocks[1:], other._blocks[1:], strict=True):
            product = a * b
            total += 2.0 * product.sum((1, 2)) - product[:, :, -a.shape[1] :].sum((1, 2))
        return total

    def _pairs(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        h = self._height
        return [(x[:, i : i + h], x[:, : i + h].transpose(1, 2)) for i in range(0, x.shape[1], h)]


def mass(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the product [B] of the squared norms of A and G, which the inner product's rounding error is relative to.

    It is infinite where A is so large that the squares of a G that matters may have been rounded to zero.
    """
    return torch.where(inputs <= _LARGEST, inputs * gradients, torch.inf)


def masses(inputs: Tensor, gradients: Sequence[Tensor], ones: float) -> Tensor:
    """Return the mass [B] of an input, with `ones` more numbers in each row, and of one or more gradients."""
    return mass(square_norms(inputs) + ones * inputs.shape[1], sum_of(square_norms(g) for g in gradients))


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of at least one tensor."""
    return torch.stack(list(tensors)).sum(0)
