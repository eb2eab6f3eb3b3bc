"""Models from bundles and Hugging Face directories, and back: nothing is fetched and no code of theirs runs."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from redteam.bundle import Bundle
from redteam.errors import BundleError
from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification

AutoConfig.register(BiLSTMConfig.model_type, BiLSTMConfig)
AutoModelForSequenceClassification.register(BiLSTMConfig, BiLSTMForSequenceClassification)

# Keys of a config that make transformers fetch or run code, or build another model than the saved weights.
_REFUSED = ("auto_map", "custom_pipelines", "quantization_config")
_DROPPED = ("_attn_implementation", "_attn_implementation_internal", "attn_implementation", "_name_or_path",
            "_experts_implementation", "experts_implementation", "transformers_version")  # fmt: skip
_TEXT_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
               "merges.txt", "generation_config.json", "README.md")  # fmt: skip
_LARGEST_TEXT = 16 << 20


def open_model(bundle: Bundle, *, name: str) -> PreTrainedModel:
    """Return the bundle's model in float32 and eval mode; raise BundleError where config and weights disagree."""
    config = _config(bundle.config, name)
    if config.num_labels != len(bundle.labels):
        raise BundleError(
            f"{name}: the config has {config.num_labels} labels, the bundle names {len(bundle.labels)}"
        )
    _check_shapes(config, bundle.state, name)
    with _quiet(), transformers.initialization.no_init_weights():
        model = AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(dict(bundle.state), strict=True)
    return model.float().eval()


def open_tokenizer(bundle: Bundle, *, name: str) -> Tokenizer:
    """Return the bundle's tokenizer, cutting at `max_length` tokens and never padding; raise BundleError."""
    try:
        tokenizer = Tokenizer.from_str(bundle.tokenizer)
    except Exception as error:
        raise BundleError(f"{name}: tokenizer cannot be read ({str(error)[:120]})") from None
    tokenizer.enable_truncation(bundle.max_length)
    tokenizer.no_padding()
    return tokenizer


def read_directory(path: Path) -> Bundle:
    """Pack a Hugging Face text-classification directory; raise BundleError where it is not one."""
    try:
        raw = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path}: no readable config.json ({error}); a Hugging Face directory has one"
        ) from None
    config = _config(raw, str(path))
    _check_single_label(config, path)
    model = _load_weights(path, config, head="required")
    tokenizer = load_tokenizer(path)
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    files = {n: _small_text(path / n) for n in _TEXT_FILES if (path / n).is_file()}
    return Bundle(
        config=portable_config(model),
        state=model.state_dict(),
        tokenizer=tokenizer.to_str(),
        labels=labels,
        max_length=longest_input(config, path),
        files={name: text for name, text in files.items() if text is not None},
    )


def write_directory(bundle: Bundle, path: Path, *, name: str) -> None:
    """Unpack a bundle into a Hugging Face directory that any tool of that world opens."""
    path.mkdir(parents=True, exist_ok=True)
    for file, text in bundle.files.items():
        if file not in _TEXT_FILES:
            raise BundleError(f"{name}: holds a file named {file!r}, which no bundle should: refused")
        (path / file).write_text(text, encoding="utf-8")
    config = _config(bundle.config, name)
    _check_shapes(config, bundle.state, name)
    with _quiet(), transformers.initialization.no_init_weights():
        model = AutoModelForSequenceClassification.from_config(config)
        model.load_state_dict(dict(bundle.state), strict=True, assign=True)
        model.save_pretrained(path)
    (path / "tokenizer.json").write_text(bundle.tokenizer, encoding="utf-8")
    if "tokenizer_config.json" not in bundle.files:
        text = json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": bundle.max_length}
        )
        (path / "tokenizer_config.json").write_text(text, encoding="utf-8")


