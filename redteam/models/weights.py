"""Weights of Hugging Face directories: every tensor of the file has its place, every parameter its tensor."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from redteam.core import BundleError, first_line
from redteam.models.configs import quiet
from redteam.models.plain import plain_tensor, same_kind, same_numbers
from redteam.models.sizes import check_size
from redteam.models.wrappers import unwrapped

# In the order in which transformers looks for them.
_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Counters that no answer in eval mode depends on.
_COUNTERS = ".num_batches_tracked"


@dataclass(frozen=True)
class LoadedWeights:
    """A model with a file's tensors in it, the tensors as the file has them, and what did not fit on either side.

    `unfit` holds the shapes, in the file and in the model, of those that differ; they are `missing` too. `notes` say
    what was done to the names of the file.
    """

    model: PreTrainedModel
    stored: Mapping[str, torch.Tensor]
    missing: frozenset[str]
    unplaced: Mapping[str, torch.Tensor]
    unfit: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    notes: tuple[str, ...] = ()


def load_weights(path: Path, config: Any, kind: type[PreTrainedModel]) -> LoadedWeights:
    """Fill a model of class `kind` with a directory's tensors, unrounded; raise BundleError where it has none.

    What transformers drops or makes up by its own lists of harmless names is told like all the rest.
    """
    refuse_adapter(path)
    stored, notes = unwrapped(stored_tensors(path), str(path))
    check_size(config, stored, str(path))
    real = [tensor.dtype for tensor in stored.values() if tensor.dtype.is_floating_point]
    try:
        with quiet():
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(stored),
                dtype=_common(real),
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:
        raise BundleError(f"{path}: weights cannot be loaded ({first_line(error)})") from None
    unfit = {key: (tuple(found), tuple(wanted)) for key, found, wanted in info["mismatched_keys"]}
    places = _places(stored, model)
    unplaced = {key: stored[key] for key, place in places.items() if place is None and _is_dropped(key, model, info)}
    # What was renamed first, as `gamma` is, and had no place then, is told by its new name.
    unplaced |= {key: torch.tensor(torch.nan) for key in info["unexpected_keys"] if key not in stored}
    filled = set(places.values())
    missing = set(info["missing_keys"]) | {key for key in _made_up(model) if key not in filled}
    lost = {key for key in missing | unfit.keys() if not key.endswith(_COUNTERS)}
    apart = untied(model, stored)
    if apart:
        raise BundleError(
            f"{path}: tensors {apart[0]!r} and {apart[1]!r} are one in this model, and differ in the file"
        )
    fitting = {key: place for key, place in places.items() if place not in unfit}
    _check_numbers(path, model, stored, fitting, unplaced.keys())
    return LoadedWeights(model.eval(), stored, frozenset(lost), unplaced, unfit, notes)


def refuse_adapter(path: Path) -> None:
    """Raise BundleError for a directory of PEFT, which holds what changes another model and not that model."""
    if (path / "adapter_config.json").exists():
        raise BundleError(
            f"{path}: holds an adapter (adapter_config.json), which needs another model: merge the two with redteam "
            "pack, and redteam unpack writes them as a directory of their own"
        )


def untied(model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> tuple[str, str] | None:
    """Return two tensors that the model's kind computes with as one, and that differ; None where there are none.

    Versions of transformers differ in which of the two they take.
    """
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True).items()
    return next(
        ((a, b) for a, b in pairs if a in state and b in state and not same_numbers(state[a], state[b])),
        None,
    )


def stored_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a directory's weights, as they are in the file or its shards, without running anything."""
    found = next((name for name in _FILES if (path / name).is_file()), None)
    if found is None:
        raise BundleError(f"{path}: weights cannot be loaded (there is no {_FILES[0]} and no {_FILES[2]})")
    tensors: dict[str, torch.Tensor] = {}
    for file in _shards(path / found) if found.endswith(".json") else [path / found]:
        for name, tensor in read_tensors(file):
            if name in tensors:
                raise BundleError(f"{path}: weights cannot be loaded (two shards hold {name!r})")
            tensors[name] = plain_tensor(tensor, name, str(file), parameters=True)
    return tensors


def read_tensors(file: Path) -> Iterator[tuple[Any, Any]]:
    """Yield what one file of weights holds by name, unchecked; raise BundleError where it holds more than data."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                yield from ((name, opened.get_tensor(name)) for name in opened.keys())  # noqa: SIM118  (no mapping)
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BundleError(f"{file.parent}: weights cannot be loaded ({file.name}: {first_line(error)})") from None
    if not isinstance(state, dict):
        raise BundleError(f"{file.parent}: weights cannot be loaded ({file.name} holds a {type(state).__name__})")
    yield from dict.items(state)


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{index.parent}: weights cannot be loaded ({index.name}: {first_line(error)})") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name == "..":
            raise BundleError(f"{index.parent}: weights cannot be loaded ({index.name} names {name!r})")
    return [index.parent / name for name in sorted(names)]


def _common(kinds: list[torch.dtype]) -> torch.dtype:
    """Return the type that holds them all: read in less, weights would be rounded without a word."""
    common = kinds[0] if kinds else torch.float32
    for kind in kinds:
        common = torch.promote_types(common, kind)
    return common


def _places(names: Iterable[str], model: PreTrainedModel) -> dict[str, str | None]:
    """Return the name under which the model has each tensor: with or without the prefix of the encoder inside."""
    prefix, state = f"{model.base_model_prefix}.", model.state_dict()
    spelled = {key: (key, prefix + key, key.removeprefix(prefix)) for key in names}
    return {key: next((name for name in each if name in state), None) for key, each in spelled.items()}


def _is_dropped(key: str, model: PreTrainedModel, info: Mapping[str, Any]) -> bool:
    """True for what transformers left out, also where it says nothing; what is left was renamed, such as `gamma`."""
    quietly = {r"rotary_emb\.inv_freq", r"(^|\.)position_ids$", *(model._keys_to_ignore_on_load_unexpected or ())}
    return key in info["unexpected_keys"] or any(re.search(pattern, key) for pattern in quietly)


def _made_up(model: PreTrainedModel) -> set[str]:
    """Return what transformers lets be missing without a word; tied weights are there under another name."""
    quietly = model._keys_to_ignore_on_load_missing or ()
    tied = model.all_tied_weights_keys.keys()
    return {key for key in model.state_dict() if key not in tied and any(re.search(p, key) for p in quietly)}


def _check_numbers(
    path: Path,
    model: PreTrainedModel,
    stored: Mapping[str, torch.Tensor],
    places: Mapping[str, str | None],
    unplaced: Set[str],
) -> None:
    state = model.state_dict()
    for key, place in places.items():
        if place is None:  # renamed, or made into another with its like: real numbers, then
            if key not in unplaced and not stored[key].dtype.is_floating_point:
                raise BundleError(f"{path}: tensor {key!r} holds {stored[key].dtype} (quantised?): refused")
            continue
        if not same_kind(stored[key], state[place]):
            found, wanted = stored[key].dtype, state[place].dtype
            raise BundleError(f"{path}: tensor {key!r} holds {found}, the model's is {wanted} (quantised?): refused")
        if not same_numbers(stored[key], state[place]):
            raise BundleError(f"{path}: tensor {key!r} is not what the model computes with: tied to another of its own")
