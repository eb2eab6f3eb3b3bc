"""Tables of text from CSV, TSV, JSON Lines and Parquet files, with what had to be decided said in words."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redteam.errors import DataError

_Row = tuple[int, list[str]]  # the line a row starts on, and its cells


@dataclass(frozen=True)
class Table:
    """Columns of equal length, by name, every cell a string or None; `notes` say how it was read."""

    source: str
    columns: dict[str, list[str | None]]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values()), []))

    @property
    def names(self) -> str:
        """The columns as an error message lists them."""
        some = [repr(name) for name in list(self.columns)[:10]]
        return ", ".join(some) + (", ..." if len(self.columns) > 10 else "")


def read_table(path: Path) -> Table:
    """Read a .csv, .tsv, .jsonl (.ndjson) or .parquet file; raise DataError with where it is broken."""
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
    """Read a file as strict UTF-8 (a byte-order mark is dropped); raise DataError with the bad line."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    zero = raw.find(b"\0")
    if zero >= 0:  # legal UTF-8, but what it really means is UTF-16 or a binary file
        line = raw.count(b"\n", 0, zero) + 1
        raise DataError(f"{path}: line {line}: holds a zero byte, so it is not UTF-8 text; convert the file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte-order mark was cut off before decoding, so positions are counted from behind it.
        start = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        line = raw.count(b"\n", 0, start) + 1
        raise DataError(f"{path}: line {line}: byte 0x{raw[start]:02x} is not UTF-8; convert the file") from None


def _lines(text: str) -> list[str]:
    """Split at line feeds only: str.splitlines would also cut at characters that occur inside texts."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _read_delimited(path: Path, delimiter: str) -> Table:
    """Read with quoting where the file parses so; else take quote characters as text, and say it."""
    text = read_text(path)
    plain = [(number, line.split(delimiter)) for number, line in enumerate(_lines(text), start=1) if line]
    if not plain:
        raise DataError(f"{path}: empty")
    wrong_plain = _ragged(plain)
    if '"' not in text:
        return _from_rows(path, plain, wrong_plain)
    quoted, wrong_quoted = _parse_quoted(text, delimiter)
    # Where both readings fit, a TSV with a quote left open in a cell is one that does not quote.
    either = not wrong_quoted and not wrong_plain
    if not wrong_quoted and not (either and delimiter == "\t" and _has_stray_quote(plain)):
        return _from_rows(path, quoted)
    if wrong_plain:
        raise DataError(f"{path}: with quoting, {wrong_quoted}; without, {wrong_plain}")
    note = f"{path.name}: quote characters are part of the text (the file does not use quoting)"
    return _from_rows(path, plain, note=note)


def _parse_quoted(text: str, delimiter: str) -> tuple[list[_Row], str]:
    """Parse with quoting; the second value says what is wrong where this is not a file of that dialect."""
    rows: list[_Row] = []
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        start = 1
        for row in reader:
            if row:
                rows.append((start, row))
            start = reader.line_num + 1
    except csv.Error as error:
        return [], f"line {reader.line_num}: {error}"
    finally:
        csv.field_size_limit(limit)
    return rows, _ragged(rows)


def _ragged(rows: list[_Row]) -> str:
    """Say which row is not as wide as the header; empty where all are."""
    wide = len(rows[0][1])
    for line, row in rows:
        if len(row) != wide:
            return f"line {line} has {len(row)} fields, the header has {wide}"
    return ""


def _has_stray_quote(rows: list[_Row]) -> bool:
    """True where, split without quoting, some cell opens with a quote that it does not close."""
    return any(c.startswith('"') and not (len(c) > 1 and c.endswith('"')) for _, row in rows for c in row)


def _from_rows(path: Path, rows: list[_Row], wrong: str = "", note: str = "") -> Table:
    if wrong:
        raise DataError(f"{path}: {wrong}")
    header = [name.strip() for name in rows[0][1]]
    _no_column_twice(path, header)
    columns: dict[str, list[str | None]] = {name: [row[i] for _, row in rows[1:]] for i, name in enumerate(header)}
    return Table(str(path), columns, (note,) if note else ())


def _no_column_twice(path: Path, header: list[str]) -> None:
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: column {twice!r} occurs twice")


def _read_json_lines(path: Path) -> Table:
    objects: list[dict[str, object]] = []
    for number, line in enumerate(_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            if "\\u" in line:  # an escape can spell half a character, which no tokenizer takes
                json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError(f"{path}: line {number}: holds half of a surrogate pair, which is no text") from None
        except (ValueError, RecursionError) as error:
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
        with path.open("rb") as file:  # a path alone would also be taken for a folder, or give columns by its name
            table = pyarrow.parquet.ParquetFile(file).read()
    except (OSError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as Parquet ({reason})") from None
    _no_column_twice(path, table.column_names)
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
    if isinstance(value, bytes):
        return value.decode()  # how some writers store texts
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
