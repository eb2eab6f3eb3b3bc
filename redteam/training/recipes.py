"""Defences by name: an id or a name, or parts of the regularised training (RD110) joined by plus signs."""

from collections.abc import Mapping, Sequence
from typing import Any

from redteam.core import UsageError
from redteam.plugins.defense import Defense

NONE, ALL = "none", "all"
# What can be combined: settings of RD110, which is otherwise plain training.
PARTS: dict[str, dict[str, Any]] = {
    "early-stopping": {"early_stopping": True},
    "dropout": {"dropout": 0.5},
    "characters": {"characters": True},
    "deduplication": {"deduplicate": True},
    "label-smoothing": {"label_smoothing": 0.1},
}
_SHORT = {"es": "early-stopping", "d": "dropout", "ce": "characters", "dedup": "deduplication", "ls": "label-smoothing"}
_OFF = {"early_stopping": False, "dropout": None, "characters": False, "deduplicate": False, "label_smoothing": 0.0}
_AMOUNTS = {"dropout": "dropout", "label-smoothing": "label_smoothing"}
_PAPER = ("early-stopping", "dropout", "characters")


def choose_defense(name: str, found: Sequence[Defense], given: Mapping[str, Any] = {}) -> tuple[str, Defense]:
    """Return the title and the defence of a name, with the settings given.

    A name is `none`, `all` (early stopping, dropout and characters), parts joined by plus signs such as
    `dropout+characters`, or the id or name of any defence. Raises UsageError for an unknown name or setting.
    """
    by_name = {key.lower(): defense for defense in found for key in (defense.name, defense.id)}
    wanted = name.strip().lower()
    if wanted == NONE:
        return NONE, configured(by_name["plain"], given)
    parts = list(_PAPER) if wanted == ALL else [_SHORT.get(part.strip(), part.strip()) for part in wanted.split("+")]
    for part in parts:
        if part in _AMOUNTS and given.get(_AMOUNTS[part], 1.0) == 0:
            raise UsageError(f"--set {_AMOUNTS[part]}=0: is no defence; leave {part} out of --defense")
    if len(parts) == 1 and parts[0] in by_name:
        return by_name[parts[0]].name, configured(by_name[parts[0]], given)
    if not all(part in PARTS for part in parts):
        known = ", ".join((*(f"{part} ({short})" for short, part in _SHORT.items()), *_others(found)))
        if any(part in by_name or part in (NONE, ALL) for part in parts) and len(parts) > 1:
            raise UsageError(f"--defense {name!r}: only {', '.join(PARTS)} can be joined by +")
        raise UsageError(f"--defense {name!r}: known are {NONE}, {ALL}, {known}; join by +")
    if len(set(parts)) < len(parts):
        raise UsageError(f"--defense {name!r}: one part is there twice")
    ordered, settings = [part for part in PARTS if part in parts], dict(_OFF)
    for part in ordered:
        settings |= PARTS[part]
    return _title(ordered), configured(by_name["regularised"], {**settings, **given})


def configured(defense: Defense, settings: Mapping[str, Any]) -> Defense:
    """Return the defence with these settings; UsageError for one that it does not have."""
    known = defense.parameters()
    for name in settings:
        if name not in known:
            raise UsageError(f"{name}: {defense.id} ({defense.name}) has no such setting")
    return type(defense)(**{**known, **settings})


def _title(parts: Sequence[str]) -> str:
    return ALL if tuple(parts) == _PAPER else "+".join(parts)


def _others(found: Sequence[Defense]) -> list[str]:
    return [defense.name for defense in found if defense.name not in PARTS]
