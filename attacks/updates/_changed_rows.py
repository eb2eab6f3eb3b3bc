"""Which rows of an embedding table were trained: those that changed otherwise than all rows do.

Only rows of tokens that occurred have a gradient. All others stay, or shrink together under weight decay, or were all
given noise: what is common is estimated from the rows that moved least, and taken off.
"""

import math
from dataclasses import dataclass

import torch

from redteam.statistics import normal_quantile

_UNTOUCHED = 0.02  # with so many rows that did not move at all, nothing is common to all
_STILLEST = 0.1  # share of rows that are taken to be of no token, however many tokens there are
_ROUNDING = 2.0**-22  # of a row's norm: what float32 leaves of a common factor


@dataclass(frozen=True)
class ChangedRows:
    """The rows that were trained; `noise` is the standard deviation of what all rows were given, 0 without.

    `decayed`: the factor by which all others shrank, as an optimiser with weight decay has it, 0 without.
    """

    rows: tuple[int, ...]
    noise: float = 0.0
    decayed: float = 0.0


def changed_rows(change: torch.Tensor, before: torch.Tensor, *, pad: int | None = None) -> ChangedRows:
    """Return the trained rows of a table, [V, H], from how it changed and what it was; never `pad`."""
    norms = change.norm(dim=1)
    others = torch.ones(len(norms), dtype=torch.bool)
    if pad is not None:
        others[pad] = False
    if float((norms[others] == 0).double().mean()) >= _UNTOUCHED:
        return ChangedRows(_listed((norms > 0) & others))
    sizes = before.norm(dim=1).clamp_min(1e-30)
    factors = (change * before).sum(1) / sizes**2
    turned = (change - factors[:, None] * before).norm(dim=1) / sizes
    stillest = turned[others].argsort()[: max(1, int(_STILLEST * int(others.sum())))]
    shrunk = float(factors[others][stillest].median())
    left = (change - shrunk * before).norm(dim=1)
    noise = float(left[others].quantile(_STILLEST)) / _chi(change.shape[1], _STILLEST)
    beyond = noise * _chi(change.shape[1], 1 - 0.1 / len(norms))
    rows = _listed((left > beyond) & (left > _ROUNDING * sizes) & others)
    is_noise = noise * math.sqrt(change.shape[1]) > _ROUNDING * float(sizes.median())
    return ChangedRows(rows, noise if is_noise else 0.0, -shrunk)


def _listed(these: torch.Tensor) -> tuple[int, ...]:
    return tuple(torch.nonzero(these).flatten().tolist())


def _chi(freedom: int, probability: float) -> float:
    """Return a quantile of the length of a normal vector (Wilson and Hilferty 1931)."""
    part = 2 / (9 * freedom)
    root = 1 - part + normal_quantile(probability) * math.sqrt(part)
    return math.sqrt(freedom * max(root, 0.0) ** 3)
