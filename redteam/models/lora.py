"""What the config of a LoRA adapter says: how far each product of two small matrices is added, and to what.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"; the scale by the root of the rank is Kalajdzievski
2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA". A key that changes what is computed, and is none
of those below, is refused: the model audited would be another.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam.core import BundleError, each_once
from redteam.models.contained import check_contained

CONFIG = "adapter_config.json"
_MERGE = "merge it with merge_and_unload() of peft and save the result, with its tokenizer, as a directory of its own"
_READ = (
    *("alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "init_lora_weights"),
    *("layers_to_transform", "lora_alpha", "modules_to_save", "peft_type", "r", "rank_pattern", "target_modules"),
    "use_rslora",
)
# What no answer in eval mode depends on once the adapter is trained; how a Conv1D is stored, its class says.
_HARMLESS = (
    *("auto_mapping", "ensure_weight_tying", "eva_config", "inference_mode", "layers_pattern", "loftq_config"),
    *("lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type"),
)
# Where training starts; other ways take their start out of the base's weights, and the base is no longer the base.
_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_MOST = 1_000_000
_PATTERN = re.compile(r"[\w.\-^$\\|()\[\]*+?]{1,200}")


@dataclass(frozen=True)
class Lora:
    """A LoRA adapter's settings. `ranks` and `alphas` are by pattern of module names, the first that fits counts."""

    base: str | None
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    root: bool
    kept: tuple[str, ...]
    targets: tuple[str, ...]

    def rank_of(self, module: str) -> int:
        """Return how many rows the first matrix of a module's pair has."""
        rank: int = _first(self.ranks, module, self.rank)
        return rank

    def scale(self, module: str) -> float:
        """Return the factor of a module's product."""
        rank = self.rank_of(module)
        alpha: float = _first(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.root else rank)


def read_lora(path: Path) -> Lora:
    """Read a directory's adapter_config.json; raise BundleError for what cannot be merged exactly."""
    check_contained(path)
    try:
        raw = json.loads((path / CONFIG).read_text(encoding="utf-8"), object_pairs_hook=each_once)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {CONFIG} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not isinstance(raw, dict) or "peft_type" not in raw:
        raise BundleError(f"{path}: {CONFIG} names no peft_type: no adapter of peft; audit it as a function instead")
    if raw["peft_type"] != "LORA":
        raise BundleError(
            f"{path}: an adapter of kind {str(raw['peft_type'])[:40]!r}; only LORA is merged here: {_MERGE}"
        )
    _check_keys(raw, path)
    base = raw.get("base_model_name_or_path")
    limited = raw.get("layers_to_transform") is not None or raw.get("exclude_modules")
    return Lora(
        base=base if isinstance(base, str) and base else None,
        rank=_number(raw.get("r", 8), "r", path, whole=True),
        alpha=_number(raw.get("lora_alpha", 8), "lora_alpha", path),
        ranks=_patterns(raw, "rank_pattern", path, whole=True),
        alphas=_patterns(raw, "alpha_pattern", path),
        root=bool(raw.get("use_rslora")),
        kept=_names(raw, "modules_to_save", path),
        targets=() if limited or isinstance(raw.get("target_modules"), str) else _names(raw, "target_modules", path),
    )


def _check_keys(raw: Mapping[str, Any], path: Path) -> None:
    for key, value in raw.items():
        if key not in _READ + _HARMLESS and value not in (None, False, {}, []):
            raise BundleError(
                f"{path}: {CONFIG} has {key[:60]} = {str(value)[:60]}, which is not merged here: {_MERGE}"
            )
    start = raw.get("init_lora_weights", True)
    if not any(start is known or (isinstance(start, str) and start == known) for known in _STARTS):
        raise BundleError(
            f"{path}: {CONFIG} has init_lora_weights = {str(start)[:60]!r}, which changes the base's weights before "
            f"the first step: {_MERGE}"
        )
    if raw.get("bias", "none") not in ("none", "all", "lora_only"):
        raise BundleError(f"{path}: {CONFIG} has bias = {str(raw['bias'])[:60]!r}; known are none, all and lora_only")
    for key in ("use_rslora", "fan_in_fan_out"):
        if raw.get(key) not in (None, True, False):
            raise BundleError(f"{path}: {CONFIG} has {key} = {str(raw[key])[:60]!r}; wanted true or false")


def _number(value: object, key: str, path: Path, *, whole: bool = False) -> Any:
    fits = isinstance(value, int) or (isinstance(value, float) and not whole and math.isfinite(value))
    if not fits or isinstance(value, bool) or not (1 if whole else -_MOST) <= value <= _MOST:  # type: ignore[operator]
        raise BundleError(f"{path}: {CONFIG} has {key} = {repr(value)[:60]}; wanted a {'whole ' * whole}number")
    return value


def _patterns(raw: Mapping[str, Any], key: str, path: Path, *, whole: bool = False) -> dict[str, Any]:
    """Return numbers by regular expressions, of which only such are taken as end in a moment on every name."""
    found = raw.get(key) or {}
    if not isinstance(found, Mapping):
        raise BundleError(f"{path}: {CONFIG} has a {key} that is no object of numbers by module")
    for pattern in found:
        repeats = len(re.findall(r"[*+?]", pattern))
        if not _PATTERN.fullmatch(pattern) or repeats > 3 or re.search(r"\)[*+?]", pattern):
            raise BundleError(f"{path}: {CONFIG} has {key} for {pattern[:60]!r}, which is too complex: {_MERGE}")
        try:
            re.compile(pattern)
        except re.error as error:
            raise BundleError(f"{path}: {CONFIG} has {key} for {pattern[:60]!r} ({error})") from None
    return {pattern: _number(value, f"{key}.{pattern[:60]}", path, whole=whole) for pattern, value in found.items()}


def _names(raw: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    found = raw.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise BundleError(f"{path}: {CONFIG} has a {key} that is no list of names of modules")
    return tuple(found)


def _first(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    found = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(found, default)
