"""Errors, exit codes and documents; besides, arrays, whole-file writes, interrupts, workers. Imports nothing of ours.

Every error a user can cause, each with one line that says what is wrong and what would do.

    RedteamError
    ├── UsageError        options that do not go together
    ├── DataError         a data file, its columns, or what the rows say
    ├── LedgerError       a ledger that is broken, edited, or of another model
    ├── BundleError       a model file that cannot be read safely
    ├── TargetError       a target that cannot be reached or answers nonsense
    ├── StatisticsError   arrays from which no honest number can be made
    ├── PolicyError       a policy file, its keys, limits or waivers
    └── ReportError       a saved report that is broken or of another format

The command line prints the message and exits 2. Inside an audit, an error of one attack becomes a `Failure`. What the
exit codes mean is the contract with every build that calls it.

Documents are frozen dataclasses to JSON and back, strictly: an unknown or missing key or a wrong type is an error.

One reader for every document this project saves, so that a field is declared once, in its dataclass. The JSON
Schema is derived from the same declarations.
"""

import codecs
import dataclasses
import errno
import json
import math
import stat
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

PASS = 0  # every limit judged, none proven exceeded
LEAK = 1  # a finding proven, not waived and not in the baseline
INCONCLUSIVE = 2  # anything else that is not a pass
INTERRUPTED = 130  # the same command goes on where it was


class RedteamError(Exception):
    """Something the user can put right; its message is one line."""


class UsageError(RedteamError):
    """Options that do not go together, or one that is missing."""


class DataError(RedteamError):
    """A data file that cannot be read, or rows that cannot be audited."""


class LedgerError(RedteamError):
    """A ledger that is broken, edited, or belongs to another model."""


class BundleError(RedteamError):
    """A model file that cannot be read, or cannot be read safely."""


class TargetError(RedteamError):
    """A target that cannot be reached, or whose answers make no sense."""


class StatisticsError(RedteamError):
    """Arrays from which no honest number can be made."""


class PolicyError(RedteamError):
    """A policy file with an unknown key, an impossible limit or an expired waiver."""


class ReportError(RedteamError):
    """A saved report that is broken, or of a format this version does not read."""


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its message, with its type in front where it is not one of ours."""
    message = " ".join(str(error).split())[:300]
    return message if isinstance(error, RedteamError) else f"{type(error).__name__}: {message}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error of others, short enough for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


T = TypeVar("T")

_LARGEST_TEXT, _CHUNK = 2**30, 2**20  # bytes
_PIPES_OF_SHELLS = (("/", "dev"), ("/", "proc"))  # /dev/stdin, /dev/fd/63

_SCALARS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def encode(value: Any) -> Any:
    """Turn dataclasses, tuples and scalars into what `json.dumps` takes; ValueError for NaN and infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be saved")
    return value


def decode(kind: type[T], document: Any, where: str = "") -> T:
    """Build `kind` from parsed JSON; a ValueError names the place and what stands there."""
    return typing.cast(T, _decode(kind, document, where or kind.__name__))


def read_text(path: Path, *, most: int = _LARGEST_TEXT) -> str:
    """Return a text file's content, UTF-8 or what a byte-order mark says it is, as shells and editors of Windows write.

    Raises OSError, also for more than `most` bytes and for a pipe that is not the shell's, or UnicodeDecodeError.
    """
    if stat.S_ISFIFO(path.stat().st_mode) and path.parts[:2] not in _PIPES_OF_SHELLS:
        raise OSError(errno.ESPIPE, "is a pipe: reading it could wait for ever; write it to a file")
    raw = bytearray()
    with path.open("rb") as file:
        while len(raw) <= most and (more := file.read(_CHUNK)):
            raw += more
    if len(raw) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes")
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return raw.decode("utf-16" if wide else "utf-8-sig")


Older = Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]


def parse(kind: type[T], text: str, where: str, *, format: str, advice: str, older: Older | None = None) -> T:
    """Build `kind` from JSON text that states its `format`; a ValueError says in one line what is wrong.

    `older` makes today's document out of one of an older format, by the name of that.
    """
    try:
        document = json.loads(text, object_pairs_hook=each_once)
    except RecursionError:
        raise ValueError("not JSON (nested too deep)") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    found = document.get("format") if isinstance(document, dict) else None
    if older and isinstance(found, str) and found in older:
        document = older[found](document)
    elif found != format:
        raise ValueError(f"format is {found!r}, this version reads {format!r}; {advice}")
    return decode(kind, document, where)


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _decode_optional(arguments, value, where)
    if origin is tuple:
        _expect(isinstance(value, list), where, "a list", value)
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping):
        _expect(isinstance(value, dict), where, "an object", value)
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        _expect(value in arguments, where, "one of " + ", ".join(map(str, arguments)), value)
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    return _decode_scalar(kind, value, where)


def _decode_optional(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    (kind,) = [a for a in arguments if a is not type(None)]
    return _decode(kind, value, where)


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, "an object", value)
    hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise ValueError(f"{where}: unknown key {key!r}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise ValueError(f"{where}: key {name!r} is missing")
    values = {name: _decode(hints[name], value[name], f"{where}.{name}") for name in value}
    try:
        return kind(**values)
    except ValueError as error:  # what the dataclass itself refuses, such as an interval upside down
        raise ValueError(f"{where}: {error}") from None


def _decode_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), where, "a number", value)
        _expect(abs(value) <= sys.float_info.max, where, "a finite number", value)  # NaN fails this too
        return float(value)
    right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    _expect(right, where, f"of type {_SCALARS[kind]}", value)
    return value


def _expect(condition: bool, where: str, what: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{where} must be {what}, not {str(value)[:40]!r}")


def schema(kind: type, *, title: str, identifier: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the documents that `decode(kind, ...)` accepts."""
    definitions: dict[str, Any] = {}
    root = _schema(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "title": title,
        **root,
        "$defs": definitions,
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema(a, definitions) for a in arguments]}
    if kind is type(None):
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if dataclasses.is_dataclass(kind):
        return _schema_dataclass(kind, definitions)
    return {"type": _SCALARS[kind]}


def _schema_dataclass(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # claimed before the fields are walked, so that recursion ends
        hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
        missing = dataclasses.MISSING
        definitions[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").strip().split("\n")[0],
            "additionalProperties": False,
            "required": [f.name for f in fields if f.default is missing and f.default_factory is missing],
            "properties": {f.name: _schema(hints[f.name], definitions) for f in fields},
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; raise ValueError where a key stands twice, of which Python takes the last."""
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key[:40]!r} occurs twice")
            seen.add(key)
    return made
