"""Updates as vectors over the field of 2^32 - 5 elements, so that masks hide them perfectly and sums are exact."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from redteam.core import UsageError
from redteam.core.arrays import FloatArray

PRIME = 2**32 - 5
RANGE = 8.0  # of an entry of an update; with a hundred clients it is known to 4e-7
MOST = 100_000  # clients of a round, so that an entry keeps four digits

Field = npt.NDArray[np.uint64]


def levels(clients: int) -> int:
    """Return in how many steps from 0 to the range an entry is told, so that no sum of so many wraps around."""
    if not 1 <= clients <= MOST:
        raise UsageError(f"{clients:,} clients in a round under masks: at most {MOST:,} can be added up")
    return (PRIME - 1) // 2 // clients


def encode(vector: FloatArray, clients: int) -> Field | None:
    """Return a vector [d] as elements of the field; None where an entry lies beyond the range.

    Entries are rounded towards 0, so that what was clipped stays within its clip: to the nearest, a million entries of
    five thousand clients could be 2 % longer than noise is chosen for.
    """
    if not bool((np.abs(vector) <= RANGE).all()):
        return None
    whole = np.trunc(vector * (levels(clients) / RANGE)).astype(np.int64)
    return np.mod(whole, PRIME).astype(np.uint64)


def decode(total: Field, clients: int) -> FloatArray:
    """Return the sum that elements of the field stand for."""
    whole = total.astype(np.int64)
    signed = np.where(whole > PRIME // 2, whole - PRIME, whole)
    found: FloatArray = signed * (RANGE / levels(clients))
    return found


def add(total: Field, other: Field) -> None:
    """Add to a vector of the field, in place."""
    np.add(total, other, out=total)
    np.remainder(total, np.uint64(PRIME), out=total)


def subtract(total: Field, other: Field) -> None:
    """Subtract from a vector of the field, in place."""
    add(total, np.uint64(PRIME) - other)


def as_tensor(vector: Field) -> Tensor:
    """Return a vector of the field as an int64 tensor, as it travels."""
    return torch.from_numpy(vector.astype(np.int64))


def is_field(found: object, size: int) -> bool:
    """Tell whether that is a vector of `size` elements of the field, as it travels; a client may be hostile."""
    if not isinstance(found, Tensor) or found.dtype != torch.int64 or found.shape != (size,):
        return False
    return bool(((found >= 0) & (found < PRIME)).all())


def as_field(tensor: Tensor) -> Field:
    """Return what `as_tensor` made."""
    return tensor.numpy().astype(np.uint64)
