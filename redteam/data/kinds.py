"""What kind of value a cell of a file holds, and which kinds a text or a name may be: one rule for every reader.

A text is a string. What else a cell may hold - chat turns, token ids, numbers - could only be made into a string in a
way that the model was not trained on, and what it then answers says nothing about its members. A label, an id, a user,
a group or a side of the split is a name: a string, a finite number, or true or false.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

STRING, WHOLE, NUMBER, TRUTH = "a string", "a whole number", "a number", "true or false"
NOT_FINITE, BYTES, LIST, OBJECT = "not a finite number", "bytes", "a list", "an object"
_NAMES = frozenset({STRING, WHOLE, NUMBER, TRUTH})

_WANTED = {"text": "a string", "split": "a side of the split", "predicted": "the name of a label"}

Kinds = Mapping[str, int]  # kind -> the first row that holds it, counted from 1


def kind_of(value: object) -> str | None:
    """Return the kind of a Python value; None for None, which is an empty cell."""
    if value is None:
        return None
    if isinstance(value, str):
        return STRING
    if isinstance(value, bool):
        return TRUTH
    if isinstance(value, int):
        return WHOLE
    if isinstance(value, float | Decimal):
        return NUMBER if math.isfinite(value) else NOT_FINITE
    if isinstance(value, bytes):
        return BYTES
    if isinstance(value, list | tuple):
        return LIST
    return OBJECT if isinstance(value, dict) else _other(type(value).__name__)


def kind_of_type(kind: Any) -> str | None:
    """Return the kind of the values of an Arrow type; None where all of them are empty."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return kind_of_type(kind.value_type)
    if types.is_null(kind):
        return None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return STRING
    if types.is_boolean(kind):
        return TRUTH
    if types.is_integer(kind):
        return WHOLE
    if types.is_floating(kind) or types.is_decimal(kind):
        return NUMBER
    if types.is_struct(kind) or types.is_map(kind):
        return OBJECT
    if types.is_nested(kind):
        return LIST
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return BYTES if binary or types.is_fixed_size_binary(kind) else _other(str(kind))


def kinds_of(values: list[Any]) -> dict[str, int]:
    """Return which kinds a column holds, each with the first row that does, counted from 1."""
    found: dict[str, int] = {}
    for row, value in enumerate(values, start=1):
        kind = kind_of(value)
        if kind is not None and kind not in found:
            found[kind] = row
    return found


def fault(kinds: Kinds, name: str, what: str) -> str | None:
    """Say why column `name` cannot be what it is read for (text, label, predicted, id, ...); None where it can."""
    allowed = frozenset({STRING}) if what == "text" else _NAMES
    wrong = sorted((row, kind) for kind, row in kinds.items() if kind not in allowed)
    if not wrong:
        return None
    row, kind = wrong[0]
    wanted = _WANTED.get(what, f"the name of a {what}")
    return f"row {row}: column {name!r} holds {kind}, not {wanted}; {_advice(kind, what)}"


def _advice(kind: str, what: str) -> str:
    other = "or rename the column" if what == "predicted" else f"or say --{what}-column NAME"
    if kind == NOT_FINITE:
        return f"fill it or drop the row, {other}"
    if kind in (LIST, OBJECT):
        return (f"join its parts as the model is given them, {other}") if what == "text" else f"give one a row, {other}"
    return f"write it as a string, {other}"


def _other(name: str) -> str:
    return f"a value of type {name[:40]}"