def load_encoder(path: Path, labels: tuple[str, ...], *, layers: int | None) -> PreTrainedModel:
    """Open a directory's encoder under a fresh classifier for `labels`, cut to its first `layers` layers."""
    extra: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {x: i for i, x in enumerate(labels)},
    }
    try:
        raw = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: no readable config.json ({error})") from None
    config = _config(raw, str(path))
    if layers is not None:
        have = getattr(config, "num_hidden_layers", None)
        if have is None or not 1 <= layers <= have:
            raise BundleError(f"{path}: --layers {layers}: the model has {have}")
        extra["num_hidden_layers"] = layers
    config.update(extra)
    config.problem_type = "single_label_classification"
    return _load_weights(path, config, head="fresh")


def portable_config(model: PreTrainedModel) -> dict[str, Any]:
    """Return the model's config without what belongs to this machine (paths, versions, chosen kernels)."""
    return {key: value for key, value in model.config.to_dict().items() if key not in _DROPPED}


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the fast tokenizer of a directory; raise BundleError where there is none."""
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            ).backend_tokenizer
    except Exception as error:
        raise BundleError(f"{path}: tokenizer cannot be read ({str(error).splitlines()[0][:120]})") from None


def longest_input(config: Any, path: Path | None = None) -> int:
    """Return how many tokens the model takes: the tokenizer's limit or the position table's, at most 512."""
    limits = [512]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
        limits.append(positions - offset)
    if path is not None and (path / "tokenizer_config.json").is_file():
        stated = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8")).get(
            "model_max_length"
        )
        limits += [int(stated)] if isinstance(stated, (int, float)) and stated > 0 else []
    return min(limits)


def _config(raw: Mapping[str, Any], name: str) -> Any:
    for key in _REFUSED:
        if raw.get(key):
            raise BundleError(
                f"{name}: the config has {key!r}, which would load code or another model: refused"
            )
    kept = {key: value for key, value in raw.items() if key not in _DROPPED}
    kind = kept.pop("model_type", None)
    try:
        with _quiet():
            return AutoConfig.for_model(kind, **kept)
    except Exception as error:
        text = str(error).splitlines()[0][:120]
        raise BundleError(f"{name}: a config of model type {kind!r} cannot be built ({text})") from None


def _check_shapes(config: Any, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Compare names and shapes before any memory is taken, so that a lying config cannot exhaust it."""
    try:
        with _quiet(), torch.device("meta"), transformers.initialization.no_init_weights():
            expected = AutoModelForSequenceClassification.from_config(config).state_dict()
    except Exception as error:
        text = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise BundleError(f"{name}: no classifier can be built from the config ({text})") from None
    for key in sorted(expected.keys() ^ state.keys()):
        where = "lacks" if key in expected else "has an unexpected"
        raise BundleError(f"{name}: the state_dict {where} tensor {key!r}")
    for key, tensor in expected.items():
        if tensor.shape != state[key].shape:
            found, wanted = tuple(state[key].shape), tuple(tensor.shape)
            raise BundleError(f"{name}: tensor {key!r} has shape {found}, the config says {wanted}")


def _check_single_label(config: Any, path: Path) -> None:
    if config.problem_type in ("multi_label_classification", "regression") or config.num_labels < 2:
        kind = config.problem_type or f"{config.num_labels} label"
        raise BundleError(
            f"{path}: {kind}: only classifiers that choose one of several labels can be audited"
        )


def _load_weights(path: Path, config: Any, *, head: str) -> PreTrainedModel:
    try:
        with _quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                path,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        text = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise BundleError(f"{path}: weights cannot be loaded ({text})") from None
    missing = sorted(info["missing_keys"])
    body = [key for key in missing if not key.startswith(("classifier", "score", "pooler", "pre_classifier"))]
    if (head == "required" and missing) or any("layer" in key or "embed" in key for key in body):
        raise BundleError(f"{path}: weights of {missing[0]!r} are missing: not a fine-tuned text classifier")
    return model.eval()


def _small_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.stat().st_size <= _LARGEST_TEXT else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold transformers' load tables, progress bars and advice back; what matters is raised as an error."""
    logger, level = logging.getLogger("transformers"), logging.getLogger("transformers").level
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
