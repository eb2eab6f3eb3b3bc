"""From Arrow columns to what an audit works with: finite numbers, sides of the split, texts.

Errors count rows from 1.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from redteam.errors import DataError
from redteam.kinds import NOT_FINITE, fault, kind_of_type
from redteam.target import FloatArray
from redteam.wording import shown

Columns = dict[str, Any]  # name -> pyarrow.ChunkedArray or Array
# From the names of the wanted columns, and which of them are numbers, to columns and notes.
Read = Callable[[list[str], Collection[str]], tuple[Columns, tuple[str, ...]]]

NONMEMBER, MEMBER, REFERENCE = 0, 1, 2
_WORDS = {
    MEMBER: ("member", "members", "train", "in", "1", "1.0", "true", "yes"),
    NONMEMBER: ("nonmember", "nonmembers", "non-member", "test", "holdout", "out", "0", "0.0", "false", "no"),
    REFERENCE: ("reference", "ref", "population"),
}


def numbers(path: Path, name: str, column: Any) -> FloatArray:
    """Return a column as float64 [n]; raise DataError for what is not a finite number."""
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"{path}: column {name!r} holds {kind}, not numbers")
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        row = int(wrong.argmax())
        what = f"{values[row]} is not a finite number" if column[row].is_valid else "empty"
        raise DataError(f"{path}: row {row + 1}: {name}: {what}")
    return values


def sides(path: Path, name: str, column: Any) -> npt.NDArray[np.int8]:
    """Return NONMEMBER, MEMBER or REFERENCE for each row, shape [n]; raise DataError for another word."""
    column = _plain(column)
    kind = column.type
    if not (_is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(f"{path}: column {name!r} holds {kind}; wanted 1 and 0, or member and nonmember")
    words = pc.utf8_lower(pc.utf8_trim_whitespace(column if _is_text(kind) else pc.cast(column, pa.string())))
    known = [(word, side) for side, all_words in _WORDS.items() for word in all_words]
    found = pc.index_in(words, value_set=pa.array([word for word, _ in known], words.type))
    if found.null_count:
        row = int(np.argmin(np.asarray(found.is_valid())))
        value = column[row].as_py()
        listed = ", ".join(word for word, _ in known if not word.endswith(".0"))
        what = "empty" if value is None or value == "" else f"{shown(str(value))} says nothing about membership"
        raise DataError(f"{path}: row {row + 1}: {name}: {what}; known: {listed}")
    codes: npt.NDArray[np.int8] = np.array([side for _, side in known], dtype=np.int8)
    return codes[np.asarray(found.to_numpy(), dtype=np.int64)]


def strings(
    path: Path, name: str, column: Any, what: str, *, required: bool = False, few: bool = False
) -> tuple[str, ...]:
    """Return a column that is read for `what` as strings [n]; raise DataError for a cell that cannot be it.

    If required, that is an empty cell too. `few`: the values recur, so keep each once.
    """
    if (wrong := column_fault(name, column, what)) is not None:
        raise DataError(f"{path}: {wrong}")
    column = _plain(column)
    kind = column.type
    if pa.types.is_floating(kind):
        whole = pc.cast(column, pa.int64(), safe=False)  # Parquet turns whole numbers with a gap into floats
        column = whole if pc.all(pc.equal(pc.cast(whole, kind, safe=False), column)).as_py() else column
    try:
        values = [value or "" for value in pc.cast(column, pa.large_string()).to_pylist()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: row {_first_broken(column)}: {name} is not UTF-8; convert the file") from None
    if required and (row := next((i for i, value in enumerate(values) if not value.strip()), None)) is not None:
        raise DataError(f"{path}: row {row + 1}: {name} is empty; fill it or drop the row")
    if not few:
        return tuple(values)
    seen: dict[str, str] = {}
    return tuple(seen.setdefault(value, value) for value in values)


def column_fault(name: str, column: Any, what: str) -> str | None:
    """Say why a column cannot be what it is read for, such as "text" or "label"; None where it can."""
    column = _plain(column)
    kind = kind_of_type(column.type)
    found: dict[str, int] = {}
    if kind is not None and column.null_count < len(column):
        found[kind] = pc.index(column.is_valid(), True).as_py() + 1
    if pa.types.is_floating(column.type):
        row = pc.index(pc.is_finite(column), False).as_py()
        found |= {NOT_FINITE: row + 1} if row >= 0 else {}
    return fault(found, name, what)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(column: Any) -> Any:
    """Undo dictionary encoding and string views, which not every function takes."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(pc.cast(column, kind.value_type))
    return pc.cast(column, pa.large_string()) if pa.types.is_string_view(kind) else column


def _first_broken(column: Any) -> int:
    for row, value in enumerate(pc.cast(column, pa.large_binary()), start=1):
        try:
            (value.as_py() or b"").decode()
        except UnicodeDecodeError:
            return row
    return 0
