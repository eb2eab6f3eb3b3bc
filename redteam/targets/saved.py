"""Saved scores: what an attack or a model said about each row, in a file that also says who was a member."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redteam.data import Columns, Examples, Split
from redteam.errors import DataError, TargetError
from redteam.files import sha256
from redteam.target import Access, FloatArray, IntArray, label_indices, own_label_losses
from redteam.targets import cells
from redteam.targets.distributions import HARD, hard, in_percent, log_probabilities, normalised, probability_fault
from redteam.targets.forms import shown
from redteam.targets.scorefile import ScoreFile, open_score_file
from redteam.units import guessed_users
from redteam.wording import plural

_GUESSES = {
    "split": ("member", "is_member", "membership", "split"),
    "text": ("text", "utterance", "sentence"),
    "label": ("label",),
    "id": ("id", "row_id"),
    "user": ("user", "user_id"),
    "group": ("group", "group_id"),
}
_GUESSED_COLUMNS = Columns()
_PROBABILITY = re.compile(r"(?:prob|p)([:_])(.+)", re.IGNORECASE)


class SavedScores:
    """Stands in for a model that is not there: it answers for rows of its own file and for nothing else.

    One of `losses` [n] (then access is LOSSES) and `log_probabilities` [n, k] (PROBABILITIES, or LABELS where all are 0
    or 1) is given. `remarks` say what was made of them.
    """

    kind = "scores"

    def __init__(
        self,
        name: str,
        *,
        digest: str | None = None,
        losses: FloatArray | None = None,
        log_probabilities: FloatArray | None = None,
        labels: tuple[str, ...] = (),
        texts: tuple[str, ...] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        """Hold the arrays, which are those of all rows of the file in its order."""
        self.name, self.digest, self.labels = name, digest, labels
        self.access = Access.LOSSES if log_probabilities is None else Access.PROBABILITIES
        if log_probabilities is not None and hard(log_probabilities):
            self.access = Access.LABELS
        self.remarks = remarks
        self._losses, self._log_probabilities, self._texts = losses, log_probabilities, texts

    def predict(self, examples: Examples) -> IntArray:
        """Return the index of each most probable label, shape [n]; TargetError where scores were saved."""
        predicted: IntArray = self.log_probabilities(examples).argmax(axis=1)
        return predicted

    def losses(self, examples: Examples) -> FloatArray:
        """Return the saved loss, or minus the saved score, of each row, shape [n]."""
        if self._losses is None:
            own = label_indices(self.labels, examples, name=self.name)
            return own_label_losses(self.log_probabilities(examples), own)
        return self._losses[self._rows(examples, len(self._losses))]

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, len(labels)]; TargetError where scores were saved."""
        if self._log_probabilities is None:
            raise TargetError(f"{self.name}: one score a row was saved; there are no labels or probabilities")
        return self._log_probabilities[self._rows(examples, len(self._log_probabilities))]

    def _rows(self, examples: Examples, saved: int) -> IntArray:
        """Return the rows asked for, after a look that they are asked for as they were saved."""
        rows, texts = examples.rows, examples.texts
        if len(rows) and not (rows.min() >= 0 and rows.max() < saved):
            raise TargetError(f"{self.name}: {saved} rows were saved; there is no score for any other")
        if texts is not None and self._texts is None:
            raise TargetError(f"{self.name}: saved without texts; a score for a given text cannot be looked up")
        if texts is not None and self._texts is not None:
            own = self._texts
            changed = sum(own[row] != text for row, text in zip(rows.tolist(), texts, strict=True))
            if changed:
                raise TargetError(f"{self.name}: {changed} texts are not those saved; a model would have to be asked")
        return rows


@dataclass(frozen=True)
class _Choice:
    """Which column holds what; `measure` is score, loss or probabilities, those by label."""

    names: dict[str, str]
    measure: str
    probabilities: dict[str, str]

    @property
    def numbers(self) -> list[str]:
        return list(self.probabilities.values()) if self.probabilities else [self.names[self.measure]]


def load_scores(
    path: Path | str,
    *,
    columns: Columns = _GUESSED_COLUMNS,
    score: str | None = None,
    loss: str | None = None,
) -> tuple[SavedScores, Split, tuple[str, ...]]:
    """Read a file of scores; return the stand-in target, who was a member, and lines on what was decided.

    .csv, .tsv, .parquet, .jsonl or .npz. A membership column (member, is_member, membership, split) and one
    of: `score`, higher meaning "was trained on"; `loss`, lower meaning it; a probability of every label
    (`prob:NAME`, `p:NAME`, `prob_NAME`, `p_NAME`; in .npz `probabilities` and `labels`) with the own `label`.
    Optional: text, id, user, group. Arguments name columns called otherwise. Raises DataError.
    """
    path = Path(path)
    file = open_score_file(path)
    choice = _choose(file, columns, score, loss)
    table, notes = file.read(list(dict.fromkeys([*choice.names.values(), *choice.numbers])), choice.numbers)
    choice, passed_over = _pass_over(choice, columns, table)
    examples = _examples(path, choice, table)
    users, doubts = guessed_users(examples.users, choice.names.get("user"), named=columns.user is not None)
    examples, notes = replace(examples, users=users), notes + doubts
    side = cells.sides(path, choice.names["split"], table[choice.names["split"]])
    target = _target(path, choice, table, examples)
    del table
    parts = {code: examples.take(np.flatnonzero(side == code)) for code in (1, 0, 2)}
    reference = parts[cells.REFERENCE] if len(parts[cells.REFERENCE]) else None
    try:
        split = Split.of(parts[cells.MEMBER], parts[cells.NONMEMBER], reference)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    used = ", ".join(f"{what} = {name!r}" for what, name in choice.names.items() if what != "split")
    notes += tuple(f"{path.name}: {each}" for each in passed_over)
    notes = (*notes, f"{path.name}: columns: membership = {choice.names['split']!r}, {used}")
    if examples.texts is None:
        notes += (f"{path.name}: no texts: that members and non-members come from one source is on trust",)
    return target, split, notes


