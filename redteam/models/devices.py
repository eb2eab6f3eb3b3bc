"""Where a model computes: a device that is named must be there, or everything would fail in words of torch."""

import re

import torch

from redteam.core import UsageError


def check_device(name: str | None) -> str:
    """Return the device of that name, or CUDA where there is one and else the CPU; UsageError where it is not there."""
    cuda = torch.cuda.device_count() if name is None or name.startswith("cuda") else 0
    if name is None:
        return "cuda" if cuda and torch.cuda.is_available() else "cpu"
    if re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name) is None:
        raise UsageError(f"--device {name[:40]}: unknown; there are cpu, cuda, cuda:N and mps")
    if name.startswith("cuda"):
        number = int(name.partition(":")[2] or 0)
        if not torch.cuda.is_available() or number >= cuda:
            raise UsageError(f"--device {name}: torch finds {cuda or 'no'} CUDA device{'s' * (cuda > 1)} here; try cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch finds no Apple GPU here; try cpu")
    return name
