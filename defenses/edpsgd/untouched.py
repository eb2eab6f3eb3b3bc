"""Asking a model something and leaving it, and all global random generators, as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def generators(devices: list[torch.device]) -> tuple[Any, ...]:
    """Return the state of all global random generators, in values that can be compared."""
    name, keys, *rest = np.random.get_state(legacy=True)
    on_devices = tuple(torch.cuda.get_rng_state(device).numpy().tobytes() for device in devices)
    return (
        random.getstate(),
        (name, np.asarray(keys).tobytes(), *rest),
        torch.get_rng_state().numpy().tobytes(),
        on_devices,
    )


@contextmanager
def left_as_it_was(model: nn.Module, devices: list[torch.device]) -> Iterator[None]:
    """Give random generators and buffers back."""
    python, numpy, on_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_devices = [torch.cuda.get_rng_state(device) for device in devices]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(on_cpu)
        for device, state in zip(devices, on_devices, strict=True):
            torch.cuda.set_rng_state(state, device)
        with torch.no_grad():
            for buffer, was in buffers:
                if buffer.shape == was.shape and not torch.equal(buffer, was):
                    buffer.copy_(was)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and whatever else the modules do in training alone."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
