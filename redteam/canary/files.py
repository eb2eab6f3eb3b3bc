"""From a data file and a plan to the planted file and its canary ledger."""

import hashlib
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redteam.canary.alphabets import choose_alphabets
from redteam.canary.draw import PlantingPlan, draw_canaries, of_users
from redteam.canary.insertion import Row, insert_rows
from redteam.canary.tokens import LISTED
from redteam.core import DataError, UsageError
from redteam.core.files import write_atomic
from redteam.data import Columns, Reading, fingerprint, read_examples
from redteam.data.pattern import Pattern
from redteam.data.planted import canaries_beside
from redteam.data.planting import Canary, Planting, canaries_path, canary_rows, crowded
from redteam.data.table import Cells, read_table
from redteam.data.vocabulary import MEMBER, WORDS, side_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPLITS = ("split", "set", "subset", "partition", "membership", "member", "is_member")
_TRAINING = WORDS[MEMBER]


@dataclass(frozen=True)
class Planted:
    """The files written, what is in them, the columns used, and notes on what was guessed."""

    data: Path
    ledger: Path
    planting: Planting
    columns: Columns
    notes: tuple[str, ...]


def plant(
    data: Path,
    output: Path,
    plan: PlantingPlan,
    *,
    columns: Columns = Columns(),
    alphabets: Mapping[str, Path] | None = None,
    tokenizer: "Tokenizer | None" = None,
) -> Planted:
    """Write `data` with canaries among its rows to `output`, and what was planted to the ledger beside it.

    The format stays, and so does every cell of every row that was there. `alphabets` are the user's own, by name;
    `tokenizer` says what a word is. Raises UsageError or DataError, and then nothing is written.
    """
    ledger = canaries_path(output)
    _check_output(data, output, ledger)
    patterns = plan.check()
    if canaries_beside(data) is not None:
        raise UsageError(f"{data}: holds canaries already; plant all of them in the data as it was, at once")
    reading, table, source = read_examples(data, columns), read_table(data), fingerprint(data)
    texts, labels = reading.examples.texts or (), reading.examples.labels or ()
    key = source if plan.key is None else plan.key
    symbols = choose_alphabets(patterns, alphabets or {}, texts=texts, tokenizer=tokenizer)
    canaries = draw_canaries(plan, symbols, texts=texts, labels=labels, key=key)
    rows = _new_rows(canaries, table, reading)
    content = insert_rows(data, table, rows)
    whole = table.rows + len(rows)
    digest = hashlib.sha256(content).hexdigest()
    written = sum(of_users(pattern, symbols, texts) for pattern in patterns)
    planting = Planting(source, digest, whole, plan.seed, key, symbols, canaries, written=written).sealed()
    planting.save(ledger)  # first: canaries that nobody can tell from users' rows would be worse
    try:
        write_atomic(output, content, mode=stat.S_IMODE(data.stat().st_mode) | 0o600)
        _check_result(output, table, rows)
    except BaseException:
        ledger.unlink(missing_ok=True)
        output.unlink(missing_ok=True)
        raise
    notes = (*reading.notes, *_crowd(planting), *_rare(planting))
    return Planted(output, ledger, planting, reading.columns, notes)


def trained_texts(
    data: Path, planting: Planting, *, members: Sequence[int] | None = None, columns: Columns = Columns()
) -> tuple[str, ...]:
    """Return the texts of a planted file that were trained on: canaries, decoys and, of users' rows, the `members`.

    All users' rows where members is None. Raises LedgerError where it is not the file that was planted.
    """
    planting.check_data(data)
    examples = read_examples(data, columns).examples
    rows = examples.rows.tolist() if members is None else sorted({*members, *canary_rows(planting)})
    return examples.of_rows(rows).texts or ()


def _crowd(planting: Planting) -> tuple[str, ...]:
    shared, total = crowded(planting), len(planting.canaries)
    if not shared:
        return ()
    return (
        f"{shared} of {total} canaries share sentence and label with another: an attack that ranks all candidates "
        "makes as many guesses as share them, but a search (secrets of over a million candidates) makes one for "
        "all; to keep them apart, plant more patterns or fewer canaries",
    )


def _rare(planting: Planting) -> Iterator[str]:
    for name, symbols in planting.alphabets.items():
        if len(symbols) > LISTED:
            yield (
                f"alphabet {name!r} has {len(symbols):,} symbols: more than {LISTED:,} do not become part of the "
                "vocabulary of tiny and bilstm unless the data has them; other models have their own"
            )


