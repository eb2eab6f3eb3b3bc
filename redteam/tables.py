"""Tables of text from CSV, TSV, JSON Lines and Parquet files, with what had to be decided said in words."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redteam.errors import DataError
from redteam.kinds import NUMBER, STRING, Kinds, fault, kind_of_type, kinds_of

_LONGEST = 10_000_000  # characters of a cell
_Row = tuple[int, list[str]]  # the line a row starts on, and its cells


@dataclass(frozen=True)
class Table:
    """Columns of equal length, by name, every cell a string or None; `notes` say how it was read.

    `kinds` tells what the file really holds in a column, where that can be anything but strings.
    """

    source: str
    columns: dict[str, list[str | None]]
    notes: tuple[str, ...] = ()
    kinds: dict[str, Kinds] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values()), []))

    def fault(self, name: str, what: str) -> str | None:
        """Say why a column cannot be what it is read for, such as "text" or "label"; None where it can."""
        return fault(self.kinds.get(name, {}), name, what)

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
    for name, cells in table.columns.items():
        for row, cell in enumerate(cells, start=1):
            if cell is not None and len(cell) > _LONGEST:
                raise DataError(f"{path}: row {row}: {name[:40]} has {len(cell):,} characters; at most {_LONGEST:,}")
    return table


def pass_over(table: Table, given: Mapping[str, str | None], names: dict[str, str | None]) -> Iterator[str]:
    """Forget in `names` columns that nobody gave, and that cannot be what their name says; yield a note for each."""
    for what in ("id", "user", "group"):
        name = names[what]
        if name is not None and given[what] is None and (wrong := table.fault(name, what)):
            names[what] = None
            yield f"{Path(table.source).name}: {wrong.partition(';')[0]}: not used"


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
            item = json.loads(line, object_pairs_hook=_no_key_twice)
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
    values = {name: [item.get(name) for item in objects] for name in names}
    return Table(
        str(path),
        {name: [_cell(value) for value in column] for name, column in values.items()},
        kinds={name: kinds_of(column) for name, column in values.items()},
    )


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that says two things of one key: readers differ in which of them they take."""
    item = dict(pairs)
    if len(item) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return item


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
    columns: dict[str, list[str | None]] = {}
    kinds: dict[str, Kinds] = {}
    try:
        for name in table.column_names:
            values = table[name].to_pylist()
            columns[name], kinds[name] = [_cell(value) for value in values], _arrow_kinds(table[name].type, values)
    except UnicodeDecodeError:
        raise DataError(f"{path}: a text is not UTF-8; convert the file") from None
    return Table(str(path), columns, kinds=kinds)


def _arrow_kinds(type: Any, values: list[Any]) -> Kinds:
    """Return the kinds of a Parquet column, which its type tells but for numbers that are not finite."""
    kind = kind_of_type(type)
    if kind is None or kind == STRING:
        return {}
    if kind == NUMBER:
        return kinds_of(values)
    first = next((row for row, value in enumerate(values, start=1) if value is not None), None)
    return {} if first is None else {kind: first}


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
