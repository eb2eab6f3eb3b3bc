"""Models from bundles and Hugging Face directories, and back: nothing is fetched, no code of theirs runs."""

import errno
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.initialization import no_init_weights

from redteam.bundle import Bundle
from redteam.errors import BundleError
from redteam.models.configs import (
    first_line,
    longest_input,
    make_config,
    portable_config,
    quiet,
    read_config,
)
from redteam.models.harmless import refusal, said
from redteam.models.labels import check_labels, label_names
from redteam.models.plain import same_kind, same_numbers
from redteam.models.settled import settled
from redteam.models.tokens import load_tokenizer, open_tokenizer
from redteam.models.weights import Weights, load_weights, refuse_adapter, untied

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
# What pretraining trains above an encoder, and a classifier has no use for.
_PRETRAINED_HEADS = (
    "cls",
    "lm_head",
    "lm_loss",
    "final_logits_bias",
    "predictions",
    "sop_classifier",
    "generator_predictions",
    "generator_lm_head",
    "discriminator_predictions",
    "mask_predictions",
    "lm_predictions",
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector",
    "qa_outputs",
)
_SPECIAL_NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def open_model(bundle: Bundle, *, name: str) -> PreTrainedModel:
    """Return the bundle's model in float32 and eval mode; raise BundleError where its parts disagree."""
    config = _checked_config(bundle, name)
    with quiet(), no_init_weights():
        model = _build(config, dtype=torch.float32)
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


def read_directory(path: Path) -> Bundle:
    """Pack a Hugging Face text-classification directory; raise BundleError where it is not one."""
    refuse_adapter(path)
    raw = read_config(path)
    config = make_config(raw, str(path))
    labels = label_names(config, str(path))
    check_labels(raw, str(path))
    _check_kind(config.problem_type, len(labels), str(path))
    kind = _kind(config, str(path))
    _check_architecture(config, kind, str(path))
    weights = load_weights(path, config, kind)
    model = weights.model
    if weights.missing:
        raise BundleError(f"{path}: {_lacks(weights, len(labels))}")
    dropped = weights.unplaced
    wrong = refusal(dropped, model)
    if wrong:
        raise BundleError(f"{path}: {wrong}")
    tokenizer = load_tokenizer(path)
    files = {file: _small_text(path / file) for file in _TEXT_FILES if (path / file).is_file()}
    return Bundle(
        config=portable_config(model.config),
        state=model.state_dict(),
        tokenizer=tokenizer.to_str(),
        labels=labels,
        max_length=longest_input(model, path) or 512,
        files={file: text for file, text in files.items() if text is not None},
        notes=(*weights.notes, *((f"{path}: {said(dropped)}",) if dropped else ())),
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
        model = _build(config, dtype=torch.float32)
    weights = load_weights(path, config, type(model))
    if tell is not None:
        for note in weights.notes:
            tell(note)
    lost = weights.missing
    body = sorted(key for key in lost if not _within(key, _HEADS) and not _within(key, _POOLERS))
    if body:
        raise BundleError(f"{path}: weights of {body[0]!r} are missing or do not fit its config")
    stray = {key: tensor for key, tensor in weights.unplaced.items() if not _left_behind(key, weights, layers)}
    wrong = refusal(stray, model)
    if wrong:
        raise BundleError(f"{path}: {wrong}")
    state = weights.model.state_dict()
    kept = {key: value for key, value in state.items() if key not in lost and not _within(key, _HEADS)}
    model.load_state_dict(kept, strict=False)
    return model


def _check_kind(problem: str | None, labels: int, name: str) -> None:
    """Raise BundleError, naming the key of the config, for a model that does not choose one of several labels."""
    only = "only classifiers that choose one of several labels can be audited"
    if problem in ("multi_label_classification", "regression"):
        what = "each label is answered by itself" if problem.startswith("multi") else "the answer is a number"
        raise BundleError(f"{name}: the config says problem_type = {problem!r}, where {what}: {only}")
    if labels < 2:
        raise BundleError(
            f"{name}: the config has {labels} label (num_labels = {labels}), so that one logit is all that the model "
            f"answers: {only}; where it stands for yes or no, save a classifier with 2 labels and the weights [0, w]"
        )


def _lacks(weights: Weights, labels: int) -> str:
    """Return what is wrong with weights that do not fill the config's classifier."""
    for key, (found, wanted) in sorted(weights.unfit.items()):
        if _within(key, _HEADS) and found and wanted[:1] == (labels,) and found[1:] == wanted[1:]:
            return (
                f"the classifier has {found[0]} rows ({key!r}), the config names {labels} labels; write the names of "
                f"all {found[0]} into id2label and label2id, in the order that the model was trained with"
            )
    for key, (found, wanted) in sorted(weights.unfit.items()):
        return f"tensor {key!r} has shape {found}, the config says {wanted}: they are not of one model"
    return f"weights of {min(weights.missing)!r} are missing: not a fine-tuned text classifier"


def _left_behind(key: str, weights: Weights, layers: int | None) -> bool:
    """True for what training leaves behind: heads for other tasks, and layers above those that are kept."""
    prefix = f"{weights.model.base_model_prefix}."
    whole = any(name.startswith(prefix) for name in weights.stored)  # else an encoder saved alone
    if whole and not key.startswith(prefix):
        return True
    if _within(key, _PRETRAINED_HEADS) or _within(key, _HEADS) or _within(key, _POOLERS):
        return key.endswith((".weight", ".bias")) and "lora_" not in key
    number = re.search(r"\.(\d+)\.", key)
    return layers is not None and number is not None and int(number[1]) >= layers


def _checked_config(bundle: Bundle, name: str) -> Any:
    """Compare labels, names and shapes before memory is taken, so that a lying config cannot exhaust it."""
    config = make_config(bundle.config, name)
    check_labels(bundle.config, name)
    if label_names(config, name) != bundle.labels:
        raise BundleError(f"{name}: the labels of the config are not those that the bundle names")
    try:
        with quiet(), torch.device("meta"), no_init_weights():
            built = _build(config)
            expected = built.state_dict()
    except Exception as error:
        raise BundleError(f"{name}: no classifier can be built from the config ({first_line(error)})") from None
    _check_architecture(config, type(built), name)
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


def _kind(config: Any, name: str) -> type[PreTrainedModel]:
    """Return the class of the config's classifier, without taking memory for its weights."""
    try:
        with quiet(), torch.device("meta"), no_init_weights():
            return type(_build(config))
    except Exception as error:
        raise BundleError(f"{name}: no classifier can be built from the config ({first_line(error)})") from None


def _check_architecture(config: Any, kind: type[PreTrainedModel], name: str) -> None:
    """Refuse what was saved from a class of somebody's own: its weights fit, and it may compute something else.

    Other classes of transformers have other tensors, where they compute otherwise.
    """
    stated = config.architectures
    for each in stated if isinstance(stated, list | tuple) else ():
        if isinstance(each, str) and each != kind.__name__ and not hasattr(transformers, each):
            raise BundleError(
                f"{name}: was saved from a {each[:80]}, a class of its own, and would be opened as a {kind.__name__}, "
                "which may answer otherwise: audit it as a function, MODULE:FUNCTION"
            )


def _build(config: Any, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, **options)
    return model


def _within(key: str, parts: tuple[str, ...]) -> bool:
    """True for `classifier.weight` and `bert.pooler.dense.weight`, false for `bert.encoder.layer.0...`."""
    first, second = [*key.split("."), ""][:2]
    return first in parts or second in parts


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
