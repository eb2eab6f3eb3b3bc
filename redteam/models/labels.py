"""The names of a classifier's labels: a config tells them twice, and where it contradicts itself one is wrong."""

from collections.abc import Mapping
from typing import Any

from redteam.core import BundleError


def label_names(config: Any, name: str) -> tuple[str, ...]:
    """Return the labels in the order of the logits; raise BundleError where they are not 0, 1, 2, ..."""
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise BundleError(f"{name}: id2label of the config must number the labels from 0 without a gap")
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise BundleError(f"{name}: the config names two labels {twice!r}; give each a name of its own")
    return labels


def check_labels(raw: Mapping[str, Any], name: str) -> None:
    """Raise BundleError where id2label, label2id and num_labels of a config as it was written contradict each other.

    Names that transformers makes up (LABEL_0, LABEL_1, ...) say no more than the numbers do, on whichever side they
    were left beside real ones: with the numbers 0, 1, ... they contradict nothing.
    """
    names, numbers, count = raw.get("id2label"), raw.get("label2id"), raw.get("num_labels")
    if not isinstance(names, Mapping) or not names:
        return  # the labels are those that transformers makes up, or the config cannot be built
    if isinstance(count, int) and count != len(names):
        raise BundleError(f"{name}: the config says num_labels = {count} and names {len(names)} labels in id2label")
    by_number = {_number(key): str(value) for key, value in names.items()}
    if len(by_number) != len(names):
        raise BundleError(f"{name}: id2label of the config names a number twice")
    if not isinstance(numbers, Mapping) or not numbers:
        return
    by_name = {str(key): _number(value) for key, value in numbers.items()}
    if sorted(by_name.values(), key=repr) == sorted(by_number, key=repr) and (
        _made_up(by_number) or _made_up({number: key for key, number in by_name.items()})
    ):
        return
    for number, label in by_number.items():
        known = next((by_name[key] for key in _spelled(label) if key in by_name), None)
        if known != number:
            back = next((key for key, value in by_name.items() if value == number), None)
            _contradict(name, number, label, f"{label!r} is {known}" if known is not None else f"{number} is {back!r}")
    extra = [key for key in by_name if key not in {s for label in by_number.values() for s in _spelled(label)}]
    if extra:
        _contradict(name, by_name[extra[0]], by_number.get(by_name[extra[0]]), f"{extra[0]!r} is {by_name[extra[0]]}")


def _spelled(label: str) -> tuple[str, ...]:
    """Return how a label is written as a key of JSON, which knows true, false and null."""
    return (label, label.lower()) if label in ("True", "False") else (label, "null") if label == "None" else (label,)


def _contradict(name: str, number: object, label: str | None, other: str) -> None:
    raise BundleError(
        f"{name}: id2label and label2id of the config contradict each other: in the first {number} is {label!r}, "
        f"in the second {other}; write the order that the model was trained with into both"
    )


def _made_up(names: Mapping[object, str]) -> bool:
    return all(label == f"LABEL_{number}" for number, label in names.items())


def _number(value: object) -> object:
    """Return a label's number as a number, which JSON writes as text where it is a key."""
    try:
        return int(value) if isinstance(value, (str, int, float)) and float(value) == int(float(value)) else value
    except (ValueError, OverflowError):
        return value
