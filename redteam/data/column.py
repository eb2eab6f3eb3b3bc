"""One column of a file: as texts, as names, as finite numbers, as sides of the split.

Errors count the rows of the file from 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from redteam.core import DataError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data.cells import shown
from redteam.data.kinds import NOT_FINITE, NUMBER, STRING, WHOLE, Kinds, fault, kind_of_type
from redteam.data.opened import too_long
from redteam.data.source import LONGEST_CELL
from redteam.data.vocabulary import KNOWN, UNKNOWN, name_of, number_of, side_of, spelled

SideArray = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Column:
    """Cells as Arrow holds them, and their `kinds`; `classes` are the names that whole numbers stand for."""

    source: Path
    name: str
    values: Any
    kinds: Kinds
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Path, name: str, values: Any, kinds: Kinds | None, classes: tuple[str, ...]) -> "Column":
        """Take cells, whose kinds their type tells where it is not given."""
        values = pc.cast(values, pa.large_string()) if pa.types.is_string_view(values.type) else values
        found = _kinds(values) if kinds is None else kinds
        return cls(source, name, values, found, classes)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.values)

    @property
    def blank(self) -> bool:
        """Whether no cell holds anything but white space."""
        return not set(self.kinds) - {STRING} and not any((cell or "").strip() for cell in self.cells())

    def fault(self, what: str) -> str | None:
        """Say why a column cannot be what it is read for, such as "text" or "label"; None where it can."""
        return fault(self.kinds, self.name, what)

    def cells(self) -> Iterator[str | None]:
        """Yield every cell as a text file would write it, None where it is empty."""
        row = 0
        for chunk in self.values.chunks if isinstance(self.values, pa.ChunkedArray) else [self.values]:
            for cell in self._cells_of(chunk, row):
                row += 1
                if cell is not None and len(cell) > LONGEST_CELL:
                    raise too_long(self.source, row, self.name, len(cell))
                yield cell

    def texts(self) -> tuple[str, ...]:
        """Return the cells as texts, to the character; raise DataError for one that is no string."""
        self._check("text")
        return tuple(cell or "" for cell in self.cells())

    def names(self, what: str) -> tuple[str, ...]:
        """Return the cells as names of a `what`; raise DataError for one that cannot be it."""
        self._check(what)
        known: dict[str, str] = {}
        if self.classes and set(self.kinds) <= {WHOLE}:
            known = {str(number): name for number, name in enumerate(self.classes)}
            for row, cell in enumerate(self.cells(), start=1):
                if cell is not None and cell not in known:
                    of = f"of the {len(self.classes)} classes that the file names"
                    raise DataError(f"{self.source}: row {row}: {self.name} {shown(cell)} is none {of}; drop the row")
        names = []
        for cell in self.cells():
            name = known.get(cell or "")
            if name is None:
                name = known.setdefault(cell or "", name_of(cell or ""))
            names.append(name)
        return tuple(names)

    def numbers(self) -> FloatArray:
        """Return the cells as float64 [n]; raise DataError for what is not a finite number."""
        wrong = sorted((row, kind) for kind, row in self.kinds.items() if kind not in _NUMBERS)
        if wrong:
            row, kind = wrong[0]
            raise DataError(f"{self.source}: row {row}: column {self.name!r} holds {kind}, not numbers")
        values = _plain(self.values)
        if not (pa.types.is_large_string(values.type) or pa.types.is_string(values.type)):
            found = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
            if values.null_count:
                raise self._no_number(int(np.argmin(np.asarray(values.is_valid()))), "empty")
        else:
            found = self._parsed(values)
        finite = np.isfinite(found)
        if not finite.all():
            row = int(np.argmin(finite))
            raise self._no_number(row, f"{found[row]} is not a finite number")
        return found

    def sides(self) -> SideArray:
        """Return for each row the side of the split that it names, UNKNOWN where it names none, shape [n]."""
        self._check("split")
        coded = pc.dictionary_encode(_plain(self.values))
        codes = []
        for chunk in coded.chunks if isinstance(coded, pa.ChunkedArray) else [coded]:
            words = [spelled(word) for word in chunk.dictionary.to_pylist()]
            sides = np.array([UNKNOWN if word is None else side_of(word) for word in words] + [UNKNOWN], np.int8)
            places = pc.fill_null(chunk.indices, len(words)).to_numpy(zero_copy_only=False)
            codes.append(sides[np.asarray(places, np.int64)])
        return np.concatenate(codes) if codes else np.empty(0, np.int8)

    def no_side(self, row: int) -> DataError:
        """Return the error for a row that does not say on which side it is."""
        cell = (spelled(self.values[row].as_py()) or "").strip()
        what = f"{shown(cell)} says nothing about membership" if cell else f"{self.name} is empty"
        return DataError(f"{self.source}: row {row + 1}: {what}; known: {KNOWN}")

    def _check(self, what: str) -> None:
        if (wrong := self.fault(what)) is not None:
            raise DataError(f"{self.source}: {wrong}")

    def _cells_of(self, chunk: Any, before: int) -> Iterator[str | None]:
        if pa.types.is_dictionary(chunk.type):  # each value becomes one object, however often it is meant
            words = list(self._cells_of(chunk.dictionary, before))
            for place in chunk.indices.to_pylist():
                yield None if place is None else words[place]
            return
        try:
            yield from (spelled(value) for value in chunk.to_pylist())
            return
        except UnicodeDecodeError:
            row = before + _first_broken(chunk)
        except (ValueError, OverflowError, KeyError, pa.ArrowException):  # nanoseconds, far dates, unknown zones
            row = 0
        if row:
            raise DataError(f"{self.source}: row {row}: {self.name} is not UTF-8; convert the file")
        try:
            yield from (spelled(value) for value in pc.cast(chunk, pa.int64(), safe=False).to_pylist())
        except (ValueError, pa.ArrowException):
            raise DataError(f"{self.source}: column {self.name!r} of type {chunk.type} cannot be read") from None

    def _parsed(self, values: Any) -> FloatArray:
        try:
            found = pc.cast(pc.utf8_trim_whitespace(values), pa.float64())
            if not found.null_count:
                return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)
        except pa.ArrowInvalid:
            pass  # Arrow takes fewer spellings, and does not say which row is wrong
        numbers = np.empty(len(values))
        for row, cell in enumerate(self.cells()):
            number = number_of(cell or "")
            if number is None:
                raise self._no_number(row, f"{shown(cell)} is not a number" if cell and cell.strip() else "empty")
            numbers[row] = number
        return numbers

    def _no_number(self, row: int, what: str) -> DataError:
        return DataError(f"{self.source}: row {row + 1}: {self.name}: {what}")


_NUMBERS = frozenset({STRING, WHOLE, NUMBER, NOT_FINITE})


def require(column: Column, cells: tuple[str, ...], kept: BoolArray) -> None:
    """Raise DataError where a cell of a kept row is empty."""
    for row, (cell, keep) in enumerate(zip(cells, kept.tolist(), strict=True), start=1):
        if keep and not cell.strip():
            raise DataError(f"{column.source}: row {row}: {column.name} is empty; fill it or drop the row")


def _kinds(values: Any) -> dict[str, int]:
    """Return the kinds of an Arrow column, which its type tells but for numbers that are not finite."""
    kind, found = kind_of_type(values.type), {}
    if kind is not None and values.null_count < len(values):
        found[kind] = pc.index(values.is_valid(), True).as_py() + 1
    floats: Callable[[Any], Any] = pc.is_finite
    if pa.types.is_floating(values.type):
        finite = floats(values)
        row = pc.index(finite, False).as_py()
        found |= {NOT_FINITE: row + 1} if row >= 0 else {}
    return found


def _plain(values: Any) -> Any:
    """Undo dictionary encoding, which not every function takes."""
    return _plain(pc.cast(values, values.type.value_type)) if pa.types.is_dictionary(values.type) else values


def _first_broken(chunk: Any) -> int:
    for row, value in enumerate(pc.cast(chunk, pa.large_binary()), start=1):
        try:
            (value.as_py() or b"").decode()
        except UnicodeDecodeError:
            return row
    return 0
