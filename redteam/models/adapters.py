"""LoRA adapters of PEFT, merged onto the model they were trained on: W + scale * B A, and no code of theirs runs.

Merged here and not by `peft`, which asks the hub where a base is not at hand, opens what a config names, and lets an
adapter's missing tensors pass with a warning. Every tensor of the adapter has its place, and every module that its
config names has its tensors: else another model would be audited.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from redteam.core import BundleError
from redteam.models.configs import make_config, read_config
from redteam.models.harmless import refusal
from redteam.models.heads import (
    check_architecture,
    check_kind,
    lacks,
    left_behind,
    output_names,
    skeleton,
    with_labels,
)
from redteam.models.labels import check_labels, label_names
from redteam.models.lora import CONFIG, Lora, read_lora
from redteam.models.plain import plain_tensor, same_kind, same_numbers
from redteam.models.weights import LoadedWeights, load_weights, read_tensors
from redteam.models.wrappers import unwrapped

_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
_PREFIX = "base_model.model."
# The two matrices of a pair, and those of an embedding.
_PAIRS = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
}
Pairs = Mapping[str, Mapping[str, torch.Tensor]]


def is_adapter(path: Path) -> bool:
    """True for a directory that holds what changes another model and not that model."""
    return (path / CONFIG).exists()


def merged(path: Path, base: Path | None) -> tuple[PreTrainedModel, tuple[str, ...], Path]:
    """Return the model that an adapter makes of its base, notes on it, and the directory of its tokenizer.

    `base` is the directory of the base, by default the one that the adapter names. Labels are those of a config.json
    beside the adapter, else the base's where they are as many as the adapter's classifier has rows, else LABEL_0,
    LABEL_1, ... Raises BundleError for an adapter that cannot be merged exactly.
    """
    lora = read_lora(path)
    folder = _base(path, lora, base)
    pairs, kept = _split(path, _tensors(path))
    config, named = _config(path, folder, kept)
    check_kind(config.problem_type, str(path))
    model = skeleton(config, str(folder))
    check_architecture(config, type(model), str(folder))
    weights = load_weights(folder, config, type(model))
    _check_base(folder, weights, kept, config.num_labels)
    _check_complete(path, weights.model, lora, pairs, kept)
    _apply(path, weights.model, lora, pairs, kept)
    weights.model.config.architectures = [type(model).__name__]
    own = any((path / name).is_file() for name in _TOKENIZERS) or any(path.glob("*.model"))
    notes = (*weights.notes, f"{path}: merged the adapter onto {folder}; its labels are {named}")
    return weights.model.eval(), notes, path if own else folder


def _base(path: Path, lora: Lora, given: Path | None) -> Path:
    """Return the directory of the base; a name on a hub is none, and nothing is fetched."""
    whole = next((name for name in _WHOLE if (path / name).exists()), None)
    if whole is not None:
        raise BundleError(
            f"{path}: holds an adapter ({CONFIG}) and whole weights ({whole}), which are two models; move the one that "
            "is not to be audited out of it"
        )
    found = given if given is not None else _local(lora.base)
    if found is None or not found.is_dir():
        named = "it names no base" if lora.base is None else f"its base {lora.base[:120]!r} is no directory here"
        named = named if given is None else f"--adapter-base {given} is no directory"
        raise BundleError(f"{path}: an adapter, and {named}: give it with --adapter-base DIR (nothing is fetched)")
    if is_adapter(found):
        raise BundleError(f"{path}: its base {found} is an adapter itself; merge that first: redteam pack, then unpack")
    return found


def _local(name: str | None) -> Path | None:
    """Return the directory of that name, if it is one; a share of another machine (`//HOST/...`) is not asked."""
    if name is None or name.startswith(("//", "\\\\")):
        return None
    try:
        return Path(name) if Path(name).is_dir() else None
    except (OSError, ValueError):  # too long a name, a zero byte
        return None


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    file = next((path / name for name in _FILES if (path / name).is_file()), None)
    if file is None:
        raise BundleError(f"{path}: has {CONFIG} and neither {_FILES[0]} nor {_FILES[1]}")
    stored = {name: plain_tensor(tensor, name, str(file), parameters=True) for name, tensor in read_tensors(file)}
    return unwrapped(stored, str(path))[0]


def _split(path: Path, stored: Mapping[str, torch.Tensor]) -> tuple[Pairs, dict[str, torch.Tensor]]:
    """Return the pairs of matrices by module, and the tensors that take the place of the base's, by their names."""
    pairs: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in stored.items():
        if not name.startswith(_PREFIX):
            raise BundleError(f"{path}: the adapter holds {name[:120]!r}, for which its base has no place")
        bare = name.removeprefix(_PREFIX)
        ending = next((end for end in _PAIRS if bare.endswith(f".{end}")), None)
        if ending is not None:
            pairs[bare.removesuffix(f".{ending}")][ending] = tensor
            continue
        if ".original_module." in bare:  # what a module was before training, saved along with bias = "all"
            continue
        bare = re.sub(r"\.(base_layer|modules_to_save(\.default)?)\.", ".", bare)
        if bare in kept and not same_numbers(kept[bare], tensor):
            raise BundleError(f"{path}: the adapter holds two tensors for {bare[:120]!r}, and they differ")
        kept[bare] = tensor
    return pairs, kept


