"""A `datasets.Dataset`, read column by column as a file of its rows would be; the library itself is never imported."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from redteam.core import DataError
from redteam.data.opened import OpenedTable


class Dataset(Protocol):
    """What is used of a `datasets.Dataset`."""

    column_names: list[str]
    features: Mapping[str, Any]

    def select_columns(self, column_names: list[str]) -> Any:
        """Return the dataset with these columns only."""


def open_dataset(source: object) -> OpenedTable:
    """Open a dataset in memory; DataError for several splits, a stream, and whatever else is no table of rows."""
    from redteam.data.arrow import class_names_of

    library: Any = sys.modules.get("datasets")
    if isinstance(source, Mapping):
        named = ", ".join(repr(str(each)[:40]) for each in list(source)[:5])
        raise DataError(f"{type(source).__name__}: holds several splits ({named}); give one of them")
    if library is None or not isinstance(source, library.Dataset):
        raise DataError(f"{type(source).__name__}: no table of rows; give a file's path or a datasets.Dataset")
    dataset: Dataset = source

    def read(wanted: list[str]) -> list[Any]:
        table = dataset.select_columns(wanted).with_format("arrow")[:]
        return [table[name] for name in wanted]

    classes = class_names_of(getattr(dataset.features, "to_dict", dict)())
    return OpenedTable(tuple(dataset.column_names), (), read, classes=classes)


def file_of(source: Path | Dataset | None) -> Path | None:
    """Return a source that is a file, None for one that is in memory: nothing can lie beside that."""
    return source if isinstance(source, Path) else None
