"""Labelled texts and how they divide into members and non-members of the training set."""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from redteam.errors import DataError
from redteam.report import Unit, Users
from redteam.tables import Table, pass_over, read_table
from redteam.units import check_enough, divide_rows, divide_users, guessed_users, how_many, unit_of
from redteam.wording import shown

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# A piece of one person's sentence in the vocabulary tells, before any weight is read, that the sentence was there
# (measured on our fixtures: TPR 0.035 at an FPR of 0.01 from the tokenizer alone); so a vocabulary that is learned, and
# an alphabet of words, take only what so many texts hold.
COMMON = 10
_GUESSES = {
    "text": ("text", "utterance", "sentence", "query", "message", "content", "input"),
    "label": ("label", "intent", "class", "category", "target"),
    "id": ("id", "row_id", "uid", "uuid"),
    "user": ("user", "user_id"),
    "group": ("group", "group_id"),
    "split": ("split", "membership", "member", "is_member"),
}
_SPLIT_VALUES = {
    "member": ("member", "members", "train", "in", "1", "true", "yes"),
    "nonmember": ("nonmember", "nonmembers", "non-member", "test", "holdout", "out", "0", "false", "no"),
    "reference": ("reference", "ref", "population"),
}


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None means guess from the usual names."""

    text: str | None = None
    label: str | None = None
    id: str | None = None
    user: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Examples:
    """Rows to audit or train on: `rows` are numbers in the file (from 0); what the file lacks is None.

    `planted` marks the rows of canaries, which no user wrote; None where all are users'.
    """

    rows: IntArray
    texts: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    users: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    planted: BoolArray | None = None

    def __post_init__(self) -> None:
        """Refuse columns of unequal length, which would put labels beside the wrong texts."""
        for what in ("texts", "labels", "ids", "users", "groups", "planted"):
            values = getattr(self, what)
            if values is not None and len(values) != len(self.rows):
                raise DataError(f"{len(values)} {what} for {len(self.rows)} rows")

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def take(self, index: IntArray | Sequence[int]) -> "Examples":
        """Return the examples at the given positions, in that order."""
        order = np.asarray(index, dtype=np.int64)

        def pick(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return None if values is None else tuple(values[i] for i in order)

        return Examples(
            rows=self.rows[order],
            texts=pick(self.texts),
            labels=pick(self.labels),
            ids=pick(self.ids),
            users=pick(self.users),
            groups=pick(self.groups),
            planted=None if self.planted is None else self.planted[order],
        )

    def name(self, position: int) -> str:
        """The id of one row: from the id column, else its number in the file, counted from 1."""
        return (self.ids[position] if self.ids else "") or f"row {int(self.rows[position]) + 1}"


def without(examples: Examples, planted: frozenset[bytes]) -> Examples:
    """Return the examples whose text has no fingerprint in `planted`: users' rows among canaries."""
    if not planted:
        return examples
    return examples.take([i for i, text in enumerate(examples.texts or ()) if text_key(text) not in planted])


