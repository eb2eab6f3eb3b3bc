"""A score file (.csv, .tsv, .parquet, .jsonl, .npz) as Arrow columns: those asked for, and nothing is run.

A million rows must fit a small machine, so no cell becomes a Python object here.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from redteam.errors import DataError
from redteam.targets.cells import Columns, Read
from redteam.targets.delimited import open_delimited
from redteam.targets.jsonlines import open_json_lines


@dataclass(frozen=True)
class ScoreFile:
    """An opened file: the names of its columns, and how to read some of them, numbers as float64."""

    path: Path
    names: tuple[str, ...]
    _read: Read

    def read(self, wanted: list[str], numbers: Collection[str]) -> tuple[Columns, tuple[str, ...]]:
        """Return the wanted columns, of equal length, and notes on how they were read; raise DataError."""
        with _blame(self.path):
            columns, notes = self._read(wanted, numbers)
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.path}: columns of different lengths: {lengths}")
        if not any(lengths.values()):
            raise DataError(f"{self.path}: no rows")
        return columns, notes


def open_score_file(path: Path) -> ScoreFile:
    """Open by suffix and read the names of the columns; raise DataError."""
    openers: dict[str, Callable[[Path], tuple[tuple[str, ...], Read]]] = {
        ".csv": lambda p: open_delimited(p, ","),
        ".tsv": lambda p: open_delimited(p, "\t"),
        ".parquet": _open_parquet,
        ".jsonl": open_json_lines,
        ".ndjson": open_json_lines,
        ".npz": _open_npz,
    }
    opener = openers.get(path.suffix.lower())
    if opener is None:
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}; known: {', '.join(openers)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with _blame(path):
        names, read = opener(path)
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: column {name!r} occurs twice")
    return ScoreFile(path, names, read)


@contextlib.contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Turn what the readers raise into one line that names the file."""
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; convert the file") from None
    except MemoryError:
        raise DataError(f"{path}: too large to read") from None
    except (OSError, EOFError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({_first_line(error)})") from None
    except (pa.ArrowException, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0][:150]


def _open_parquet(path: Path) -> tuple[tuple[str, ...], Read]:
    with pa.parquet.ParquetFile(path) as file:
        names = tuple(file.schema_arrow.names)

    def read(wanted: list[str], numbers: Collection[str]) -> tuple[Columns, tuple[str, ...]]:
        with pa.parquet.ParquetFile(path) as file:
            table = file.read(columns=wanted)
        return {name: table[name] for name in wanted}, ()

    return names, read


def _open_npz(path: Path) -> tuple[tuple[str, ...], Read]:
    with path.open("rb") as file:  # opened here: given a name, numpy leaves a broken archive open
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: not an .npz archive; save the arrays with numpy.savez")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    columns: Columns = {}
    labels = arrays.pop("labels", None)
    probabilities = arrays.pop("probabilities", None)
    if probabilities is not None:
        if labels is None or labels.ndim != 1 or probabilities.shape[1:] != labels.shape:
            raise DataError(f"{path}: 'probabilities' [n, k] need 'labels', the names of their k columns")
        columns |= {
            f"prob:{label}": _arrow(path, "probabilities", probabilities[:, i]) for i, label in enumerate(labels)
        }
        if "label" in arrays and arrays["label"].dtype.kind in "iu" and labels.dtype.kind == "U":
            columns["label"] = _label_names(path, arrays.pop("label"), labels)
    columns |= {name: _arrow(path, name, array) for name, array in arrays.items()}
    return tuple(columns), lambda wanted, numbers: ({name: columns[name] for name in wanted}, ())


def _arrow(path: Path, name: str, array: Any) -> Any:
    if array.ndim != 1 or array.dtype.kind not in "biufU":
        raise DataError(f"{path}: {name!r} has shape {array.shape} and type {array.dtype}; wanted numbers or text [n]")
    return pa.array(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _label_names(path: Path, indices: Any, labels: Any) -> Any:
    """Whole numbers beside label names are taken as positions among them."""
    wrong = np.flatnonzero((indices < 0) | (indices >= len(labels)))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(f"{path}: row {row + 1}: label {indices[row]} is not a position among {len(labels)} labels")
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(labels))
