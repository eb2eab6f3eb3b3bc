"""Read what a client sent: .safetensors, .npz, or .pt without any code, as differences or as whole weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redteam.core import DataError, UsageError, first_line
from redteam.plugins.update import ClientUpdate
from redteam.targets.target import WhiteBox

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")
_WHOLE = 0.9  # cosine with the weights from which on a file holds weights and no difference


def load_updates(paths: Sequence[Path], model: WhiteBox, *, after: bool = False) -> dict[str, ClientUpdate]:
    """Read files of one round, or folders, one a round in this order; by `client` or `folder/client`.

    A folder holds a file a client, and `before`: the weights that its round began with, which the first may go without,
    being that of the model. Raises UsageError for two updates of one name in a round, DataError as `load_update`.
    """
    found: dict[str, ClientUpdate] = {}
    for at, path in enumerate(paths):
        if not path.is_dir():
            _add(found, path.stem, load_update(path, model, after=after))
            continue
        if path.name in {key.partition("/")[0] for key in found}:
            raise UsageError(f"{path.name}: two folders bear this name; name each after its round")
        files = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES)
        begun = next((each for each in files if each.stem == "before"), None)
        if begun is None and at:
            raise DataError(f"{path}: no before.safetensors, .npz or .pt: the weights that this round began with")
        before = None if begun is None else _parameters(begun, _tensors(begun), model)
        if len(files) == (begun is not None):
            raise DataError(f"{path}: holds no update: .safetensors, .npz or .pt, each named after its client")
        for each in files:
            if each != begun:
                _add(found, f"{path.name}/{each.stem}", load_update(each, model, after=after, before=before))
    return found


def _add(found: dict[str, ClientUpdate], key: str, update: ClientUpdate) -> None:
    if key in found:
        raise UsageError(f"{key}: two updates bear this name; name each file after its client")
    found[key] = update


def load_update(
    path: Path, model: WhiteBox, *, after: bool = False, before: Mapping[str, torch.Tensor] | None = None
) -> ClientUpdate:
    """Read an update of `model`, named after the file; `after`: the file holds the weights after training.

    `before` are the weights of its round, where it is not the model's. Raises DataError, in one line, for a file that
    cannot be read or is no update of this model: unknown names, other shapes, numbers that are not finite, or nothing
    that changed.
    """
    change = _parameters(path, _tensors(path), model)
    own = {name: value.detach().to("cpu", torch.float32) for name, value in model.model.named_parameters()}
    own |= before or {}
    if after:
        change = {name: value - own[name] for name, value in change.items()}
    if not any(bool(value.any()) for value in change.values()):
        raise DataError(f"{path}: changes nothing, every number is 0: there is nothing to attack")
    if not after and _are_weights(change, own):
        raise DataError(f"{path}: holds weights, and not what training changed of them: give --after")
    return ClientUpdate(path.stem, change, before=before)


def _parameters(path: Path, found: Mapping[str, torch.Tensor], model: WhiteBox) -> dict[str, torch.Tensor]:
    """Return those tensors of a file that are parameters of the model, in float32; buffers are left out."""
    known = dict(model.model.named_parameters())
    kept = {name: value.detach().to(torch.float32) for name, value in found.items() if name in known}
    unknown = sorted(found.keys() - model.model.state_dict().keys())
    if unknown or not kept:
        what = f"{unknown[0][:80]!r} is no parameter of {model.name}" if unknown else "it holds no parameter"
        raise DataError(f"{path}: {what}: an update of another model; give the model that the round began with")
    for name, value in kept.items():
        if value.shape != known[name].shape:
            shapes = f"{tuple(value.shape)}, that of {model.name} {tuple(known[name].shape)}"
            raise DataError(f"{path}: {name} has shape {shapes}: an update of another model")
        if not bool(torch.isfinite(value).all()):
            raise DataError(f"{path}: {name} holds numbers that are not finite (NaN or infinity)")
    return kept


def _are_weights(change: Mapping[str, torch.Tensor], known: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether these are close to the weights themselves."""
    dot = left = right = 0.0
    for name, value in change.items():
        own = known[name]
        dot += float((value * own).sum())
        left, right = left + float((value**2).sum()), right + float((own**2).sum())
    return dot > _WHOLE * (left * right) ** 0.5 and left > 0.25 * right


def _tensors(path: Path) -> dict[str, torch.Tensor]:
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
        plain = isinstance(name, str) and isinstance(value, torch.Tensor) and value.is_floating_point()
        if not plain or value.layout is not torch.strided or value.is_meta:
            raise DataError(f"{path}: {str(name)[:80]!r} is no dense tensor of floating-point numbers")
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
