"""A data file with further rows in it, in the format it had; every row that was there stays as it was."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redteam.core import DataError
from redteam.data.table import Cells

Row = Mapping[str, str | None]  # the cells of a new row by column; None where the row has nothing to say


_LARGEST = 2**30  # characters of a text file that canaries are planted in


def insert_rows(source: Path, table: Cells, rows: Mapping[int, Row]) -> bytes:
    """Return the file `source`, read as `table`, with new rows at the given positions of the result.

    Raises DataError where a cell cannot be written in this format, or the format is one that is only read.
    """
    kind = source.suffix.lower()
    if kind == ".parquet":
        return _insert_into_parquet(source, rows)
    file = table.text
    if file is None or kind not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise DataError(f"{source}: canaries are planted in .csv, .tsv, .jsonl and .parquet files; convert it")
    if file.packed or file.encoding != "utf-8" or file.end != "\n":
        raise DataError(f"{source}: canaries are planted in plain UTF-8 with line feeds; convert it")
    text = file.whole(_LARGEST)
    if table.dialect is not None:
        delimiter = table.dialect.separator
        header, *old = _quoted_records(text, delimiter) if table.dialect.quoted else _lines(text, blank=_blank)
        new = _delimited(list(table.columns), delimiter)
    else:
        header, old, new = "", _lines(text, blank=lambda line: not line.strip()), _json_line(text)
    if len(old) != table.rows:
        raise DataError(f"{source}: {len(old)} rows on a second look, {table.rows} on the first: not planted")
    end = _line_end(text)
    lines = iter([*old[:-1], _ended(old[-1], end)])
    whole = [new(rows[i]) + end if i in rows else next(lines) for i in range(len(old) + len(rows))]
    mark = b"\xef\xbb\xbf" if file.marked else b""
    return mark + (header + "".join(whole)).encode("utf-8")


def _quoted_records(text: str, delimiter: str) -> list[str]:
    """Split delimited text, where a quoted cell may hold line ends, into records with their line ends."""
    lines = list(io.StringIO(text, newline=""))
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    records, start, before = [], 0, ""
    try:
        reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
        for row in reader:
            record, start = "".join(lines[start : reader.line_num]), reader.line_num
            if row:
                records.append(before + record)
                before = ""
            elif records:
                records[-1] += record
            else:
                before += record
    finally:
        csv.field_size_limit(limit)
    return records


def _blank(line: str) -> bool:
    return not line.removesuffix("\n").removesuffix("\r")


def _lines(text: str, *, blank: Callable[[str], bool]) -> list[str]:
    """Split at line feeds; blank lines belong to the line before, and to the first where none is before."""
    records: list[str] = []
    before = ""
    for line in io.StringIO(text, newline="\n"):
        if not blank(line):
            records.append(before + line)
            before = ""
        elif records:
            records[-1] += line
        else:
            before += line
    return records


def _line_end(text: str) -> str:
    first = text.partition("\n")[0]
    if first == text and "\r" in text:
        return "\r"
    return "\r\n" if first.endswith("\r") else "\n"


def _ended(record: str, end: str) -> str:
    return record if record.endswith(("\n", "\r")) else record + end


def _delimited(names: Sequence[str], delimiter: str) -> Callable[[Row], str]:
    def write(row: Row) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=delimiter, lineterminator="").writerow([row.get(name) or "" for name in names])
        return buffer.getvalue()

    return write


def _json_line(text: str) -> Callable[[Row], str]:
    """Return what writes a row as the file's own objects are: its first object's keys, numbers where it has numbers."""
    first: dict[str, Any] = json.loads(next(line for line in text.split("\n") if line.strip()))

    def write(row: Row) -> str:
        names = [*first, *(name for name, cell in row.items() if cell is not None and name not in first)]
        return json.dumps({name: _like(first.get(name), row.get(name)) for name in names}, ensure_ascii=False)

    return write


def _like(example: Any, cell: str | None) -> Any:
    if cell is not None and isinstance(example, int | float) and not isinstance(example, bool):
        return int(cell) if cell.isascii() and cell.isdigit() else cell
    if cell in ("true", "false") and isinstance(example, bool):
        return cell == "true"
    return cell


def _insert_into_parquet(source: Path, rows: Mapping[int, Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    with source.open("rb") as file:
        table = pyarrow.parquet.ParquetFile(file).read()
    positions = sorted(rows)
    columns = []
    for field in table.schema:
        cells = [rows[i].get(field.name) for i in positions]
        columns.append(_arrow_column(source, field, cells, table[field.name]))
    added = pyarrow.Table.from_arrays(columns, schema=table.schema)
    order, old = [], 0
    at = {position: table.num_rows + i for i, position in enumerate(positions)}
    for i in range(table.num_rows + len(rows)):
        order.append(at.get(i, old))
        old += i not in at
    whole = pyarrow.concat_tables([table, added]).unify_dictionaries().take(order)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(whole, buffer)
    return buffer.getvalue()


def _arrow_column(source: Path, field: Any, cells: Sequence[str | None], old: Any) -> Any:
    """Return new cells in the type of their column; what may not be empty repeats the cell of the first row."""
    import pyarrow

    kind = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
    if not field.nullable and None in cells:
        cells = [old[0].as_py()] * len(cells)
    try:
        values: list[Any] = [None if cell is None else _arrow_cell(kind, cell) for cell in cells]
        return pyarrow.array(values, type=field.type)
    except (ValueError, TypeError, pyarrow.ArrowException):
        raise DataError(f"{source}: column {field.name!r} is of type {field.type}, which takes no such value") from None


def _arrow_cell(kind: Any, cell: Any) -> Any:
    import pyarrow

    if not isinstance(cell, str):
        return cell
    if pyarrow.types.is_integer(kind):
        return int(cell)
    if pyarrow.types.is_floating(kind):
        return float(cell)
    if pyarrow.types.is_boolean(kind):
        return cell == "true"
    if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
        return cell.encode()
    return cell
