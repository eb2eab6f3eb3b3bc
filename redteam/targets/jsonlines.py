"""Columns of a JSON Lines file as Arrow arrays, with the line in every error."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from redteam.errors import DataError
from redteam.kinds import kind_of
from redteam.targets.cells import Columns, Read

_BLOCK = 8 * 2**20  # the longest line that can be read


def open_json_lines(path: Path) -> tuple[tuple[str, ...], Read]:
    """Return the keys of the first line and what reads some of them; raise DataError or an error of Arrow."""
    _, first = next(_lines(path), (0, None))
    if first is None:
        raise DataError(f"{path}: empty")

    def read(wanted: list[str], numbers: Collection[str]) -> tuple[Columns, tuple[str, ...]]:
        schema = pa.schema([(n, pa.float64() if n in numbers else _type(first[n])) for n in wanted])
        options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        block = pa.json.ReadOptions(use_threads=False, block_size=_BLOCK)
        try:
            table = pa.json.read_json(path, read_options=block, parse_options=options)
        except pa.ArrowInvalid:
            _explain(path, first, wanted, numbers)
            raise
        return {name: table[name] for name in wanted}, ()

    return tuple(first), read


def _type(value: object) -> Any:
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(type(value), pa.string())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects with their line numbers, one line in memory at a time."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except UnicodeDecodeError:
                raise DataError(f"{path}: line {number}: not UTF-8; convert the file") from None
            except (ValueError, RecursionError):
                raise DataError(f"{path}: line {number}: not JSON") from None
            if not isinstance(value, dict):
                raise DataError(f"{path}: line {number}: not a JSON object")
            yield number, value


def _explain(path: Path, first: dict[str, Any], wanted: list[str], numbers: Collection[str]) -> None:
    """Raise DataError with the line that Arrow could not read (it counts within blocks), if it is found."""
    for number, item in _lines(path):
        for name in wanted:
            value = item.get(name)
            if isinstance(value, dict | list):
                kind = kind_of(value)
                raise DataError(f"{path}: line {number}: {name} is {kind}; one string or number was wanted")
            kinds = (int, float) if name in numbers else (str,) if first[name] is None else (type(first[name]),)
            if value is not None and type(value) not in kinds:
                what = "a number" if name in numbers else f"{kinds[0].__name__} as in the first line"
                raise DataError(f"{path}: line {number}: {name} is {type(value).__name__}, not {what}")
