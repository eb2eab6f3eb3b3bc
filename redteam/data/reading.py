"""From a file to labelled texts: which column holds what, and which rows have a text at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import BoolArray, IntArray
from redteam.data.examples import Columns, Examples, without
from redteam.data.split import Split
from redteam.data.units import guessed_users
from redteam.data.vocabulary import MEMBER, NONMEMBER, REFERENCE, UNKNOWN
from redteam.report import plural

if TYPE_CHECKING:
    from redteam.data.column import Column, SideArray
    from redteam.data.in_memory import Dataset
    from redteam.data.table import Table

GUESSES = {
    "text": ("text", "utterance", "sentence", "query", "message", "content", "input"),
    "label": ("label", "intent", "class", "category", "target"),
    "id": ("id", "row_id", "uid", "uuid"),
    "user": ("user", "user_id"),
    "group": ("group", "group_id"),
    "split": ("split", "membership", "member", "is_member"),
}


@dataclass(frozen=True)
class Reading:
    """Examples as read from a file, the columns they came from, and lines that say what was guessed.

    `rows` counts those of the file, also those without a text, which are no examples. `sides` are those of a split
    column, one an example; `classes` are the names for which the file says that its whole numbers stand.
    """

    examples: Examples
    columns: Columns
    notes: tuple[str, ...]
    sides: "SideArray | None" = None
    rows: int = 0
    classes: tuple[str, ...] = ()


def read_examples(path: "Path | Dataset", columns: Columns) -> Reading:
    """Read the labelled texts of `path`: .csv, .jsonl, .parquet, the directory of a saved dataset, or a Dataset itself.

    `columns` name what holds texts, labels and the rest; what is None is guessed from the usual names, and the notes of
    the reading say what was. A split column is ignored unless named. Raises DataError, in one line without any text.
    """
    return _read(path, columns, with_split=False)


def read_texts(path: Path, column: str | None = None) -> tuple[str, ...]:
    """Return the texts of the file at `path`, which needs no labels, without empty ones.

    DataError where it has no such column. Without a `column` it is guessed from the usual names.
    """
    from redteam.data.table import open_table

    table = open_table(path)
    lowered = {name.lower(): name for name in reversed(table.names)}
    name = column or next((lowered[guess] for guess in GUESSES["text"] if guess in lowered), None)
    if name is None or name not in table.names:
        wanted = f"no column {column!r}" if column else "no text column"
        raise DataError(f"{path}: {wanted} among {table.listed}; say --text-column NAME")
    texts = tuple(text for text in table.read([name])[name].texts() if text and not text.isspace())
    if len(texts) < 2:
        raise DataError(f"{path}: {len(texts)} texts are too few to learn from")
    return texts


def read_split(
    path: "Path | Dataset", columns: Columns, *, planted: frozenset[bytes] = frozenset()
) -> tuple[Split, tuple[str, ...]]:
    """Read the file or Dataset `path`, whose split column says who was a member; return the split and what was guessed.

    Texts with a fingerprint in `planted`, those of canaries, are left out.
    """
    reading = _read(path, columns, with_split=True)
    assert reading.sides is not None
    inside, outside, apart = by_side(reading.examples, reading.sides)
    inside, outside = without(inside, planted), without(outside, planted)
    return Split.of(inside, outside, without(apart, planted) if len(apart) else None), reading.notes


def by_side(examples: Examples, sides: "SideArray") -> tuple[Examples, Examples, Examples]:
    """Return the members, the non-members and what is kept apart of both, by the side of each example."""
    members, nonmembers, apart = (
        examples.take(np.flatnonzero(sides == side)) for side in (MEMBER, NONMEMBER, REFERENCE)
    )
    return members, nonmembers, apart


def with_text(texts: Sequence[str] | None, rows: int, path: Path) -> tuple[IntArray, tuple[str, ...]]:
    """Return which of `rows` rows have a text, and a note on those that have none; `path` is where they are from.

    Raises DataError where none has a text.
    """
    if texts is None:
        return np.arange(rows), ()
    kept = np.array([row for row, text in enumerate(texts) if text and not text.isspace()], dtype=np.int64)
    if not len(kept):
        raise DataError(f"{path}: no row has a text")
    empty = rows - len(kept)
    return kept, (f"{path.name}: skipped {plural(empty, 'row')} without a text",) if empty else ()


def checked_sides(column: "Column", kept: IntArray) -> "SideArray":
    """Return the sides that `column` names for the rows that are `kept`, int [n]; DataError for one that names none."""
    sides = column.sides()[kept]
    if (sides == UNKNOWN).any():
        raise column.no_side(int(kept[int(np.argmax(sides == UNKNOWN))]))
    return sides


def _read(source: "Path | Dataset", columns: Columns, *, with_split: bool) -> Reading:
    from redteam.data.column import require
    from redteam.data.table import open_table, pass_over

    table = open_table(source)
    path = table.path
    names = _choose(table, columns, with_split=with_split)
    for what in ("text", "label", "split") if with_split else ("text", "label"):
        if names[what] is None:
            raise DataError(f"{path}: no {what} column among {table.listed}; say --{what}-column NAME")
    found = table.read([name for name in names.values() if name])
    passed_over = tuple(pass_over(path, found, vars(columns), names))
    text, label = (found[name] for name in (names["text"], names["label"]) if name is not None)
    texts = text.texts()
    kept, skipped = with_text(texts, len(text), path)
    labels = label.names("label")
    require(label, labels, _mask(kept, len(label)))
    users, doubts = guessed_users(_names(found, names, "user", kept), names["user"], named=columns.user is not None)
    names["user"] = names["user"] if users else None
    guessed = [f"{what} = {name!r}" for what, name in names.items() if name and not getattr(columns, what)]
    notes = table.notes + ((f"{path.name}: guessed columns: {', '.join(guessed)}",) if guessed else ())
    examples = Examples(
        rows=kept,
        texts=tuple(texts[row] for row in kept.tolist()),
        labels=tuple(labels[row] for row in kept.tolist()),
        ids=_names(found, names, "id", kept),
        users=users,
        groups=_names(found, names, "group", kept),
        classes=label.classes,
    )
    side = names["split"]
    sides = None if side is None else checked_sides(found[side], kept)
    every = notes + passed_over + doubts + skipped
    return Reading(examples, Columns(**names), every, sides, len(text), label.classes)


def _mask(kept: IntArray, rows: int) -> BoolArray:
    mask = np.zeros(rows, dtype=np.bool_)
    mask[kept] = True
    return mask


def _choose(table: "Table", columns: Columns, *, with_split: bool) -> dict[str, str | None]:
    """Return the column for each purpose: the one named, else a usual name that serves no other purpose."""
    named = {what: getattr(columns, what) for what in GUESSES}
    for what, name in named.items():
        if name is not None and name not in table.names:
            raise DataError(f"{table.path}: no column {name!r} for {what}; the file has {table.listed}")
    if named["text"] is not None and named["text"] == named["label"]:
        raise DataError(f"{table.path}: column {named['text']!r} cannot be both text and label")
    lowered = {name.lower(): name for name in reversed(table.names) if name not in named.values()}
    for what, guesses in GUESSES.items():
        if named[what] is None and (what != "split" or with_split):
            named[what] = next((lowered[guess] for guess in guesses if guess in lowered), None)
    return named


def _names(
    found: "Mapping[str, Column]", names: dict[str, str | None], what: str, kept: IntArray
) -> tuple[str, ...] | None:
    """Return the names in the column that is read for `what`, of the rows that are kept."""
    name = names[what]
    if name is None:
        return None
    cells = found[name].names(what)
    return tuple(cells[row] for row in kept.tolist())
