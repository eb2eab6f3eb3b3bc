"""Privatise a data file block by block: what is written whole is kept when a run is broken off, and never drawn again.

Of each row the text is exchanged, and label, id, user and group are copied. All other columns are left out: they may
hold the text once more.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from redteam import __version__
from redteam.core import DataError, UsageError, decode
from redteam.core.files import sha256, write_atomic
from redteam.core.progress import Progress, unwatched
from redteam.core.randomness import Randomness
from redteam.data import Columns, Examples, Reading, read_examples
from redteam.data.ledger import describe_data
from redteam.data.planting import canaries_path
from redteam.data.table import kind_of, open_table
from redteam.data.words import words_of
from redteam.report import plural
from redteam.training.privatising.record import Privatisation, WordTally, record_path

RowsDone = Callable[[float, int], None]


class Rewriter(Protocol):
    """What makes other texts of texts: word by word, or as a whole."""

    def texts(
        self, texts: Sequence[str], randomness: Randomness, progress: Progress = unwatched
    ) -> tuple[list[str], WordTally]:
        """Return texts rewritten, each independently, and what came of their words; `progress` hears how far it is."""

    def described(self) -> dict[str, Any]:
        """Return what the record says of it, and of what it claims."""


_BLOCK = 50_000  # words, which are drawn and then written whole
_KINDS = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Released:
    """The files written, what the record says, and notes on what was read and left out."""

    output: Path
    record: Path
    privatisation: Privatisation
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _State:
    """How far a run has come: rows and bytes that are written whole, and what came of them."""

    identity: str
    rows: int
    size: int
    tally: WordTally


def privatise(
    data: Path,
    output: Path,
    exchange: Rewriter,
    *,
    columns: Columns = Columns(),
    seed: int | None = None,
    restart: bool = False,
    progress: RowsDone = unwatched,
) -> Released:
    """Write `data` with its words exchanged to `output`, and the record of that beside it.

    `columns` name what holds texts and labels, `exchange` is the mechanism with what it needs. With a `seed` anyone who
    knows it can undo everything. A run that was broken off goes on where it was unless `restart`, and `progress` hears
    of rows done, also in part, and all of them. Raises UsageError or DataError, and then nothing is written.
    """
    _check_output(data, output)
    settings = exchange.described()
    reading = read_examples(data, columns)
    examples = _whole(data, reading)
    source = describe_data(data, reading.columns, reading.rows, beside=output)
    identity = _identity(settings, asdict(source) | {"path": ""}, seed, output.suffix)
    part = output.with_name(f"{output.name}.part")
    names = _kept(reading.columns)
    state = _begin(part, identity, _header(output, names), restart=restart)
    progress(state.rows, len(examples))  # the pace is told from here on
    while state.rows < len(examples):
        rows = _block(examples, state.rows)
        watch = partial(_part_of, progress, state.rows, len(rows), len(examples))
        texts, tally = exchange.texts(rows.texts or (), Randomness(seed, state.rows), watch)
        state = _append(part, state, _rendered(output, names, rows, texts), tally)
        progress(state.rows, len(examples))
    made = Privatisation(
        **settings,
        randomness="operating system" if seed is None else "seed",
        source=source,
        released_sha256=sha256(part),
        tally=state.tally,
        tool_version=__version__,
    )
    made.save(record_path(output))  # first: a released file of which nobody knows how it was made would be worse
    part.replace(output)
    _state_path(part).unlink(missing_ok=True)
    return Released(output, record_path(output), made, (*reading.notes, *_left_out(data, names)))


def _block(examples: Examples, start: int) -> Examples:
    """Return the rows from `start` on that make a block, at least one: the same whenever a block begins there."""
    words = 0
    for end, text in enumerate(islice(examples.texts or (), start, None), start + 1):
        words += len(words_of(text))
        if words >= _BLOCK:
            return examples.take(range(start, end))
    return examples.take(range(start, len(examples)))


def _part_of(progress: RowsDone, before: int, rows: int, whole: int, done: int, total: int) -> None:
    """Tell that so much of a block of `rows` is done, with `before` rows before it."""
    progress(before + rows * done / max(total, 1), whole)


def _check_output(data: Path, output: Path) -> None:
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist")
    if output.is_dir() or kind_of(output) not in _KINDS or output.suffix.lower() == ".gz":
        raise UsageError(f"--output {output}: is written as {', '.join(_KINDS)}; let the name end so")
    if canaries_path(data).exists():
        raise UsageError(
            f"{data}: holds canaries, whose secrets would be exchanged too; privatise the data without them"
        )
    if output.exists() and data.exists() and output.samefile(data):
        raise UsageError(f"--output {output} would overwrite an input: give another file")


def _whole(data: Path, reading: Reading) -> Examples:
    """Return the examples; DataError where a row has no text, after which rows could no longer be told by number."""
    examples = reading.examples
    if len(examples) != reading.rows:
        there = set(examples.rows.tolist())
        first = next(row for row in range(reading.rows) if row not in there)
        missing = reading.rows - len(examples)
        raise DataError(f"{data}: row {first + 1} has no text ({plural(missing, 'such row')}): take it out first")
    return examples


def _kept(columns: Columns) -> dict[str, str]:
    """Return what is written, by what it is: the text, the label, and what else is known of a row."""
    named = {what: getattr(columns, what) for what in ("text", "label", "id", "user", "group")}
    return {what: name for what, name in named.items() if name is not None}


def _left_out(data: Path, names: dict[str, str]) -> Iterator[str]:
    others = [name for name in open_table(data).names if name not in names.values()]
    if others:
        shown = ", ".join(repr(name[:40]) for name in others[:8])
        yield f"{data.name}: left out {plural(len(others), 'column')}, which may hold the text once more: {shown}"


def _identity(settings: dict[str, Any], source: dict[str, Any], seed: int | None, kind: str) -> str:
    whole = [settings, source, seed, kind, _BLOCK, __version__]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _begin(part: Path, identity: str, header: bytes, *, restart: bool) -> _State:
    """Return the state of a run that was broken off, its file cut to what was written whole, or begin one."""
    path = _state_path(part)
    if path.is_file() and part.is_file() and not restart:
        try:
            state = decode(_State, json.loads(path.read_bytes()))
        except ValueError:
            raise UsageError(f"{path}: says no longer how far a run has come; begin anew with --restart") from None
        if state.identity != identity or part.stat().st_size < state.size:
            raise UsageError(f"{part}: is of an unfinished run with other settings or data; --restart begins anew")
        os.truncate(part, state.size)
        return state
    path.unlink(missing_ok=True)
    write_atomic(part, header, mode=0o600)
    return _State(identity, 0, len(header), WordTally())


def _append(part: Path, state: _State, block: bytes, tally: WordTally) -> _State:
    """Write a block of rows to the end, and then that it is there."""
    with part.open("ab") as file:
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
    state = _State(state.identity, state.rows + tally.texts, state.size + len(block), state.tally.plus(tally))
    write_atomic(_state_path(part), json.dumps(asdict(state)), mode=0o600)
    return state


def _header(output: Path, names: dict[str, str]) -> bytes:
    return b"" if output.suffix.lower() == ".jsonl" else _delimited(output, [list(names.values())])


def _rendered(output: Path, names: dict[str, str], rows: Examples, texts: list[str]) -> bytes:
    columns = {"text": texts, "label": rows.labels, "id": rows.ids, "user": rows.users, "group": rows.groups}
    cells = [columns[what] or ("",) * len(texts) for what in names]
    if output.suffix.lower() == ".jsonl":
        objects = (dict(zip(names.values(), row, strict=True)) for row in zip(*cells, strict=True))
        return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects).encode()
    return _delimited(output, zip(*cells, strict=True))


def _delimited(output: Path, rows: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t" if output.suffix.lower() == ".tsv" else ",", lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()