def _check_output(data: Path, output: Path, ledger: Path) -> None:
    if not output.resolve().parent.is_dir():
        raise UsageError(f"{output}: the folder does not exist")
    if output.resolve() == data.resolve():
        raise UsageError(f"{output}: is the data itself; name another file with -o")
    for path in (output, ledger):
        if path.exists():
            raise UsageError(f"{path}: exists; remove it or name another file with -o")
    if data.is_dir():
        raise UsageError(f"{data}: is a folder; name a file in it")
    if output.suffix.lower() != data.suffix.lower():
        raise UsageError(f"{output}: planting keeps the format; let the name end in {data.suffix}, as {data} does")


def _new_rows(canaries: Sequence[Canary], table: Cells, reading: Reading) -> dict[int, Row]:
    """Return the cells of every new row by its position in the planted file.

    Where ids or users are named, rows get new ones, and of groups the commonest: no row looks planted by what it lacks.
    """
    columns = reading.columns
    assert columns.text is not None  # reading saw to it
    assert columns.label is not None
    common = _training_side(table, columns)
    number = {name: str(i) for i, name in enumerate(reading.classes)}  # the file holds numbers where names are read
    cells: dict[int, dict[str, str | None]] = {}
    owned: list[tuple[int, ...]] = []  # the rows of one secret are those of one user
    for canary in canaries:
        fill = Pattern.parse(canary.template).fill
        kinds = [(canary.secret, canary.label, canary.rows)]
        kinds += [(decoy.secret, decoy.label, decoy.rows) for decoy in canary.decoys]
        for secret, label, rows in kinds:
            cells |= {
                row: {**common, columns.text: fill(secret), columns.label: number.get(label, label)} for row in rows
            }
            owned.append(rows)
    if columns.id is not None:
        names = _new_ids(table.columns[columns.id], len(cells))
        for row, name in zip(sorted(cells), names, strict=True):
            cells[row][columns.id] = name
    if columns.user is not None:
        names = _new_ids(table.columns[columns.user], len(owned))
        for rows, name in zip(sorted(owned), names, strict=True):
            for row in rows:
                cells[row][columns.user] = name
    if columns.group is not None:
        commonest = Counter(cell for cell in table.columns[columns.group] if cell).most_common(1)
        for new in cells.values():
            new[columns.group] = commonest[0][0] if commonest else None
    return dict(cells)


def _training_side(table: Cells, columns: Columns) -> dict[str, str | None]:
    """Return the cells that say "train" in columns that say who is trained on.

    Raises DataError where such a column has no cell that is known to say so: canaries that a trainer leaves out would
    look like secrets that it keeps.
    """
    used = {columns.text, columns.label, columns.id, columns.user}
    sides: dict[str, str | None] = {}
    for name, cells in table.columns.items():
        if name.lower() in _SPLITS and name not in used:
            sides[name] = next((cell for cell in cells if side_of(cell or "") == MEMBER), None)
            if sides[name] is None and any(cells):
                raise DataError(
                    f"column {name!r} seems to say which rows are trained on, but no cell of it is one of "
                    f"{', '.join(_TRAINING)}: write train there, or rename the column if it says something else"
                )
    return sides


def _new_ids(known: Sequence[str | None], count: int) -> list[str]:
    """Return ids that the data lacks: the next numbers where its ids are numbers."""
    if all(cell is not None and cell.isascii() and cell.isdigit() for cell in known):
        return [str(max(int(cell or 0) for cell in known) + 1 + i) for i in range(count)]
    taken = set(known)
    names = (f"added-{i}" for i in range(1, count + len(taken) + 1))
    return [name for name in names if name not in taken][:count]


def _check_result(output: Path, table: Cells, rows: Mapping[int, Row]) -> None:
    """Read what was written and compare it with what was there, cell by cell; DataError where it differs."""
    found = read_table(output)
    for name, before in table.columns.items():
        after = found.columns.get(name, [])
        kept = [cell for i, cell in enumerate(after) if i not in rows]
        if kept != before:
            raise DataError(f"{output}: column {name!r} would not come back as it was; nothing is planted")
        for i, row in rows.items():
            if name in row and (after[i] or None) != (row[name] or None):
                raise DataError(
                    f"{output}: a planted cell of {name!r} would be read otherwise: the pattern holds a character that "
                    "this file cannot quote, or the column's type does not take such a value"
                )
