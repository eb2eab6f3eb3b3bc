"""Tables from every kind of file that rows and columns come in, with what had to be decided said in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redteam.core import DataError
from redteam.data.column import Column
from redteam.data.delimited import Dialect, open_delimited
from redteam.data.in_memory import Dataset, open_dataset
from redteam.data.jsonfiles import open_json, open_json_lines
from redteam.data.opened import Builder, OpenedTable
from redteam.data.source import TextFile, check_file

_TEXTS: dict[str, Callable[[TextFile], OpenedTable]] = {
    ".csv": lambda text: open_delimited(text, ","),
    ".tsv": lambda text: open_delimited(text, "\t"),
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_json,
}
_KNOWN = ".csv, .tsv, .jsonl, .ndjson, .json, all of them also as .gz, .parquet, .arrow, .feather, .npz"


@dataclass(frozen=True)
class Table:
    """An opened file: the names of its columns, notes on how it is read, and some of its columns on demand."""

    path: Path
    names: tuple[str, ...]
    notes: tuple[str, ...]
    opened: OpenedTable = field(repr=False)
    text: TextFile | None = None

    @property
    def listed(self) -> str:
        """The columns as an error message lists them."""
        some = [repr(name[:40]) for name in self.names[:10]]
        return ", ".join(some) + (", ..." if len(self.names) > 10 else "")

    def read(self, wanted: Sequence[str]) -> dict[str, Column]:
        """Return the wanted columns, of equal length; raise DataError."""
        names = list(dict.fromkeys(wanted))
        found: Any = self.opened.read(names)
        kinds: list[Any] = [None] * len(names)
        if isinstance(found, Builder):
            kinds, found = list(found.kinds), found.arrays()
        classes = self.opened.classes or {}
        columns = {
            name: Column.of(self.path, name, values, kind, classes.get(name, ()))
            for name, values, kind in zip(names, found, kinds, strict=True)
        }
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.path}: columns of different lengths: {lengths}")
        if not any(lengths.values()):
            raise DataError(f"{self.path}: no rows")
        return columns


def open_table(source: Path | Dataset) -> Table:
    """Open a file, a folder that `datasets` saved or a dataset in memory; DataError with where it is broken."""
    from redteam.data.arrow import is_saved, open_arrays, open_arrow, open_parquet, open_saved

    if not isinstance(source, Path):
        opened = open_dataset(source)
        return _some(Table(Path(type(source).__name__), opened.names, opened.notes, opened))
    path = source
    if path.is_dir() and is_saved(path):
        opened = open_saved(path)
        return Table(path, opened.names, opened.notes, opened)
    kind = kind_of(path)
    if kind in _TEXTS:
        text = TextFile(path)
        opened = _TEXTS[kind](text)
        return _some(Table(path, opened.names, opened.notes, opened, text))
    arrows = {".parquet": open_parquet, ".arrow": open_arrow, ".feather": open_arrow, ".npz": open_arrays}
    if kind not in arrows:
        if path.is_dir():
            check_file(path)
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}; known: {_KNOWN}")
    opened = arrows[kind](path)
    return _some(Table(path, opened.names, opened.notes, opened))


@dataclass(frozen=True)
class Cells:
    """All that stands in a file, every cell as a text file would write it or None; `text` is there for text files."""

    columns: dict[str, list[str | None]]
    notes: tuple[str, ...]
    text: TextFile | None = None
    dialect: Dialect | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values()), []))


def read_table(path: Path) -> Cells:
    """Read every cell of a file, for what writes it again; raise DataError with where it is broken."""
    table = open_table(path)
    columns = {name: list(column.cells()) for name, column in table.read(table.names).items()}
    return Cells(columns, table.notes, table.text, table.opened.dialect)


def kind_of(path: Path) -> str:
    """Return the ending that tells what is in a file, without that of gzip."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _some(table: Table) -> Table:
    if not table.names:
        raise DataError(f"{table.path}: no rows")
    return table


def pass_over(
    path: Path, columns: Mapping[str, Column], given: Mapping[str, str | None], names: dict[str, str | None]
) -> Iterator[str]:
    """Forget in `names` columns that nobody gave, and that cannot be what their name says; yield a note for each."""
    for what in ("id", "user", "group"):
        name = names.get(what)
        if name is not None and given[what] is None and (wrong := columns[name].fault(what)):
            names[what] = None
            yield f"{path.name}: {wrong.partition(';')[0]}: not used"
