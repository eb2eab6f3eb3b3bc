"""Tables that Arrow reads: Parquet, .arrow files and streams, folders of `datasets`, and arrays of numpy.

Only the columns that are wanted are read: what stands in the others - nanoseconds, far dates, unknown zones, images -
does not matter.
"""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from redteam.core import DataError
from redteam.data.opened import OpenedTable, no_column_twice
from redteam.data.source import LARGEST, MOST_ROWS, check_file, read_document, saved_files

_BROKEN = (OSError, EOFError, KeyError, ValueError, RuntimeError, pa.ArrowException, zipfile.BadZipFile, zlib.error)
_IPC_FILE = b"ARROW1"


def open_parquet(path: Path) -> OpenedTable:
    """Open a Parquet file; raise DataError."""
    check_file(path)
    # A path alone would also be taken for a folder, or give columns by its name.
    with blame(path, "Parquet"), path.open("rb") as file:
        found = pa.parquet.ParquetFile(file)
        schema, rows = found.schema_arrow, found.metadata.num_rows
    _check_rows(path, rows)

    def read(wanted: list[str]) -> list[Any]:
        no_column_twice(path, schema.names, wanted)
        with blame(path, "Parquet"), path.open("rb") as file:
            opened = pa.parquet.ParquetFile(file)
            _check_size(path, opened.metadata, wanted)
            table = opened.read(columns=wanted)
        return [table[name] for name in wanted]

    return OpenedTable(tuple(schema.names), (), read, classes=_class_names(schema))


def open_arrow(path: Path) -> OpenedTable:
    """Open an .arrow file, which holds an IPC file or a stream; raise DataError."""
    check_file(path)
    return _open_ipc(path, [path], {})


def open_saved(path: Path) -> OpenedTable:
    """Open a folder that `datasets` wrote with `save_to_disk`; raise DataError, also for one of several splits."""
    if (path / "dataset_dict.json").is_file():
        splits = read_document(path / "dataset_dict.json").get("splits")
        named = [str(each)[:40] for each in splits][:5] if isinstance(splits, list) else []
        some = " or ".join(str(path / each) for each in named) or "the folder of one"
        raise DataError(f"{path}: holds several splits of a dataset; name one of them: {some}")
    info, _, *parts = saved_files(path)
    for part in parts:
        check_file(part)
    features = read_document(info).get("features")
    return _open_ipc(path, parts, class_names_of(features) if isinstance(features, dict) else {})


def is_saved(path: Path) -> bool:
    """Tell whether a folder is one that `datasets` saved."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _open_ipc(path: Path, parts: list[Path], classes: dict[str, tuple[str, ...]]) -> OpenedTable:
    schemas = [_read_ipc(part, None).schema for part in parts]
    if not schemas or any(schema.names != schemas[0].names for schema in schemas):
        raise DataError(f"{path}: its parts do not have the same columns")
    names = tuple(schemas[0].names)

    def read(wanted: list[str]) -> list[Any]:
        no_column_twice(path, names, wanted)
        with blame(path, "Arrow"):
            tables = [_read_ipc(part, [names.index(name) for name in wanted]).select(wanted) for part in parts]
            whole = pa.concat_tables(tables)
        for name in wanted:
            with blame(path, f"Arrow, column {name[:40]!r}"):
                whole[name].validate(full=True)  # offsets of a broken file lead anywhere
        _check_rows(path, whole.num_rows)
        return [whole[name] for name in wanted]

    return OpenedTable(names, (), read, classes=_class_names(schemas[0]) | classes)


def _read_ipc(path: Path, fields: list[int] | None) -> Any:
    """Return a table of some columns, all of a stream or a file without rows where `fields` is None."""
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    with blame(path, "Arrow"), pa.memory_map(str(path)) as file:
        if file.read(len(_IPC_FILE)) == _IPC_FILE:
            file.seek(0)
            reader = pa.ipc.open_file(file, options=options)
            return reader.schema.empty_table() if fields is None else reader.read_all()
        file.seek(0)
        reader = pa.ipc.open_stream(file, options=options)
        return reader.schema.empty_table() if fields is None else reader.read_all()


def open_arrays(path: Path) -> OpenedTable:
    """Open an .npz archive of numpy; raise DataError.

    `probabilities` [n, k] become k columns named after `labels`; a whole number as a label is a place among these.
    """
    check_file(path)
    with blame(path), path.open("rb") as file:  # opened here: given a name, numpy leaves a broken archive open
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: not an .npz archive; save the arrays with numpy.savez")
        if sum(each.file_size for each in zipfile.ZipFile(file).infolist()) > LARGEST:
            raise DataError(f"{path}: unpacks to more than {LARGEST:,} bytes; audit a part of it")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    columns: dict[str, Any] = {}
    labels = arrays.pop("labels", None)
    probabilities = arrays.pop("probabilities", None)
    if probabilities is not None:
        if labels is None or labels.ndim != 1 or probabilities.shape[1:] != labels.shape:
            raise DataError(f"{path}: 'probabilities' [n, k] need 'labels', the names of their k columns")
        columns |= {
            f"prob:{label}": _arrow(path, "probabilities", probabilities[:, i]) for i, label in enumerate(labels)
        }
    for what in ("label", "predicted"):
        numbers = what in arrays and arrays[what].ndim == 1 and arrays[what].dtype.kind in "iu"
        if numbers and labels is not None and labels.ndim == 1 and labels.dtype.kind == "U":
            columns[what] = _label_names(path, what, arrays.pop(what), labels)
    columns |= {name: _arrow(path, name, array) for name, array in arrays.items()}
    return OpenedTable(tuple(columns), (), lambda wanted: [columns[name] for name in wanted])


def _arrow(path: Path, name: str, array: Any) -> Any:
    if array.ndim != 1 or array.dtype.kind not in "biufU":
        raise DataError(f"{path}: {name!r} has shape {array.shape} and type {array.dtype}; wanted numbers or text [n]")
    return pa.array(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _label_names(path: Path, what: str, indices: Any, labels: Any) -> Any:
    """Whole numbers beside label names are taken as positions among them."""
    wrong = np.flatnonzero((indices < 0) | (indices >= len(labels)))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(f"{path}: row {row + 1}: {what} {indices[row]} is not a position among {len(labels)} labels")
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(labels))


def _check_rows(path: Path, rows: int) -> None:
    if rows > MOST_ROWS:
        raise DataError(f"{path}: {rows:,} rows; at most {MOST_ROWS:,} are read: audit a part of them")


def _check_size(path: Path, metadata: Any, wanted: list[str]) -> None:
    """Refuse columns that unpack to more than may be read."""
    size = 0
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            if column.path_in_schema.partition(".")[0] in wanted or column.path_in_schema in wanted:
                size += column.total_uncompressed_size
    if size > LARGEST:
        raise DataError(f"{path}: unpacks to {size:,} bytes; at most {LARGEST:,} are read: audit a part of it")


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of a ClassLabel by its column, from what `datasets` writes into the file's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return class_names_of(features) if isinstance(features, dict) else {}


def class_names_of(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of each ClassLabel by its column, from how `datasets` writes its features down."""
    found: dict[str, tuple[str, ...]] = {}
    for name, feature in features.items():
        names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and names and all(isinstance(each, str) for each in names):
            found[name] = tuple(names)
    return found


@contextlib.contextmanager
def blame(path: Path, what: str = "") -> Iterator[None]:
    """Turn what the readers raise into one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: too large to read") from None
    except _BROKEN as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0][:150]
        raise DataError(f"{path}: cannot be read{what and f' as {what}'} ({reason})") from None
