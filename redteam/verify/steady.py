"""Does an example move a step by the same, whatever its size and whoever else is in it?

A trainer may clip to less than it claims, which harms nobody; or it lets rows stand for each other, in clipped means,
say, so that one canary among others moves little, and another example might move far. In clipped means large gradients
push small ones aside, and few rows move farther than many. Where neither is so, what canaries move is all that an
example can do, however little that is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.verify import moves
from redteam.verify.inspection import READ, Inspection

_ERRORS = 4.0  # standard errors that make a difference clear
_DIFFERENT = 0.02  # by which two moves may differ without being another
_FINE = 0.1  # of a move: an error above it tells nothing


@dataclass(frozen=True)
class _Length:
    """How many noises a kind of canary moved a step by, and the standard error."""

    moved: float
    error: float


def steady(many: Inspection, few: Inspection) -> bool:
    """Return whether canaries move steps alike in a training with many of them in, and in one with few.

    Both have the same kinds. Kinds whose gradients part over the layers alike, up to signs, are compared whatever their
    size: what clips in another norm moves directions differently and hides nothing. False where it cannot be told.
    """
    dense, sparse = _lengths(many), _lengths(few)
    if dense is None or sparse is None or any(one.error > _FINE * one.moved for one in dense):
        return False
    kinds = many.design.kinds
    for parts in {_way(kind.parts) for kind in kinds}:
        alike = [one for one, kind in zip(dense, kinds, strict=True) if _way(kind.parts) == parts]
        middle = float(np.median([one.moved for one in alike]))
        if any(abs(one.moved - middle) > _ERRORS * one.error + _DIFFERENT * middle for one in alike):
            return False
    ratios = np.array([b.moved / a.moved for a, b in zip(dense, sparse, strict=True)])
    errors = np.array([np.hypot(a.error, b.error) / a.moved for a, b in zip(dense, sparse, strict=True)])
    error = float(np.linalg.norm(errors)) / len(errors)
    return error <= _FINE and abs(float(ratios.mean()) - 1) <= _ERRORS * error + _DIFFERENT


def _lengths(one: Inspection) -> Sequence[_Length] | None:
    """Return how far each kind moves; None where too few of one were read."""
    every = [np.ones(one.steps, dtype=bool)]
    found = [moves.measure([one], states=(READ,), kinds=[kind], steps=every) for kind in range(len(one.design.kinds))]
    return [_Length(moved.length, moved.error) for moved in found if moved is not None] if all(found) else None


def _way(parts: tuple[float, float]) -> tuple[float, ...]:
    return tuple(abs(part) for part in parts)