def _config(path: Path, folder: Path, kept: Mapping[str, torch.Tensor]) -> tuple[Any, str]:
    """Return the config with as many labels as the adapter's classifier has rows, and where their names are from."""
    own = (path / "config.json").is_file()
    source = path if own else folder
    raw, below = read_config(source), read_config(folder)
    if raw.get("model_type") != below.get("model_type"):
        kinds = f"{raw.get('model_type')!r}, its base {folder} {below.get('model_type')!r}"
        raise BundleError(f"{path}: config.json is of model type {kinds}")
    config = make_config(raw, str(source))
    labels = label_names(config, str(source))
    check_labels(raw, str(source))
    rows = {kept[key].shape[0] for key in output_names(config, str(source)) if key in kept and kept[key].ndim}
    if not rows or rows == {len(labels)}:
        return config, f"those of {source / 'config.json'}"
    if own or len(rows) > 1:
        have = " or ".join(map(str, sorted(rows)))
        raise BundleError(f"{path}: the adapter's classifier has {have} rows, config.json names {len(labels)} labels")
    return with_labels(config, tuple(f"LABEL_{i}" for i in range(min(rows)))), "numbers (it names none)"


def _check_base(folder: Path, weights: LoadedWeights, kept: Mapping[str, torch.Tensor], labels: int) -> None:
    """Raise BundleError where the base lacks what the adapter does not bring, or holds what is nobody's."""
    lost = weights.missing - kept.keys()
    if lost:
        if weights.unfit.keys() & lost:
            raise BundleError(f"{folder}: {lacks(weights, labels)}")
        raise BundleError(f"{folder}: weights of {min(lost)!r} are neither in the base nor in the adapter")
    headless = any(key in kept for key in output_names(weights.model.config, str(folder)))
    stray = {k: v for k, v in weights.unplaced.items() if not (headless and left_behind(k, weights, None))}
    wrong = refusal(stray, weights.model)
    if wrong:
        raise BundleError(f"{folder}: {wrong}")


def _check_complete(
    path: Path, model: PreTrainedModel, lora: Lora, pairs: Pairs, kept: Mapping[str, torch.Tensor]
) -> None:
    """Raise BundleError where the config names modules of which the file says nothing: they would stay the base's."""
    whole = {name for name, _ in model.named_modules() if name and _ends(name, lora.kept, dotted=False)}
    for key in model.state_dict():
        if any(key.startswith(f"{name}.") for name in whole) and key not in kept:
            raise BundleError(f"{path}: {CONFIG} says that {key!r} was trained, the adapter holds no such tensor")
    for name, module in model.named_modules():
        inside = any(f"{name}.".startswith(f"{above}.") for above in whole)
        mergeable = isinstance(module, nn.Linear | nn.Embedding | Conv1D)
        if mergeable and not inside and _ends(name, lora.targets) and name not in pairs:
            raise BundleError(f"{path}: {CONFIG} says that {name!r} was adapted, the adapter holds no tensors of it")


def _ends(name: str, parts: tuple[str, ...], *, dotted: bool = True) -> bool:
    return any(name == part or name.endswith(f".{part}" if dotted else part) for part in parts)


@torch.no_grad()
def _apply(path: Path, model: PreTrainedModel, lora: Lora, pairs: Pairs, kept: Mapping[str, torch.Tensor]) -> None:
    """Change the model's weights in place, in a precision that holds the base's and the adapter's."""
    brought = [*kept.values(), *(tensor for pair in pairs.values() for tensor in pair.values())]
    wide = model.dtype
    for kind in {tensor.dtype for tensor in brought if tensor.dtype.is_floating_point} | {torch.float32}:
        wide = torch.promote_types(wide, kind)
    model.to(wide)
    state = model.state_dict()
    changed = {f"{module}.weight" for module in pairs} | kept.keys()
    for pair in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if changed & set(pair):
            raise BundleError(f"{path}: {pair[0]!r} and {pair[1]!r} are one in the base, and the adapter changes one")
    for name, tensor in kept.items():
        _check_place(path, name, tensor, state)
        state[name].copy_(tensor)
    for name, pair in pairs.items():
        weight = state.get(f"{name}.weight")
        if weight is None:
            raise BundleError(f"{path}: the adapter changes {name[:120]!r}, which its base does not have")
        weight.copy_(weight.double() + _change(path, name, model.get_submodule(name), lora, pair))


def _check_place(path: Path, name: str, tensor: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
    if name not in state:
        raise BundleError(f"{path}: the adapter holds {name[:120]!r}, for which its base has no place")
    if state[name].shape != tensor.shape or not same_kind(tensor, state[name]):
        found, wanted = f"{tuple(tensor.shape)} of {tensor.dtype}", f"{tuple(state[name].shape)} of {state[name].dtype}"
        raise BundleError(f"{path}: the adapter's {name[:120]!r} is {found}, its base has {wanted}: not of one model")


def _change(path: Path, name: str, module: nn.Module, lora: Lora, pair: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return what is added to a module's weight, in float64: scale * B A, the other way round where it is stored so."""
    embedding = isinstance(module, nn.Embedding)
    ends = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
    if not isinstance(module, nn.Linear | nn.Embedding | Conv1D):
        raise BundleError(f"{path}: the adapter changes {name!r}, a {type(module).__name__}, which is not merged here")
    if pair.keys() != set(ends):
        raise BundleError(
            f"{path}: of {name!r} the adapter holds {', '.join(sorted(pair))}; wanted {' and '.join(ends)}"
        )
    first, second = pair[ends[0]], pair[ends[1]]
    rank, turned = lora.rank_of(name), embedding or isinstance(module, Conv1D)
    rows, columns = module.weight.shape[::-1] if turned else module.weight.shape
    if first.shape != (rank, columns) or second.shape != (rows, rank) or not first.dtype.is_floating_point:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        wanted = f"({rank}, {columns}) and ({rows}, {rank})"
        raise BundleError(
            f"{path}: the adapter's pair for {name!r} is {shapes}, wanted {wanted} by {CONFIG} and the base"
        )
    product = lora.scale(name) * (second.double() @ first.double())
    return product.T if turned else product
