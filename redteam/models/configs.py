"""Hugging Face configs: read, stripped of what would run code, fetch or exhaust memory, and made portable."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from redteam.core import BundleError, each_once, first_line
from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification
from redteam.models.characters import CharacterBert, CharacterBertConfig, CharacterBiLSTM, CharacterBiLSTMConfig
from redteam.models.contained import check_contained

_OURS: dict[Any, Any] = {
    BiLSTMConfig: BiLSTMForSequenceClassification,
    CharacterBiLSTMConfig: CharacterBiLSTM,
    CharacterBertConfig: CharacterBert,
}
for _config, _model in _OURS.items():
    AutoConfig.register(_config.model_type, _config)
    AutoModelForSequenceClassification.register(_config, _model)

# Keys that make transformers fetch or run code, or build another model than the saved weights.
_REFUSED = ("auto_map", "custom_pipelines", "quantization_config", "transformers_weights")
# Keys that belong to one machine; those about kernels could name one to be fetched and run.
_DROPPED = (
    "_attn_implementation",
    "_attn_implementation_internal",
    "attn_implementation",
    "_experts_implementation",
    "experts_implementation",
    "_name_or_path",
    "transformers_version",
)
_COUNTS = re.compile(
    r"(num|n)_(.*_)?(layers?|groups?|blocks?)|\w+_layers|inner_group_num|num_hash_functions|block_sizes|"
    r"attention_types|block_repeats"
)
_MOST_LAYERS = 1000
_MOST_LABELS = 100_000


def read_config(path: Path) -> dict[str, Any]:
    """Return a directory's config.json; raise BundleError where there is none, or a file leads out of it."""
    check_contained(path)
    try:
        raw = json.loads((path / "config.json").read_text(encoding="utf-8"), object_pairs_hook=each_once)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path}: no readable config.json ({reason}); a Hugging Face directory has one") from None
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: config.json is not a JSON object")
    return raw


def make_config(raw: Mapping[str, Any], name: str) -> Any:
    """Build the config object; raise BundleError for what could run code, fetch, or exhaust the memory."""
    for key, value in _items(raw):
        if key in _REFUSED and value:
            raise BundleError(f"{name}: the config has {key!r}, which would load code or another model: refused")
        limit = _MOST_LABELS if key == "num_labels" else _MOST_LAYERS if _COUNTS.fullmatch(key) else None
        count = 0 if limit is None else _total(value)
        if limit is not None and not count <= limit:
            raise BundleError(f"{name}: the config says {key} = {str(value)[:60]}; at most {limit} can be built")
    kept = _without_dropped(raw)
    kind = kept.pop("model_type", None)
    try:
        return AutoConfig.for_model(kind, **kept)
    except Exception as error:
        reason = first_line(error)
        raise BundleError(f"{name}: a config of model type {kind!r} cannot be built ({reason})") from None


def portable_config(config: Any) -> dict[str, Any]:
    """Return a config as a dict, without what belongs to this machine (paths, versions, chosen kernels)."""
    return {key: value for key, value in config.to_dict().items() if key not in _DROPPED}


def longest_input(model: PreTrainedModel, path: Path | None = None) -> int | None:
    """Return how many tokens the model takes: its position table's length or the tokenizer's limit, if any."""
    limits = []
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - _first_position(model))
    if path is not None and (path / "tokenizer_config.json").is_file():
        stated = read_tokenizer_config(path).get("model_max_length")
        # Tokenizers without a limit state 1e30, or Infinity.
        limits += [int(stated)] if isinstance(stated, (int, float)) and 0 < stated < 1 << 31 else []
    return min(limits, default=None)


def read_tokenizer_config(path: Path) -> dict[str, Any]:
    """Return a directory's tokenizer_config.json; raise BundleError where it is broken."""
    try:
        raw = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: tokenizer_config.json cannot be read ({error})") from None
    return raw if isinstance(raw, dict) else {}


@contextmanager
def quiet() -> Iterator[None]:
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


def _first_position(model: PreTrainedModel) -> int:
    """RoBERTa and its kin number positions from behind the padding's, so their table holds that many more."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of a config with its value, those of nested configs too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _items(item)


def _total(value: Any) -> float:
    """Return a number, or the sum of those in lists of any depth: how many parts a config asks for."""
    if isinstance(value, (list, tuple)):
        return sum(_total(item) for item in value)
    return value if isinstance(value, (int, float)) else 0


def _without_dropped(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_dropped(item) for key, item in value.items() if key not in _DROPPED}