def _choose(file: ScoreFile, columns: Columns, score: str | None, loss: str | None) -> _Choice:
    """Find the columns by their usual names or the given ones; raise DataError where that is not plain."""
    lowered = {name.lower(): name for name in reversed(file.names)}
    given = {**vars(columns), "score": score, "loss": loss}
    names: dict[str, str] = {}
    for what, guesses in (_GUESSES | {"score": ("score",), "loss": ("loss",)}).items():
        name = given[what] or next((lowered[guess] for guess in guesses if guess in lowered), None)
        if name is not None and name not in file.names:
            raise DataError(f"{file.path}: no column {name!r} for {what}; the file has {shown(file.names)}")
        if name is not None:
            names[what] = name
    if "split" not in names:
        raise DataError(f"{file.path}: no membership column (member, split) among {shown(file.names)}")
    asked = [what for what in ("score", "loss") if given[what]]
    probabilities = {} if asked else _probability_columns(file)
    found = asked or [what for what in ("score", "loss") if what in names]
    found += ["probabilities"] if probabilities else []
    if len(found) > 1:
        raise DataError(f"{file.path}: both {found[0]} and {found[1]} columns; keep one, or name the one to use")
    if not found:
        wanted = "score, loss or probability (prob:LABEL) columns"
        raise DataError(f"{file.path}: no {wanted} among {shown(file.names)}")
    if probabilities and "label" not in names:
        raise DataError(f"{file.path}: probability columns need a label column with each row's own label")
    return _Choice({k: v for k, v in names.items() if k in (*_GUESSES, found[0])}, found[0], probabilities)


def _probability_columns(file: ScoreFile) -> dict[str, str]:
    """Return label -> column; one with an underscore may be something else (`p_value`), so it takes two."""
    found: dict[str, dict[str, str]] = {":": {}, "_": {}}
    for name in file.names:
        match = _PROBABILITY.fullmatch(name)
        if match is not None and found[match[1]].setdefault(match[2], name) != name:
            raise DataError(f"{file.path}: columns {found[match[1]][match[2]]!r} and {name!r} are of one label")
    return found[":"] or (found["_"] if len(found["_"]) > 1 else {})


def _pass_over(choice: _Choice, given: Columns, table: cells.Columns) -> tuple[_Choice, list[str]]:
    """Forget columns that were guessed by their name alone and cannot be what it says; return a note for each."""
    notes = []
    names = dict(choice.names)
    for what in ("id", "user", "group"):
        name = names.get(what)
        if name is not None and getattr(given, what) is None:
            wrong = cells.column_fault(name, table[name], what)
            if wrong is not None:
                del names[what]
                notes.append(f"{wrong.partition(';')[0]}: not used")
    return replace(choice, names=names), notes


def _examples(path: Path, choice: _Choice, table: cells.Columns) -> Examples:
    def cell(what: str, *, required: bool = False, few: bool = False) -> tuple[str, ...] | None:
        name = choice.names.get(what)
        return None if name is None else cells.strings(path, name, table[name], what, required=required, few=few)

    return Examples(
        rows=np.arange(len(table[choice.names["split"]])),
        texts=cell("text", required=True),
        labels=cell("label", required=bool(choice.probabilities), few=True),
        ids=cell("id"),
        users=cell("user", few=True),
        groups=cell("group", few=True),
    )


def _target(path: Path, choice: _Choice, table: cells.Columns, examples: Examples) -> SavedScores:
    digest, texts = sha256(path), examples.texts
    if not choice.probabilities:
        name = choice.names[choice.measure]
        values = cells.numbers(path, name, table[name])
        losses = -values if choice.measure == "score" else values
        return SavedScores(path.name, digest=digest, losses=losses, texts=texts)
    labels = tuple(choice.probabilities)
    matrix = np.empty((len(examples), len(labels)))
    for i, name in enumerate(choice.probabilities.values()):
        matrix[:, i] = cells.numbers(path, name, table.pop(name))  # popped: one copy of each column is enough
    remarks: tuple[str, ...] = ()
    if in_percent(matrix):
        matrix /= 100.0
        remarks += ("answers are percentages: divided by 100",)
    fault = probability_fault(matrix)
    if fault is not None:
        raise DataError(f"{path}: row {fault[0] + 1}: {fault[1]}")
    known = {*labels, *(label.removeprefix("LABEL_") for label in labels)}
    unknown = next((i for i, own in enumerate(examples.labels or ()) if own not in known), None)
    if unknown is not None:
        own = shown((examples.labels or ())[unknown : unknown + 1])
        raise DataError(f"{path}: row {unknown + 1}: label {own} has no probability column among {shown(labels)}")
    matrix, off = normalised(matrix)
    if off:
        remarks += (
            f"{off:,} of {plural(len(matrix), 'row')} do not sum to 1, as rounded ones do: divided by their sums",
        )
    values = log_probabilities(matrix)
    if hard(values):
        remarks += (HARD,)
    return SavedScores(path.name, digest=digest, log_probabilities=values, labels=labels, texts=texts, remarks=remarks)
