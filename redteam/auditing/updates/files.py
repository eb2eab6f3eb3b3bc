"""Read what a client sent: .safetensors, .npz, or .pt without any code, as differences or as whole weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redteam.core import DataError, first_line
from redteam.plugins.update import ClientUpdate
from redteam.targets.target import WhiteBox

_WHOLE = 0.9  # cosine with the weights from which on a file holds weights and no difference


def load_update(path: Path, model: WhiteBox, *, after: bool = False) -> ClientUpdate:
    """Read an update of `model`, named after the file; `after`: the file holds the weights after training.

    Raises DataError, in one line, for a file that cannot be read or is no update of this model: unknown names, other
    shapes, numbers that are not finite, or nothing that changed.
    """
    found = _read(path)
    known = dict(model.model.named_parameters())
    kept = {name: value for name, value in found.items() if name in known}
    unknown = sorted(found.keys() - model.model.state_dict().keys())
    if unknown or not kept:
        what = f"{unknown[0][:80]!r} is no parameter of {model.name}" if unknown else "it holds no parameter"
        raise DataError(f"{path}: {what}: an update of another model; give the model that the round began with")
    change: dict[str, torch.Tensor] = {}
    for name, value in kept.items():
        own = known[name].detach().to("cpu", torch.float32)
        if value.shape != own.shape:
            shapes = f"{tuple(value.shape)}, that of {model.name} {tuple(own.shape)}"
            raise DataError(f"{path}: {name} has shape {shapes}: an update of another model")
        change[name] = value.to(torch.float32) - own if after else value.to(torch.float32)
        if not bool(torch.isfinite(change[name]).all()):
            raise DataError(f"{path}: {name} holds numbers that are not finite (NaN or infinity)")
    if not any(bool(value.any()) for value in change.values()):
        raise DataError(f"{path}: changes nothing, every number is 0: there is nothing to attack")
    if not after and _are_weights(change, known):
        raise DataError(f"{path}: holds weights, and not what training changed of them: give --after")
    return ClientUpdate(path.stem, change)


def _are_weights(change: Mapping[str, torch.Tensor], known: Mapping[str, Any]) -> bool:
    """Tell whether these are close to the weights themselves."""
    dot = left = right = 0.0
    for name, value in change.items():
        own = known[name].detach().to("cpu", torch.float32)
        dot += float((value * own).sum())
        left, right = left + float((value**2).sum()), right + float((own**2).sum())
    return dot > _WHOLE * (left * right) ** 0.5 and left > 0.25 * right


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        document = _opened(path)
    except DataError:
        raise
    except Exception as error:  # each format has its own
        raise DataError(f"{path}: cannot be read ({first_line(error)})") from None
    if not isinstance(document, Mapping) or not document:
        raise DataError(f"{path}: holds no tensors by name: save a dict of parameter name to tensor")
    for name, value in document.items():
        plain = isinstance(name, str) and isinstance(value, torch.Tensor)
        if not (plain and value.is_floating_point()):
            raise DataError(f"{path}: {str(name)[:80]!r} is no tensor of floating-point numbers")
    return dict(document)


def _opened(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    if path.suffix in (".pt", ".pth"):
        return torch.load(path, map_location="cpu", weights_only=True)
    raise DataError(f"{path}: wanted .safetensors, .npz or .pt")
