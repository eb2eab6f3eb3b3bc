"""Documents of format 1, which said "claimed", "earned" and "ceiling": the same numbers under today's keys."""

from collections.abc import Mapping
from typing import Any

_GUARANTEE = {"claimed": "nominal", "earned": "accounted"}
_EVIDENCE = {"ceiling": "attainable"}
_READS_TEXTS = "RT901"  # the one control of format 1 that did; no other was counted


def report_of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of format 1 as one of format 2; what is no report stays what it is, to be refused by its name."""
    evidence = document.get("evidence")
    renamed = [_renamed(each, _EVIDENCE) for each in evidence] if isinstance(evidence, list) else evidence
    controls = document.get("controls")
    if isinstance(controls, list):
        controls = [_with_reading(each) for each in controls]
    return with_guarantee_of_format_1(document) | {
        "evidence": renamed,
        "controls": controls,
        "format": "redteam.report/2",
    }


def with_guarantee_of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document in whose guarantee the keys of format 1 are those of today."""
    if "guarantee" not in document:
        return dict(document)
    return dict(document) | {"guarantee": _renamed(document["guarantee"], _GUARANTEE)}


def _with_reading(control: Any) -> Any:
    """Return what a control saw together with whether it read the texts."""
    if not isinstance(control, dict) or "reads_texts" in control:
        return control
    return control | {"reads_texts": control.get("control") == _READS_TEXTS}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return an object under its new keys; one that has an old and a new key is left to be refused."""
    if not isinstance(value, dict) or any(new in value for new in names.values()):
        return value
    return {names.get(key, key): each for key, each in value.items()}
