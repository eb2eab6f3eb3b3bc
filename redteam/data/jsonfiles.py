"""Tables of JSON: one object a line, an array of objects, or columns by name."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from redteam.core import DataError, each_once
from redteam.data.opened import Builder, OpenedTable
from redteam.data.source import MOST_ROWS, TextFile
from redteam.data.vocabulary import spelled

_LARGEST_DOCUMENT = 256 * 2**20  # characters

Row = tuple[str, dict[str, Any]]  # where it stands, and its object


def open_json_lines(text: TextFile) -> OpenedTable:
    """Open a file of one JSON object a line; raise DataError with the line that is none."""
    names: dict[str, None] = {}
    for _, item in _rows_of_lines(text):
        names |= dict.fromkeys(item)
    return OpenedTable(tuple(names), (), lambda wanted: _build(text, _rows_of_lines(text), wanted))


def open_json(text: TextFile) -> OpenedTable:
    """Open one JSON document: an array of objects, columns by name, or one object a line after all."""
    if _is_lines(text):
        return open_json_lines(text)
    try:
        document = _parse(text.whole(_LARGEST_DOCUMENT))
    except ValueError as error:
        raise DataError(f"{text.path}: {error}") from None
    rows = _rows_of(text, document)
    names = dict.fromkeys(name for _, item in rows for name in item)
    return OpenedTable(tuple(names), (), lambda wanted: _build(text, rows, wanted))


def _is_lines(text: TextFile) -> bool:
    """Tell whether the first line is a whole object and another line follows, as `datasets` and Spark write .json."""
    lines = (line for _, line in text.bare_lines() if line.strip())
    first = next(lines, "")
    if not first.lstrip().startswith("{"):
        return False
    try:
        found = json.loads(first)
    except (ValueError, RecursionError):
        return False
    single = not any(isinstance(value, list | dict) for value in found.values())
    return single or next(lines, None) is not None


def _rows_of(text: TextFile, document: Any) -> list[Row]:
    if isinstance(document, dict):
        document = _unwrapped(text, document)
    if not isinstance(document, list):
        raise DataError(f"{text.path}: holds neither an array of objects nor columns by name")
    rows: list[Row] = []
    for number, item in enumerate(document, start=1):
        if not isinstance(item, dict):
            raise DataError(f"{text.path}: row {number}: not a JSON object")
        rows.append((f"row {number}", item))
    return rows


def _unwrapped(text: TextFile, document: dict[str, Any]) -> Any:
    """Return the rows of an object: of its only list of objects, or of its columns, as pandas writes them."""
    tables = [key for key, value in document.items() if isinstance(value, list) and value and type(value[0]) is dict]
    if len(tables) > 1:
        some = ", ".join(repr(key[:40]) for key in tables[:5])
        raise DataError(f"{text.path}: holds several tables, {some}: write the one to read to a file of its own")
    if tables:
        return document[tables[0]]
    columns = {k: list(v.values()) if isinstance(v, dict) else v for k, v in document.items()}
    keys = [list(v) for v in document.values() if isinstance(v, dict)]
    if not columns or not all(isinstance(v, list) for v in columns.values()):
        raise DataError(f"{text.path}: holds neither an array of objects nor columns by name")
    if len({len(v) for v in columns.values()}) > 1 or any(each != keys[0] for each in keys):
        raise DataError(f"{text.path}: its columns are not of one length")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _rows_of_lines(text: TextFile) -> Iterator[Row]:
    for number, line in text.bare_lines():
        if not line.strip():
            continue
        try:
            item = _parse(line)
        except ValueError as error:
            raise DataError(f"{text.path}: line {number}: {error}") from None
        if not isinstance(item, dict):
            raise DataError(f"{text.path}: line {number}: not a JSON object")
        yield f"line {number}", item


def _parse(text: str) -> Any:
    """Return what a piece of JSON says; raise ValueError with what is wrong with it."""
    try:
        found = json.loads(text, object_pairs_hook=each_once)
        if "\\u" in text:  # an escape can spell half a character, which no tokenizer takes
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no text") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({str(error)[:100]})") from None
    return found


def _build(text: TextFile, rows: Iterable[Row], wanted: list[str]) -> Builder:
    builder = Builder(text.path, wanted)
    for _, item in rows:
        values = [item.get(name) for name in wanted]
        for place, value in enumerate(values):
            builder.note(place, value)
        builder.add([spelled(value) for value in values], None)
        if builder.rows > MOST_ROWS:
            raise DataError(f"{text.path}: more than {MOST_ROWS:,} rows; audit a part of them")
    return builder