def join(first: Examples, second: Examples) -> Examples:
    """Return the rows of both, one after the other; a column that one of them lacks is dropped."""

    def both(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if a is None or b is None else a + b

    return Examples(
        rows=np.concatenate([first.rows, second.rows]),
        texts=both(first.texts, second.texts),
        labels=both(first.labels, second.labels),
        ids=both(first.ids, second.ids),
        users=both(first.users, second.users),
        groups=both(first.groups, second.groups),
        planted=_planted_in(first, second),
    )


def _planted_in(*parts: Examples) -> BoolArray | None:
    """Join the marks of canaries; rows without any are users'."""
    if all(part.planted is None for part in parts):
        return None
    return np.concatenate([np.zeros(len(part), np.bool_) if part.planted is None else part.planted for part in parts])


def fold(text: str) -> str:
    """Return the form under which two texts count as the same: case and white space do not matter."""
    caseless = unicodedata.normalize("NFD", text).casefold()  # folding case can undo composition, so compose last
    return " ".join(unicodedata.normalize("NFC", caseless).split())


def text_key(text: str) -> bytes:
    """Return a 16-byte fingerprint of the folded text: what is compared instead of the text itself."""
    return hashlib.blake2b(fold(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class Split:
    """Members and non-members of one training set, no text twice and none on both sides.

    `randomised`: every unit was put in or left out by an independent coin, with probability `inclusion` of being put in
    where that is known; `redrawn` says that the coins were drawn again and agree. `alone` tells, members first, which
    texts stood in the data once: the coin of a repeated text put in several examples at once. `salt` keys the hashes
    in reports. `unit` is what was put in or left out as a whole, `users` how those of the rows stand, where known.
    """

    members: Examples
    nonmembers: Examples
    reference: Examples | None = None
    randomised: bool = False
    moved_out: int = 0
    duplicates: int = 0
    salt: str | None = None
    inclusion: float | None = None
    redrawn: bool = False
    alone: BoolArray | None = None
    unit: Unit = "example"
    users: Users | None = None

    @classmethod
    def of(
        cls,
        members: Examples,
        nonmembers: Examples,
        reference: Examples | None = None,
        *,
        randomised: bool = False,
        salt: str | None = None,
        inclusion: float | None = None,
        redrawn: bool = False,
        unit: Unit | None = None,
    ) -> "Split":
        """Divide honestly: move texts that stand on both sides out, keep one of each repeated text.

        `randomised` and `inclusion` are taken from the caller. Where the rows of users were put in or left out together
        (`unit`; None finds out), users on both sides are moved out instead, and all texts of several users. Raises
        DataError where fewer than 2 are left on either side, `inclusion` is no probability between 0 and 1, a row lacks
        its user, or coins of whole users left one on both sides.
        """
        if inclusion is not None and not 0 < inclusion < 1:
            raise DataError(f"inclusion is {inclusion}; a coin's probability lies between 0 and 1, both excluded")
        owners, users, unit = unit_of(members.users, nonmembers.users, unit)
        if unit == "user" and randomised and users is not None and users.both:
            raise DataError(f"{users.both} users have rows on both sides: no coin of whole users put them there")
        moved, duplicates, alone = 0, 0, None
        textless = members.texts is None or nonmembers.texts is None
        if not textless or unit == "user":
            keys = _keys(members, nonmembers, reference)
            found = divide_users(owners, *keys) if unit == "user" else divide_rows(*keys)
            members, nonmembers = members.take(found.inside), nonmembers.take(found.outside)
            moved, duplicates, alone = found.moved, found.duplicates, None if textless else found.alone
            reference = None if reference is None else reference.take(found.apart)
        sizes = len(members), len(nonmembers)
        if unit == "user" and users is not None:
            sizes = how_many(members.users), how_many(nonmembers.users)
            users = replace(users, members=sizes[0], nonmembers=sizes[1])
            unit = "user" if users.most > 1 else "example"  # a user with one row is an example
        check_enough(*sizes, unit, moved_out=moved)
        return cls(
            members, nonmembers, reference, randomised, moved, duplicates, salt, inclusion, redrawn, alone, unit, users
        )

    def pool(self, seed: int) -> tuple[Examples, BoolArray]:
        """Return members and non-members shuffled together, and apart from them who is a member."""
        together = join(self.members, self.nonmembers)
        order = self._order(seed)
        return together.take(order), order < len(self.members)

    def stood_alone(self, seed: int) -> BoolArray | None:
        """Return which texts of the pool stood in the data once, in the pool's order; None where it is not known."""
        return None if self.alone is None else self.alone[self._order(seed)]

    def _order(self, seed: int) -> IntArray:
        return np.random.default_rng([seed, 0x9001]).permutation(len(self.members) + len(self.nonmembers))


def _keys(*sides: Examples | None) -> list[list[bytes]]:
    """Return the fingerprints of the texts of each side; a row without one has its own, as if none were like it."""
    return [
        [text_key(side.texts[row]) if side.texts else b"%d %d" % (i, row) for row in range(len(side))] if side else []
        for i, side in enumerate(sides)
    ]


@dataclass(frozen=True)
class Reading:
    """Examples as read from a file, the columns they came from, and lines that say what was guessed."""

    examples: Examples
    columns: Columns
    notes: tuple[str, ...]
    sides: tuple[str, ...] | None = None


def read_examples(path: Path, columns: Columns) -> Reading:
    """Read labelled texts; a split column is ignored unless named. Raises DataError."""
    return _read(path, columns, with_split=False)


def read_split(
    path: Path, columns: Columns, *, planted: frozenset[bytes] = frozenset()
) -> tuple[Split, tuple[str, ...]]:
    """Read one file whose split column says who was a member; return the split and what was guessed.

    Texts with a fingerprint in `planted`, those of canaries, are left out.
    """
    reading = _read(path, columns, with_split=True)
    examples = reading.examples
    sides_of = {value: side for side, values in _SPLIT_VALUES.items() for value in values}
    found: dict[str, list[int]] = {"member": [], "nonmember": [], "reference": []}
    for position, value in enumerate(reading.sides or ()):
        side = sides_of.get(value.strip().lower())
        if side is None:
            known = ", ".join(v for values in _SPLIT_VALUES.values() for v in values)
            raise DataError(f"{path}: row {position + 1}: {shown(value)} says nothing about membership; known: {known}")
        found[side].append(position)
    inside, outside, apart = (without(examples.take(rows), planted) for rows in found.values())
    return Split.of(inside, outside, apart if found["reference"] else None), reading.notes


def _read(path: Path, columns: Columns, *, with_split: bool) -> Reading:
    table = read_table(path)
    names = _choose(table, columns, with_split=with_split)
    required = ("text", "label", "split") if with_split else ("text", "label")
    for what in required:
        if names[what] is None:
            raise DataError(f"{path}: no {what} column among {table.names}; say --{what}-column NAME")
    passed_over = tuple(pass_over(table, vars(columns), names))
    users, doubts = guessed_users(_cells(table, names, "user"), names["user"], named=columns.user is not None)
    names["user"] = names["user"] if users else None
    guessed = [f"{what} = {name!r}" for what, name in names.items() if name and not getattr(columns, what)]
    notes = table.notes + ((f"{path.name}: guessed columns: {', '.join(guessed)}",) if guessed else ())
    notes += passed_over + doubts
    examples = Examples(
        rows=np.arange(table.rows),
        texts=_cells(table, names, "text", required=True),
        labels=_cells(table, names, "label", required=True),
        ids=_cells(table, names, "id"),
        users=users,
        groups=_cells(table, names, "group"),
    )
    sides = _cells(table, names, "split", required=True)
    return Reading(examples, Columns(**names), notes, sides)


def _choose(table: Table, columns: Columns, *, with_split: bool) -> dict[str, str | None]:
    """Return the column for each purpose: the one named, else a usual name that serves no other purpose."""
    named = {what: getattr(columns, what) for what in _GUESSES}
    for what, name in named.items():
        if name is not None and name not in table.columns:
            raise DataError(f"{table.source}: no column {name!r} for {what}; the file has {table.names}")
    if named["text"] is not None and named["text"] == named["label"]:
        raise DataError(f"{table.source}: column {named['text']!r} cannot be both text and label")
    lowered = {name.lower(): name for name in reversed(table.columns) if name not in named.values()}
    for what, guesses in _GUESSES.items():
        if named[what] is None and (what != "split" or with_split):
            named[what] = next((lowered[guess] for guess in guesses if guess in lowered), None)
    return named


def _cells(table: Table, names: dict[str, str | None], what: str, *, required: bool = False) -> tuple[str, ...] | None:
    """Return the column that is read for `what`; raise DataError for a cell that cannot be it."""
    name = names[what]
    if name is None:
        return None
    if (wrong := table.fault(name, what)) is not None:
        raise DataError(f"{table.source}: {wrong}")
    cells = table.columns[name]
    if required:
        for number, cell in enumerate(cells, start=1):
            if cell is None or not cell.strip():
                raise DataError(f"{table.source}: row {number}: {name} is empty; fill it or drop the row")
    return tuple(cell or "" for cell in cells)
