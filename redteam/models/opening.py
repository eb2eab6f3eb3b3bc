"""Models from bundles and Hugging Face directories, and back: nothing is fetched, no code of theirs runs."""

import errno
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.initialization import no_init_weights

from redteam.bundle import Bundle
from redteam.errors import BundleError
from redteam.models.configs import (
    first_line,
    label_names,
    longest_input,
    make_config,
    portable_config,
    quiet,
    read_config,
)
from redteam.models.tokens import load_tokenizer, open_tokenizer

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
# Where the classifier on top of an encoder lies: trained afresh for other labels.
_HEADS = (
    "classifier",
    "score",
    "pre_classifier",
    "classification_head",
    "sequence_summary",
    "logits_proj",
)
# What pretraining often leaves out below the classifier, and training can start from scratch.
_POOLERS = ("pooler", "head")
_SPECIAL_NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def open_model(bundle: Bundle, *, name: str) -> PreTrainedModel:
    """Return the bundle's model in float32 and eval mode; raise BundleError where its parts disagree."""
    config = _checked_config(bundle, name)
    with quiet(), no_init_weights():
        model = _build(config, dtype=torch.float32)
    model.load_state_dict(dict(bundle.state), strict=True)
    longest = longest_input(model)
    if longest is not None and bundle.max_length > longest:
        raise BundleError(f"{name}: max_length is {bundle.max_length}, the model takes {longest} tokens")
    return model.eval()


def read_directory(path: Path) -> Bundle:
    """Pack a Hugging Face text-classification directory; raise BundleError where it is not one."""
    config = make_config(read_config(path), str(path))
    labels = label_names(config, str(path))
    if config.problem_type in ("multi_label_classification", "regression") or len(labels) < 2:
        kind = config.problem_type or f"{len(labels)} label"
        raise BundleError(f"{path}: {kind}: only classifiers that choose one of several labels can be audited")
    model, info = _load_weights(path, config)
    lost = sorted(info["missing_keys"] | {key for key, *_ in info["mismatched_keys"]})
    if lost:
        raise BundleError(f"{path}: weights of {lost[0]!r} are missing: not a fine-tuned text classifier")
    left = [key for key in sorted(info["unexpected_keys"]) if ".layer" in key]
    if left:
        raise BundleError(f"{path}: holds weights of {left[0]!r}, for which its config has no layer")
    tokenizer = load_tokenizer(path)
    files = {file: _small_text(path / file) for file in _TEXT_FILES if (path / file).is_file()}
    return Bundle(
        config=portable_config(model.config),
        state=model.state_dict(),
        tokenizer=tokenizer.to_str(),
        labels=labels,
        max_length=longest_input(model, path) or 512,
        files={file: text for file, text in files.items() if text is not None},
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
        model = _build(config)
        model.load_state_dict(dict(bundle.state), strict=True, assign=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", dir=path.parent) as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        texts = {"tokenizer_config.json": _tokenizer_config(tokenizer, bundle), "tokenizer.json": bundle.tokenizer}
        for file, text in (texts | dict(bundle.files)).items():
            (folder / file).write_text(text, encoding="utf-8")
        try:
            with quiet():
                model.save_pretrained(folder)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(errno.EIO, f"cannot be written ({first_line(error)})", str(path)) from None
        folder.replace(path)


def load_encoder(path: Path, labels: tuple[str, ...], *, layers: int | None) -> PreTrainedModel:
    """Open a directory's encoder under a fresh classifier for `labels`, cut to its first `layers` layers.

    In float32, whatever the precision of the file: training in half precision fails on a CPU.
    """
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
        model = _build(config, dtype=torch.float32)
    loaded, info = _load_weights(path, config)
    lost = info["missing_keys"] | {key for key, *_ in info["mismatched_keys"]}
    body = sorted(key for key in lost if not _within(key, _HEADS) and not _within(key, _POOLERS))
    if body:
        raise BundleError(f"{path}: weights of {body[0]!r} are missing or do not fit its config")
    kept = {key: value for key, value in loaded.state_dict().items() if key not in lost and not _within(key, _HEADS)}
    model.load_state_dict(kept, strict=False)
    return model


def _checked_config(bundle: Bundle, name: str) -> Any:
    """Compare labels, names and shapes before memory is taken, so that a lying config cannot exhaust it."""
    config = make_config(bundle.config, name)
    if label_names(config, name) != bundle.labels:
        raise BundleError(f"{name}: the labels of the config are not those that the bundle names")
    try:
        with quiet(), torch.device("meta"), no_init_weights():
            expected = _build(config).state_dict()
    except Exception as error:
        raise BundleError(f"{name}: no classifier can be built from the config ({first_line(error)})") from None
    for key in sorted(expected.keys() ^ bundle.state.keys()):
        where = "lacks" if key in expected else "has an unexpected"
        raise BundleError(f"{name}: the state_dict {where} tensor {key!r}")
    for key, tensor in expected.items():
        if tensor.shape != bundle.state[key].shape:
            found, wanted = tuple(bundle.state[key].shape), tuple(tensor.shape)
            raise BundleError(f"{name}: tensor {key!r} has shape {found}, the config says {wanted}")
    return config


def _build(config: Any, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, **options)
    return model


def _load_weights(path: Path, config: Any) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    if (path / "adapter_config.json").exists():
        raise BundleError(f"{path}: holds an adapter, which needs another model; merge the two and save again")
    try:
        with quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                path,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:
        raise BundleError(f"{path}: weights cannot be loaded ({first_line(error)})") from None
    return model.eval(), info


def _within(key: str, parts: tuple[str, ...]) -> bool:
    """True for `classifier.weight` and `bert.pooler.dense.weight`, false for `bert.encoder.layer.0...`."""
    first, second = [*key.split("."), ""][:2]
    return first in parts or second in parts


def _tokenizer_config(tokenizer: Tokenizer, bundle: Bundle) -> str:
    known = {f"{key}_token": name for key, name in _SPECIAL_NAMES.items() if tokenizer.token_to_id(name) is not None}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": bundle.max_length}
    return json.dumps(settings | known)


def _small_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.stat().st_size <= _LARGEST_TEXT else None
