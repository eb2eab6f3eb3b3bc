"""What opening a file gives, whatever its format: names of columns, and a way to read some of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam.core import DataError
from redteam.data.kinds import STRING, kind_of
from redteam.data.source import LONGEST_CELL

_BLOCK = 1 << 16  # rows; a million rows must fit a small machine, so they are no Python objects for long


class Builder:
    """Gathers the cells of some columns of a text file row by row, as Arrow arrays of strings.

    `kinds` tells for each column what its cells are, by the first row that is.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Begin without rows."""
        self.path, self.names, self.rows = path, list(names), 0
        self.kinds: list[dict[str, int]] = [{} for _ in names]
        self._cells: list[list[str | None]] = [[] for _ in names]
        self._blocks: list[list[Any]] = [[] for _ in names]

    def add(self, cells: Sequence[str | None], kind: str | None) -> None:
        """Add a row of cells, all of one kind; with None their kinds are told by `note`."""
        self.rows += 1
        for place, cell in enumerate(cells):
            if cell is not None and len(cell) > LONGEST_CELL:
                raise too_long(self.path, self.rows, self.names[place], len(cell))
            self._cells[place].append(cell)
        if kind is not None and self.rows == 1:
            self.kinds = [{kind: 1} for _ in self.names]
        if self.rows % _BLOCK == 0:
            self._pack()

    def note(self, place: int, value: object) -> None:
        """Note the kind of a value of the row that comes next."""
        kind = STRING if type(value) is str else kind_of(value)
        if kind is not None and kind not in self.kinds[place]:
            self.kinds[place][kind] = self.rows + 1

    def _pack(self) -> None:
        import pyarrow as pa

        for place, cells in enumerate(self._cells):
            self._blocks[place].append(pa.array(cells, pa.large_string()))
            self._cells[place] = []

    def arrays(self) -> list[Any]:
        """Return the columns as Arrow arrays in chunks."""
        import pyarrow as pa

        self._pack()
        return [pa.chunked_array(blocks, pa.large_string()) for blocks in self._blocks]


Read = Callable[[list[str]], Any]


@dataclass(frozen=True)
class OpenedTable:
    """Names of columns, notes on how they are read, and what reads those wanted.

    `read` returns a `Builder`, or the Arrow arrays themselves. `classes` are the names that whole numbers of a column
    stand for, where the file says it; `dialect` is how delimited text is written.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...]
    read: Read
    dialect: Any = None
    classes: dict[str, tuple[str, ...]] | None = None


def no_column_twice(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise DataError where a wanted column occurs twice; others may, as spreadsheets leave nameless ones behind."""
    for name in wanted:
        if list(names).count(name) > 1:
            raise DataError(f"{path}: column {name!r} occurs twice")


def too_long(path: Path, row: int, name: str, length: int) -> DataError:
    """Return the error for a cell that is too long to be read."""
    return DataError(f"{path}: row {row}: {name[:40]} has {length:,} characters; at most {LONGEST_CELL:,}")
