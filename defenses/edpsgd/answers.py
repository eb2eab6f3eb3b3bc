"""What the rows of a batch say when they are asked, and whether two answers are the same but for rounding."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defenses.edpsgd.tape import version


@dataclass(frozen=True)
class RowsAnswer:
    """What the rows that stay say: their losses and gradients; and the generators' and buffers' state afterwards."""

    losses: Tensor
    gradient: Tensor
    scale: float
    drawn: tuple[Any, ...]
    buffers: dict[str, Tensor]


def agree(one: RowsAnswer, other: RowsAnswer, tolerance: float) -> bool:
    """Return whether losses and gradients are the same but for rounding; what is no number has to be none in both."""
    a, b = one.losses, other.losses
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return False
    a, b = a[finite], b[finite]
    if bool(((a - b).abs() > tolerance * (1.0 + torch.maximum(a.abs(), b.abs()))).any()):
        return False
    if math.inf in (one.scale, other.scale):  # what is no number in some rows may spoil the gradients of all
        return True
    apart, scale = float((one.gradient - other.gradient).double().norm()), max(one.scale, other.scale)
    return apart <= tolerance * scale or not (np.isfinite(one.scale) or np.isfinite(other.scale))


def mark(parameter: Tensor) -> tuple[int, int]:
    """Return what changes with a parameter: how often it was changed in place, and a sum of its bits (for `.data`)."""
    bits = parameter.detach().contiguous().reshape(-1)
    bits = bits.view(torch.int32 if bits.element_size() == 4 else torch.uint8)
    return version(parameter), int(bits.sum(dtype=torch.int64))
