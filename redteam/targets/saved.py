"""Saved scores: what an attack or a model said about each row, in a file that also says who was a member."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from redteam.core import DataError, TargetError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Columns, Examples, Split, fingerprint
from redteam.data.column import Column, require
from redteam.data.labels import by_map
from redteam.data.reading import by_side, checked_sides, with_text
from redteam.data.table import Table, open_table, pass_over
from redteam.data.units import guessed_users
from redteam.data.vocabulary import name_of
from redteam.report import plural
from redteam.targets.distributions import HARD, hard, in_percent, log_probabilities, normalised, probability_fault
from redteam.targets.forms import shown
from redteam.targets.kind import TargetKind
from redteam.targets.target import Access, Target, label_indices, own_label_losses

_GUESSES = {
    "split": ("member", "is_member", "membership", "split"),
    "text": ("text", "utterance", "sentence"),
    "label": ("label",),
    "id": ("id", "row_id"),
    "user": ("user", "user_id"),
    "group": ("group", "group_id"),
}
_GUESSED_COLUMNS = Columns()
_SCORE_FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".gz", ".parquet", ".arrow", ".feather", ".npz")
_PROBABILITY = re.compile(r"(?:prob|p)([:_])(.+)", re.IGNORECASE)


class ScoresKind(TargetKind):
    """A file of scores, which stands in for a target but needs `load_scores`: it says who was a member too."""

    name = "scores"

    def names(self, source: str) -> bool:
        """Return whether it is a file that ends like one."""
        return Path(source).suffix.lower() in _SCORE_FILES and Path(source).exists()

    def open(self, source: str, **options: Any) -> Target:
        """Raise TargetError, and say what would do."""
        raise TargetError(f"{source}: a file of scores; say --scores {source} (redteam.targets.saved.load_scores)")


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
    label_map: Mapping[str, str] | None = None,
) -> tuple[SavedScores, Split, tuple[str, ...]]:
    """Read a file of scores; return the stand-in target, who was a member, and lines on what was decided.

    .csv, .tsv, .parquet, .jsonl or .npz. A membership column (member, is_member, membership, split) and one
    of: `score`, higher meaning "was trained on"; `loss`, lower meaning it; a probability of every label
    (`prob:NAME`, `p:NAME`, `prob_NAME`, `p_NAME`; in .npz `probabilities` and `labels`) with the own `label`.
    Optional: text, id, user, group. Arguments name columns called otherwise, `label_map` labels. Raises DataError.
    """
    path = Path(path)
    file = open_table(path)
    choice = _choose(file, columns, score, loss)
    found = file.read([*choice.names.values(), *choice.numbers])
    names: dict[str, str | None] = dict(choice.names)
    passed_over = tuple(pass_over(path, found, vars(columns), names))
    text = names.get("text")
    if text is not None and columns.text is None and found[text].blank:
        names["text"] = None
        passed_over += (f"{path.name}: column {text!r} is empty: not used",)
    choice = replace(choice, names={what: name for what, name in names.items() if name is not None})
    everything = _examples(choice, found)
    if label_map is not None and everything.labels is not None:
        words = by_map(set(everything.labels), label_map, found[choice.names["label"]].classes)
        everything = replace(everything, labels=tuple(words.get(label, label) for label in everything.labels))
    target = _target(path, choice, found, everything)
    kept, skipped = with_text(everything.texts, len(everything), path)
    if choice.probabilities:
        _check_labels(path, choice, found[choice.names["label"]], everything, kept)
    users, doubts = guessed_users(everything.users, choice.names.get("user"), named=columns.user is not None)
    examples = replace(everything, users=users).take(kept)
    inside, outside, apart = by_side(examples, checked_sides(found[choice.names["split"]], kept))
    try:
        split = Split.of(inside, outside, apart if len(apart) else None)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    used = ", ".join(f"{what} = {name!r}" for what, name in choice.names.items() if what != "split")
    said = f"{path.name}: columns: membership = {choice.names['split']!r}, {used}"
    notes = (*file.notes, *doubts, *passed_over, said, *skipped)
    if examples.texts is None:
        notes += (f"{path.name}: no texts: that members and non-members come from one source is on trust",)
    return target, split, notes


def _choose(file: Table, columns: Columns, score: str | None, loss: str | None) -> _Choice:
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


def _probability_columns(file: Table) -> dict[str, str]:
    """Return label -> column; one with an underscore may be something else (`p_value`), so it takes two."""
    found: dict[str, dict[str, str]] = {":": {}, "_": {}}
    for name in file.names:
        match = _PROBABILITY.fullmatch(name)
        if match is not None and found[match[1]].setdefault(match[2], name) != name:
            raise DataError(f"{file.path}: columns {found[match[1]][match[2]]!r} and {name!r} are of one label")
    return found[":"] or (found["_"] if len(found["_"]) > 1 else {})


def _examples(choice: _Choice, found: dict[str, Column]) -> Examples:
    def names(what: str) -> tuple[str, ...] | None:
        name = choice.names.get(what)
        return None if name is None else found[name].names(what)

    text = choice.names.get("text")
    return Examples(
        rows=np.arange(len(found[choice.names["split"]])),
        texts=None if text is None else found[text].texts(),
        labels=names("label"),
        ids=names("id"),
        users=names("user"),
        groups=names("group"),
    )


def _target(path: Path, choice: _Choice, found: dict[str, Column], examples: Examples) -> SavedScores:
    digest, texts = fingerprint(path), examples.texts
    if not choice.probabilities:
        values = found[choice.names[choice.measure]].numbers()
        losses = -values if choice.measure == "score" else values
        return SavedScores(path.name, digest=digest, losses=losses, texts=texts)
    labels = tuple(choice.probabilities)
    matrix = np.empty((len(examples), len(labels)))
    for i, name in enumerate(choice.probabilities.values()):
        matrix[:, i] = found.pop(name).numbers()  # popped: one copy of each column is enough
    remarks: tuple[str, ...] = ()
    if in_percent(matrix):
        matrix /= 100.0
        remarks += ("answers are percentages: divided by 100",)
    fault = probability_fault(matrix)
    if fault is not None:
        raise DataError(f"{path}: row {fault[0] + 1}: {fault[1]}")
    matrix, off = normalised(matrix)
    if off:
        remarks += (
            f"{off:,} of {plural(len(matrix), 'row')} do not sum to 1, as rounded ones do: divided by their sums",
        )
    values = log_probabilities(matrix)
    if hard(values):
        remarks += (HARD,)
    return SavedScores(path.name, digest=digest, log_probabilities=values, labels=labels, texts=texts, remarks=remarks)


def _check_labels(path: Path, choice: _Choice, column: Column, examples: Examples, kept: IntArray) -> None:
    """Raise DataError for a label that is empty or has no probabilities, in the rows that are kept."""
    labels, mask = examples.labels or (), np.isin(examples.rows, kept)
    require(column, labels, mask)
    known = {name for label in choice.probabilities for name in (label, label.removeprefix("LABEL_"), name_of(label))}
    unknown = next((row for row in kept.tolist() if labels[row] not in known), None)
    if unknown is not None:
        own, columns = shown(labels[unknown : unknown + 1]), shown(list(choice.probabilities))
        raise DataError(f"{path}: row {unknown + 1}: label {own} has no probability column among {columns}")
