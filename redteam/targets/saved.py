"""Saved scores: what an attack or a model said about each row, in a file that also says who was a member."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from redteam.core import DataError, TargetError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Columns, Examples, Split, fingerprint
from redteam.data.column import Column
from redteam.data.labels import by_map
from redteam.data.reading import by_side, checked_sides, with_text
from redteam.data.table import open_table
from redteam.data.units import guessed_users
from redteam.report import plural
from redteam.targets.distributions import HARD, hard, in_percent, log_probabilities, normalised, probability_fault
from redteam.targets.kind import TargetKind
from redteam.targets.predictions import check_labels, check_predictions, read_predictions
from redteam.targets.score_columns import ScoreColumns, choose_columns, pass_over_guessed
from redteam.targets.target import Access, Target, label_indices, own_label_losses

_GUESSED_COLUMNS = Columns()
_SCORE_FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".gz", ".parquet", ".arrow", ".feather", ".npz")
_SCORE_ONLY = "one score a row was saved; there are no labels or probabilities"


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

    Given are `losses` [n] (then access is LOSSES), `log_probabilities` [n, k] (PROBABILITIES, or LABELS where all are 0
    or 1) or `predicted` [n], places among `labels` (LABELS); the last may stand beside losses (LABELS | LOSSES).
    `remarks` say what was made of them.
    """

    kind = "scores"

    def __init__(
        self,
        name: str,
        *,
        digest: str | None = None,
        losses: FloatArray | None = None,
        log_probabilities: FloatArray | None = None,
        predicted: IntArray | None = None,
        labels: tuple[str, ...] = (),
        texts: tuple[str, ...] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        """Hold the arrays, which are those of all rows of the file in its order."""
        self.name, self.digest, self.labels = name, digest, labels
        self.access = Access(0) if losses is None else Access.LOSSES
        if log_probabilities is not None:
            self.access = Access.LABELS if hard(log_probabilities) else Access.PROBABILITIES
        if predicted is not None:
            self.access |= Access.LABELS
        self.remarks = remarks
        self._losses, self._log_probabilities, self._texts = losses, log_probabilities, texts
        self._predicted = predicted

    def predict(self, examples: Examples) -> IntArray:
        """Return the index of each predicted label, shape [n]; TargetError where nothing but scores was saved."""
        if self._predicted is not None:
            return self._predicted[self._rows(examples, len(self._predicted))]
        predicted: IntArray = self.log_probabilities(examples).argmax(axis=1)
        return predicted

    def losses(self, examples: Examples) -> FloatArray:
        """Return the saved loss, or minus the saved score, of each row, shape [n]."""
        if self._losses is None and self._log_probabilities is None:
            raise TargetError(f"{self.name}: predicted labels were saved; there are no losses")
        if self._losses is None:
            own = label_indices(self.labels, examples, name=self.name)
            return own_label_losses(self.log_probabilities(examples), own)
        return self._losses[self._rows(examples, len(self._losses))]

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, len(labels)]; TargetError where scores were saved."""
        if self._log_probabilities is None:
            saved = "no probabilities were saved" if self._predicted is not None else _SCORE_ONLY
            raise TargetError(f"{self.name}: {saved}")
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


def load_scores(
    path: Path | str,
    *,
    columns: Columns = _GUESSED_COLUMNS,
    score: str | None = None,
    loss: str | None = None,
    predicted: str | None = None,
    label_map: Mapping[str, str] | None = None,
) -> tuple[SavedScores, Split, tuple[str, ...]]:
    """Read a file of scores; return the stand-in target, who was a member, and lines on what was decided.

    Any file of rows. A membership column (member, is_member, membership, split) and one of: `score`, higher meaning
    "was trained on"; `loss`, lower meaning it; a probability of every label (`prob:NAME`, `p:NAME`, `prob_NAME`,
    `p_NAME`; in .npz `probabilities` and `labels`) with the own `label`; the `predicted` label with the own one, which
    may also stand beside the others and must not contradict them. Optional: text, id, user, group. Arguments name
    columns called otherwise, `label_map` labels. Raises DataError.
    """
    path = Path(path)
    file = open_table(path)
    choice = choose_columns(file, columns, {"score": score, "loss": loss, "predicted": predicted})
    found = file.read([*choice.names.values(), *choice.numbers])
    choice, passed_over = pass_over_guessed(path, choice, found, columns, named=predicted is not None)
    everything = _examples(choice, found)
    if label_map is not None and everything.labels is not None:
        words = by_map(set(everything.labels), label_map, found[choice.names["label"]].classes)
        everything = replace(everything, labels=tuple(words.get(label, label) for label in everything.labels))
    kept, skipped = with_text(everything.texts, len(everything), path)
    target, everything = _target(path, choice, found, everything, kept)
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


def _examples(choice: ScoreColumns, found: dict[str, Column]) -> Examples:
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


def _target(
    path: Path, choice: ScoreColumns, found: dict[str, Column], examples: Examples, kept: IntArray
) -> tuple[SavedScores, Examples]:
    """Return what stands in for the target, and the examples with their labels in its words."""
    digest, texts, label = fingerprint(path), examples.texts, choice.names.get("label")
    predicted = found[choice.names["predicted"]] if "predicted" in choice.names else None
    if choice.probabilities:
        assert label is not None  # choose_columns saw to it
        assert examples.labels is not None
        matrix, remarks = _probabilities(path, choice, found)
        labels = tuple(choice.probabilities)
        check_labels(path, labels, found[label], examples.labels, kept)
        if predicted is not None:
            check_predictions(predicted, matrix, labels, kept)
        values = log_probabilities(matrix)
        remarks += (HARD,) if hard(values) else ()
        saved = SavedScores(
            path.name, digest=digest, log_probabilities=values, labels=labels, texts=texts, remarks=remarks
        )
        return saved, examples
    losses = None
    if choice.measure != "predicted":
        numbers = found[choice.names[choice.measure]].numbers()
        losses = -numbers if choice.measure == "score" else numbers
    if predicted is None or label is None or examples.labels is None:
        return SavedScores(path.name, digest=digest, losses=losses, texts=texts), examples
    said = read_predictions(predicted, found[label], examples.labels, kept)
    saved = SavedScores(
        path.name,
        digest=digest,
        losses=losses,
        predicted=said.indices,
        labels=said.labels,
        texts=texts,
        remarks=said.remarks,
    )
    return saved, replace(examples, labels=said.own)


def _probabilities(path: Path, choice: ScoreColumns, found: dict[str, Column]) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the probabilities [n, k] of all rows, summing to 1, and what was made of them."""
    columns = list(choice.probabilities.values())
    matrix = np.empty((len(found[columns[0]]), len(columns)))
    for i, name in enumerate(columns):
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
    return matrix, remarks
