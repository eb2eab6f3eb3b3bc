"""Tables of text from CSV, TSV, JSON Lines and Parquet files, with what had to be decided said in words."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redteam.errors import DataError


@dataclass(frozen=True)
class Table:
    """Columns of equal length, by name, every cell a string or None; `notes` are lines about how it was read."""

    source: str
    columns: dict[str, list[str | None]]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values()), []))


def read_table(path: Path) -> Table:
    """Read a .csv, .tsv, .jsonl (.ndjson) or .parquet file; raise DataError with the place where it is broken."""
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": lambda p: _read_delimited(p, ","),
        ".tsv": lambda p: _read_delimited(p, "\t"),
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}; known: {', '.join(readers)}")
    table = reader(path)
    if not table.columns or table.rows == 0:
        raise DataError(f"{path}: no rows")
    return table


def read_text(path: Path) -> str:
    """Read a file as strict UTF-8 (a byte-order mark is dropped); raise DataError with the line of a bad byte."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        bad = raw[error.start]
        raise DataError(f"{path}: line {line}: byte 0x{bad:02x} is not UTF-8; convert the file") from None


def _lines(text: str) -> list[str]:
    """Split at line feeds only: str.splitlines would also cut at characters that occur inside texts."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _read_delimited(path: Path, delimiter: str) -> Table:
    text = read_text(path)
    plain = [line.split(delimiter) for line in _lines(text) if line]
    if not plain:
        raise DataError(f"{path}: empty")
    if '"' not in text:
        return _from_rows(path, plain, note="")
    quoted = _parse_quoted(text, delimiter)
    if quoted is not None and not (_even(plain) and _has_stray_quote(plain)):
        return _from_rows(path, quoted, note="")
    note = f"{path.name}: quote characters are part of the text (the file does not use quoting)"
    return _from_rows(path, plain, note=note)


def _parse_quoted(text: str, delimiter: str) -> list[list[str]] | None:
    """Parse with quoting; None where a quote is out of place or rows differ in width, so it is not that dialect."""
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [row for row in reader if row]
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)
    return rows if _even(rows) else None


def _even(rows: list[list[str]]) -> bool:
    return all(len(row) == len(rows[0]) for row in rows)


def _has_stray_quote(rows: list[list[str]]) -> bool:
    """True where, split without quoting, some cell opens with a quote that it does not close."""
    return any(c.startswith('"') and not (len(c) > 1 and c.endswith('"')) for row in rows for c in row)


def _from_rows(path: Path, rows: list[list[str]], *, note: str) -> Table:
    header = [name.strip() for name in rows[0]]
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: column {twice!r} occurs twice")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} fields, the header has {len(header)}")
    columns: dict[str, list[str | None]] = {
        name: [row[i] for row in rows[1:]] for i, name in enumerate(header)
    }
    return Table(str(path), columns, (note,) if note else ())


def _read_json_lines(path: Path) -> Table:
    objects: list[dict[str, object]] = []
    for number, line in enumerate(_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: not JSON ({error})") from None
        if not isinstance(item, dict):
            raise DataError(f"{path}: line {number}: not a JSON object")
        objects.append(item)
    names = dict.fromkeys(name for item in objects for name in item)
    return Table(str(path), {name: [_cell(item.get(name)) for item in objects] for name in names})


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    try:
        return Table(str(path), {n: [_cell(v) for v in table[n].to_pylist()] for n in table.column_names})
    except UnicodeDecodeError:
        raise DataError(f"{path}: a text is not UTF-8; convert the file") from None


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Parquet turns integer labels with a gap into floats
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
