"""Columns of a CSV or TSV file as Arrow arrays, with the row in every error."""

import contextlib
import csv
import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from redteam.errors import DataError
from redteam.targets.cells import Columns, Read

_HEADER_LIMIT = 2**20
_UNEVEN = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
_NOT_A_NUMBER = re.compile(
    r"CSV column #(\d+): Row #(\d+): CSV conversion error to double: invalid value '(.*)'", re.DOTALL
)
_NOT_UTF8 = re.compile(r"CSV column #(\d+): Row #(\d+): CSV conversion error to string: invalid UTF8")


def open_delimited(path: Path, delimiter: str) -> tuple[tuple[str, ...], Read]:
    """Return the names of the columns and what reads some of them; raise DataError or an error of Arrow."""
    with path.open("rb") as file:
        line = b"\n"
        while line and not line.strip(b"\r\n"):
            line = file.readline(_HEADER_LIMIT)
    if not line:
        raise DataError(f"{path}: empty")
    try:
        header = next(csv.reader(io.StringIO(line.decode("utf-8-sig"), newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read ({error})") from None
    names = [name.strip() for name in header]

    def read(wanted: list[str], numbers: Collection[str]) -> tuple[Columns, tuple[str, ...]]:
        raw = {header[names.index(name)]: name for name in wanted}
        types = {cell: pa.float64() if name in numbers else pa.string() for cell, name in raw.items()}
        table, notes = _parse_either_way(path, delimiter, types, names)
        return {name: table[cell] for cell, name in raw.items()}, notes

    return tuple(names), read


def _parse_either_way(
    path: Path, delimiter: str, types: dict[str, Any], names: list[str]
) -> tuple[Any, tuple[str, ...]]:
    """Parse with quoting; where that swallows lines or fails, see whether quotes are plain characters here.

    A stray quote at the start of a text would otherwise glue rows together without an error.
    """
    table, trouble = None, None
    try:
        table = _parse(path, delimiter, types, names, quote='"')
    except (DataError, pa.ArrowException) as error:
        trouble = error
    lines, quotes = _count_lines(path)
    swallowed = quotes and (table is None or table.num_rows + 1 < lines)
    if swallowed:
        with contextlib.suppress(DataError, pa.ArrowException):
            plain = _parse(path, delimiter, types, names, quote=False)
            if plain.num_rows + 1 == lines:
                note = f"{path.name}: quote characters are part of the text (the file uses no quoting)"
                return plain, (note,)
    if trouble is not None:
        raise trouble
    note = f"{path.name}: some quoted cells have line breaks"
    return table, (note,) if swallowed else ()


def _count_lines(path: Path) -> tuple[int, bool]:
    """Return the number of lines that are not empty, and whether a quote character occurs."""
    lines, quotes = 0, False
    with path.open("rb") as file:
        for line in file:
            lines += bool(line.strip(b"\r\n"))
            quotes = quotes or b'"' in line
    return lines, quotes


def _parse(path: Path, delimiter: str, types: dict[str, Any], names: list[str], *, quote: str | bool) -> Any:
    try:
        return pa.csv.read_csv(
            path,
            # Threads would lose the row numbers in errors.
            read_options=pa.csv.ReadOptions(use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, quote_char=quote, newlines_in_values=bool(quote)),
            convert_options=pa.csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if found := _UNEVEN.search(str(error)):
            row, expected, fields = int(found[1]) - 1, found[2], found[3]
            raise DataError(f"{path}: row {row} has {fields} fields, the header has {expected}") from None
        if found := _NOT_A_NUMBER.search(str(error)):
            column, row, value = names[int(found[1])], int(found[2]) - 1, found[3].strip()[:30]
            what = f"{value!r} is not a number" if value else "empty"
            raise DataError(f"{path}: row {row}: {column}: {what}") from None
        if found := _NOT_UTF8.search(str(error)):
            column, row = names[int(found[1])], int(found[2]) - 1
            raise DataError(f"{path}: row {row}: {column} is not UTF-8; convert the file") from None
        raise
