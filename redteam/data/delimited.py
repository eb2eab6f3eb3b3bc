"""Tables of delimited text: which character separates, whether quotes quote, and the cells of some columns."""

import contextlib
import csv
from collections.abc import Iterator
from dataclasses import dataclass

from redteam.core import DataError
from redteam.data.kinds import STRING
from redteam.data.opened import Builder, OpenedTable, no_column_twice
from redteam.data.source import LONGEST_CELL, MOST_ROWS, TextFile

_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {"\t": "tabs"}


@dataclass(frozen=True)
class Dialect:
    """How a file is written: the character between cells, and whether quotes are not part of the text."""

    separator: str
    quoted: bool


@dataclass(frozen=True)
class _Scan:
    """What reading a file with one separator gives: the header of either reading, and what is wrong with it."""

    quoted: list[str]
    wrong_quoted: str
    plain: list[str]
    wrong_plain: str
    stray: bool  # some cell opens with a quote that it does not close
    quotes: bool


def open_delimited(text: TextFile, usual: str) -> OpenedTable:
    """Find how the file is written and its header; `usual` separates, unless the header says otherwise.

    Another separator is taken only where the header has it and every row as often as the header; the usual one is tried
    first. Raises DataError where no reading fits.
    """
    _, header = next(text.bare_lines(), (0, ""))
    if not header:
        raise DataError(f"{text.path}: empty")
    order = [usual, *(each for each in _SEPARATORS if each != usual)]
    able = [each for each in order if len(_header(header, each)) > 1] or [usual]
    errors: list[DataError] = []
    for separator in dict.fromkeys([*able, usual]):
        try:
            names, dialect, notes = _decide(text, separator)
        except DataError as error:
            errors.append(error)
            continue
        if separator != usual:
            notes = (f"{text.path.name}: separated by {_NAMES.get(separator, repr(separator))}", *notes)

        def read(wanted: list[str], names: list[str] = names, dialect: Dialect = dialect) -> Builder:
            return _read(text, names, dialect, wanted)

        return OpenedTable(tuple(names), notes, read, dialect)
    raise errors[0]


def _header(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _decide(text: TextFile, separator: str) -> tuple[list[str], Dialect, tuple[str, ...]]:
    """Read with quoting where the file parses so; else take quote characters as text, and say it."""
    scan = _scan(text, separator)
    if not scan.quotes:
        if scan.wrong_plain:
            raise DataError(f"{text.path}: {scan.wrong_plain}")
        return scan.plain, Dialect(separator, False), ()
    # Where both readings fit, a TSV with a quote left open in a cell is one that does not quote.
    either = not scan.wrong_quoted and not scan.wrong_plain
    if not scan.wrong_quoted and not (either and separator == "\t" and scan.stray):
        return scan.quoted, Dialect(separator, True), ()
    if scan.wrong_plain:
        raise DataError(f"{text.path}: with quoting, {scan.wrong_quoted}; without, {scan.wrong_plain}")
    note = f"{text.path.name}: quote characters are part of the text (the file does not use quoting)"
    return scan.plain, Dialect(separator, False), (note,)


def _scan(text: TextFile, separator: str) -> _Scan:
    plain, wrong_plain, stray, quotes = _widths(text, separator)
    if not quotes:
        return _Scan([], "", plain, wrong_plain, stray, quotes)
    header: list[str] = []
    wrong = ""
    try:
        for line, row in _quoted_rows(text, separator):
            header = header or row
            wrong = wrong or _uneven(line, len(row), len(header))
    except ValueError as error:
        wrong = str(error)
    return _Scan([name.strip() for name in header], wrong, plain, wrong_plain, stray, quotes)


def _widths(text: TextFile, separator: str) -> tuple[list[str], str, bool, bool]:
    """Return the header without quoting, what is wrong with that reading, and which quotes there are."""
    header: list[str] = []
    wrong, stray, quotes = "", False, False
    for number, line in text.bare_lines():
        header = header or line.split(separator)
        wrong = wrong or _uneven(number, line.count(separator) + 1, len(header))
        if '"' in line:
            quotes = True
            stray = stray or any(
                cell.startswith('"') and not (len(cell) > 1 and cell.endswith('"')) for cell in line.split(separator)
            )
    return [name.strip() for name in header], wrong, stray, quotes


def _uneven(line: int, cells: int, wide: int) -> str:
    return f"line {line} has {cells} fields, the header has {wide}" if cells != wide else ""


def _quoted_rows(text: TextFile, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a quoted file by the line on which they start; ValueError where it is not of that dialect."""
    reader = csv.reader(text.lines(), delimiter=separator, strict=True)
    start = 1
    with _cells_of(LONGEST_CELL):
        try:
            for row in reader:
                if row:
                    yield start, row
                start = reader.line_num + 1
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None


@contextlib.contextmanager
def _cells_of(most: int) -> Iterator[None]:
    limit = csv.field_size_limit(most)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _read(text: TextFile, names: list[str], dialect: Dialect, wanted: list[str]) -> Builder:
    no_column_twice(text.path, names, wanted)
    builder, places = Builder(text.path, wanted), [names.index(name) for name in wanted]
    if dialect.quoted:
        rows = (row for _, row in _quoted_rows(text, dialect.separator))
    else:
        rows = (line.split(dialect.separator) for _, line in text.bare_lines())
    next(rows)
    for number, row in enumerate(rows, start=1):
        if number > MOST_ROWS:
            raise DataError(f"{text.path}: more than {MOST_ROWS:,} rows; audit a part of them")
        builder.add([row[place] for place in places], STRING)
    return builder
