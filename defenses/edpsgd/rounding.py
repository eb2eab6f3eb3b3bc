"""What float32 does to a norm, and what is done about it: no rounding may break the bound.

A squared norm that comes from Gram matrices is a sum of terms of both signs. Its error is about 2^-24 times its mass,
|A|^2 |G|^2, however small the sum is; where the mass is far larger, as for inputs that hardly change along a text while
their gradients cancel, the sum is taken again in float64, by the gradients themselves. Their own sum in the buffer has
an error too, of about 2^-24 times the root of the mass: where that counts, the norm is taken to be so much larger.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from defenses.edpsgd.gram import Ghosts, Part, sum_of

_DOUBTFUL = 2.0**8  # times the squared norm: an error of 2^-16, less than the slack of the clip leaves
_BLURRED = 2.0**12  # times the squared norm: an error of the gradient itself of 2^-18
_BLUR = 2.0**-23  # of the root of the mass


def settled(plain: Tensor, ghosts: Sequence[Ghosts]) -> Tensor:
    """Return the norms [B] of squares without cancellation plus `ghosts`; not finite where they cannot be told."""
    if not ghosts:
        return plain.sqrt()
    squares = plain + sum_of(g.squares for g in ghosts)
    masses = sum_of(g.masses for g in ghosts)
    unknown = masses.isinf()
    for i in torch.nonzero((masses > _DOUBTFUL * squares) & squares.isfinite() & ~unknown).flatten().tolist():
        squares[i] = _exactly(i, float(plain[i]), ghosts)
    norms = squares.sqrt()
    norms = torch.where(masses > _BLURRED * squares, norms + _BLUR * masses.sqrt(), norms)
    return norms.masked_fill_(unknown, torch.inf)


def _exactly(i: int, plain: float, ghosts: Sequence[Ghosts]) -> float:
    part = Part(slice(i, i + 1), torch.float64)
    return plain + sum(float(g.of(part)) for g in ghosts)
