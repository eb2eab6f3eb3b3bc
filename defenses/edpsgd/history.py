"""What a training is and has done so far, as a digest on which its noise and its sampling depend.

Two trainings may go on from one saved state. Were the noise of a step a function of (seed, step) alone, both would draw
the same, and their difference would be bare signal. So the key of a step's noise also covers the weights that the
training began or went on with, and the rows, the clipped sum, the scale of the noise and the optimiser's settings of
every step up to this one: where any of these differs by a bit, all noise from there on is fresh, and so are the draws
of Poisson sampling, whose amplification does not hold for draws that somebody else used too. Where nothing differs, the
same numbers come again: that is what resumes a training that was killed.

The first batch is drawn before there is a sum. So a history begins with what tells one training from another:
mechanism, trainer, optimiser, numbers of rows, and the data, by a digest that whoever knows them gives or else by the
losses of all rows. Two trainings with one seed on other data share no batch.

Two branches are two trainings on one set of data: each one's epsilon counts itself alone. Until they part they are one
training, and who sees both sees how far that was.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import IntArray, parts_of
from defenses.edpsgd.untouched import left_as_it_was
from redteam.plugins.defense import MAY_ASK_AGAIN, Problem

_PLAIN = (bool, int, float, str, type(None))


def begin(
    source: NoiseSource,
    model: nn.Module,
    kept: Mapping[str, Any],
    *,
    training: str,
    optimizer: torch.optim.Optimizer,
    first: Callable[[], bytes] = bytes,
) -> None:
    """Begin the history of the training that `identity` tells, with its weights, or take up the one of `kept`.

    Other weights, another state of the optimiser, or another training begin a branch. `first` tells of the data where
    nothing was kept.
    """
    weights, before = weights_digest(model, optimizer), bytes.fromhex(kept.get("history", ""))
    if before and (kept.get("weights"), kept.get("training")) == (weights, training):
        source.history = before
        return
    what = (before, weights, training, settings_of(optimizer), b"" if before else first())
    source.history = hashlib.sha256(b"begin" + _joined(what)).digest()


def extend(
    source: NoiseSource,
    rows: IntArray,
    sums: Iterable[Tensor],
    stds: Sequence[float],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Add a step: the rows of its batch, how it is used, and what is about to get noise of `stds`, before it gets any.

    The same sum with the same noise at two scales is two equations that the sum can be solved for.
    """
    digest = hashlib.sha256(b"step" + source.history + len(rows).to_bytes(8, "little") + rows.tobytes())
    digest.update(struct.pack(f"<{len(stds)}d", *stds) + _joined([settings_of(optimizer)]))
    for part in sums:
        digest.update(_bytes(part))
    source.history = digest.digest()


def keep(source: NoiseSource, model: nn.Module, *, training: str, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """Return what a saved state must hold of the history, as `begin` takes it."""
    return {"history": source.history.hex(), "weights": weights_digest(model, optimizer), "training": training}


def identity(optimizer: torch.optim.Optimizer, *what: Any) -> str:
    """Return a digest of what tells a training from others and stays to its end: plain values, arrays, bytes."""
    return hashlib.sha256(b"training" + _joined((type(optimizer).__qualname__, *what))).hexdigest()


def settings_of(optimizer: torch.optim.Optimizer) -> str:
    """Return the optimiser's plain settings, learning rates among them, of all groups."""
    groups = []
    for group in optimizer.param_groups:
        values = {n: v.tolist() if isinstance(v, Tensor) and v.dim() == 0 else v for n, v in group.items()}
        groups.append(sorted((name, repr(value)) for name, value in values.items() if _plain(value)))
    return repr(groups)


def data_digest(problem: Problem, source: NoiseSource, *, at_once: int) -> bytes:
    """Return a digest of the losses of all rows under the weights as they are, `at_once` rows at a time.

    It says which data these are, as far as the losses tell them apart; generators and buffers are left as they were.
    Nothing is asked where the rows that are read are counted.
    """
    digest = hashlib.sha256(b"losses")
    device = next(problem.model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with left_as_it_was(problem.model, devices), torch.no_grad():
        torch.manual_seed(source.torch_seed(0, "data"))
        for part in parts_of(np.arange(problem.size), None, at_once=at_once) if MAY_ASK_AGAIN.get() else ():
            try:
                digest.update(_bytes(problem.losses(torch.from_numpy(part).to(device))))
            except Exception:  # what is wrong with the losses is for the first step to say
                break
    return digest.digest()


def weights_digest(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Return SHA-256 of all parameters, persistent buffers, and what the optimiser remembers of steps before."""
    digest = hashlib.sha256()
    for name, tensor in [*model.state_dict().items(), *_remembered(optimizer)]:
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _remembered(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, Any]]:
    for place, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        for name, value in sorted(optimizer.state.get(parameter, {}).items()):
            yield f"{place} {name}", value


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _plain(value: Any) -> bool:
    return all(map(_plain, value)) if isinstance(value, tuple | list) else isinstance(value, _PLAIN)


def _joined(values: Iterable[Any]) -> bytes:
    """Return values as bytes that no others give."""
    parts = []
    for value in values:
        if isinstance(value, np.ndarray):
            value = f"{value.dtype} {value.shape}".encode() + value.tobytes()
        part = value if isinstance(value, bytes) else repr(value).encode()
        parts.append(len(part).to_bytes(8, "little") + part)
    return b"".join(parts)
