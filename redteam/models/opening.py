"""Models from bundles and Hugging Face directories, and back: nothing is fetched, no code of theirs runs."""

import errno
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from redteam.core import BundleError, first_line
from redteam.models.bundle import Bundle
from redteam.models.configs import longest_input, make_config, portable_config, quiet, read_config
from redteam.models.directories import open_directory
from redteam.models.harmless import refusal
from redteam.models.heads import HEADS, POOLERS, build, check_architecture, left_behind, skeleton, within
from redteam.models.labels import check_labels, label_names
from redteam.models.plain import same_kind, same_numbers
from redteam.models.settled import settled
from redteam.models.tokens import load_tokenizer, open_tokenizer
from redteam.models.weights import load_weights, refuse_adapter, untied

_TEXT_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "README.md",
)
_LARGEST_TEXT = 16 << 20
_SPECIAL_NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def open_model(bundle: Bundle, *, name: str) -> PreTrainedModel:
    """Return the bundle's model in float32 and eval mode; raise BundleError where its parts disagree."""
    config = _checked_config(bundle, name)
    with quiet(), no_init_weights():
        model = build(config, dtype=torch.float32)
    apart = untied(model, bundle.state)
    if apart:
        raise BundleError(f"{name}: tensors {apart[0]!r} and {apart[1]!r} are one in this model, and differ here")
    model.load_state_dict(dict(bundle.state), strict=True)
    for key, loaded in model.state_dict().items():
        if not same_numbers(bundle.state[key], loaded):
            raise BundleError(f"{name}: tensor {key!r} is not what the model computes with: tied to another of its own")
    longest = longest_input(model)
    if longest is not None and bundle.max_length > longest:
        raise BundleError(f"{name}: max_length is {bundle.max_length}, the model takes {longest} tokens")
    return model.eval()


def read_directory(path: Path, *, base_model: Path | None = None) -> Bundle:
    """Pack a Hugging Face text-classification directory; raise BundleError where it is not one.

    An adapter of PEFT is merged onto `base_model`, or onto the directory that it names as its base.
    """
    opened = open_directory(path, base_model)
    tokenizer = load_tokenizer(opened.tokenizer)
    files = {file: _small_text(opened.tokenizer / file) for file in _TEXT_FILES if (opened.tokenizer / file).is_file()}
    return Bundle(
        config=portable_config(opened.model.config),
        state=opened.model.state_dict(),
        tokenizer=tokenizer.to_str(),
        labels=opened.labels,
        max_length=longest_input(opened.model, opened.tokenizer) or 512,
        files={file: text for file, text in files.items() if text is not None},
        notes=opened.notes,
    )


def write_directory(bundle: Bundle, path: Path, *, name: str) -> None:
    """Unpack a bundle into a Hugging Face directory that any tool of that world opens, whole or not at all.

    `path` must not exist, or be an empty directory. Raises BundleError for a bad bundle, OSError for a full disk.
    """
    for file in bundle.files:
        if file not in _TEXT_FILES:
            raise BundleError(f"{name}: holds a file named {file!r}, which no bundle should: refused")
    tokenizer = open_tokenizer(bundle, name=name)
    config = _checked_config(bundle, name)
    with quiet(), no_init_weights():
        model = build(config)
        model.load_state_dict(dict(bundle.state), strict=True, assign=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", dir=path.parent) as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        alone = settled(Tokenizer.from_str(bundle.tokenizer)).to_str()
        texts = {"tokenizer_config.json": _tokenizer_config(tokenizer, bundle), "tokenizer.json": alone}
        for file, text in (texts | dict(bundle.files)).items():
            (folder / file).write_text(text, encoding="utf-8")
        try:
            with quiet():
                model.save_pretrained(folder)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(errno.EIO, f"cannot be written ({first_line(error)})", str(path)) from None
        folder.replace(path)


def load_encoder(
    path: Path, labels: tuple[str, ...], *, layers: int | None, tell: Callable[[str], None] | None = None
) -> PreTrainedModel:
    """Open a directory's encoder under a fresh classifier for `labels`, cut to its first `layers` layers.

    In float32, whatever the precision of the file: training in half precision fails on a CPU. `tell` hears what was
    done to the names in the file.
    """
    refuse_adapter(path)
    config = make_config(read_config(path), str(path))
    if layers is not None:
        have = getattr(config, "num_hidden_layers", None)
        if have is None or not 1 <= layers <= have:
            raise BundleError(f"{path}: --layers {layers}: the model has {have}")
        config.num_hidden_layers = layers
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    with quiet():
        model = build(config, dtype=torch.float32)
    weights = load_weights(path, config, type(model))
    if tell is not None:
        for note in weights.notes:
            tell(note)
    lost = weights.missing
    body = sorted(key for key in lost if not within(key, HEADS) and not within(key, POOLERS))
    if body:
        raise BundleError(f"{path}: weights of {body[0]!r} are missing or do not fit its config")
    stray = {key: tensor for key, tensor in weights.unplaced.items() if not left_behind(key, weights, layers)}
    wrong = refusal(stray, model)
    if wrong:
        raise BundleError(f"{path}: {wrong}")
    state = weights.model.state_dict()
    kept = {key: value for key, value in state.items() if key not in lost and not within(key, HEADS)}
    model.load_state_dict(kept, strict=False)
    return model


def _checked_config(bundle: Bundle, name: str) -> Any:
    """Compare labels, names and shapes before memory is taken, so that a lying config cannot exhaust it."""
    config = make_config(bundle.config, name)
    check_labels(bundle.config, name)
    if label_names(config, name) != bundle.labels:
        raise BundleError(f"{name}: the labels of the config are not those that the bundle names")
    built = skeleton(config, name)
    expected = built.state_dict()
    check_architecture(config, type(built), name)
    for key in sorted(expected.keys() ^ bundle.state.keys()):
        where = "lacks" if key in expected else "has an unexpected"
        raise BundleError(f"{name}: the state_dict {where} tensor {key!r}")
    for key, tensor in expected.items():
        if tensor.shape != bundle.state[key].shape:
            found, wanted = tuple(bundle.state[key].shape), tuple(tensor.shape)
            raise BundleError(f"{name}: tensor {key!r} has shape {found}, the config says {wanted}")
        if not same_kind(bundle.state[key], tensor):
            holds = f"holds {bundle.state[key].dtype}, the model's is {tensor.dtype}"
            raise BundleError(f"{name}: tensor {key!r} {holds}: refused")
    return config


def _tokenizer_config(tokenizer: Tokenizer, bundle: Bundle) -> str:
    known = {f"{key}_token": name for key, name in _SPECIAL_NAMES.items() if tokenizer.token_to_id(name) is not None}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": bundle.max_length}
    return json.dumps(settings | known)


def _small_text(path: Path) -> str | None:
    if path.stat().st_size > _LARGEST_TEXT:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        if path.suffix == ".json":
            raise BundleError(f"{path}: not UTF-8 text; save the model again") from None
        return path.read_text(encoding="latin-1")  # a README of an older editor; no byte of it is lost
