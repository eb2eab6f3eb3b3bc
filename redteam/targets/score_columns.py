"""Which columns of a file of scores hold what: membership, one measure of each row, and what is known of it besides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from redteam.core import DataError
from redteam.data import Columns
from redteam.data.column import Column
from redteam.data.table import Table, pass_over
from redteam.targets.forms import shown

_GUESSES = {
    "split": ("member", "is_member", "membership", "split"),
    "text": ("text", "utterance", "sentence"),
    "label": ("label",),
    "predicted": ("predicted", "predicted_label", "prediction"),
    "id": ("id", "row_id"),
    "user": ("user", "user_id"),
    "group": ("group", "group_id"),
}
_SAY = "say --split-column NAME"
_PROBABILITY = re.compile(r"(?:prob|p)([:_])(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class ScoreColumns:
    """Which column holds what; `measure` is score, loss, predicted or probabilities, those by label."""

    names: dict[str, str]
    measure: str
    probabilities: dict[str, str]

    @property
    def numbers(self) -> list[str]:
        """The columns that the measure is read from."""
        return list(self.probabilities.values()) if self.probabilities else [self.names[self.measure]]

    def without(self, what: str) -> "ScoreColumns":
        """Return the choice with nothing chosen for `what`."""
        return replace(self, names={each: name for each, name in self.names.items() if each != what})


def choose_columns(file: Table, columns: Columns, measures: Mapping[str, str | None]) -> ScoreColumns:
    """Find the columns by their usual names or the given ones; raise DataError where that is not plain."""
    lowered = {name.lower(): name for name in reversed(file.names)}
    given = {**vars(columns), **measures}
    names: dict[str, str] = {}
    for what, guesses in (_GUESSES | {"score": ("score",), "loss": ("loss",)}).items():
        name = given[what] or next((lowered[guess] for guess in guesses if guess in lowered), None)
        if name is not None and name not in file.names:
            raise DataError(f"{file.path}: no column {name!r} for {what}; the file has {shown(file.names)}")
        if name is not None:
            names[what] = name
    if "split" not in names:
        raise DataError(f"{file.path}: no membership column (member, split) among {shown(file.names)}; {_SAY}")
    asked = [what for what in ("score", "loss") if given[what]]
    probabilities = {} if asked else _probability_columns(file)
    found = asked or [what for what in ("score", "loss") if what in names]
    found += ["probabilities"] if probabilities else []
    if len(found) > 1:
        raise DataError(f"{file.path}: both {found[0]} and {found[1]} columns; keep one of them")
    found += ["predicted"] if not found and "predicted" in names else []
    if not found:
        wanted = "score, loss, predicted or probability (prob:LABEL) columns"
        raise DataError(f"{file.path}: no {wanted} among {shown(file.names)}; rename the one that it is")
    if found[0] in ("probabilities", "predicted") and "label" not in names:
        what = "a predicted column needs" if found[0] == "predicted" else "probability columns need"
        raise DataError(f"{file.path}: {what} a label column with each row's own label")
    return ScoreColumns({k: v for k, v in names.items() if k in (*_GUESSES, found[0])}, found[0], probabilities)


def _probability_columns(file: Table) -> dict[str, str]:
    """Return label -> column; one with an underscore may be something else (`p_value`), so it takes two."""
    found: dict[str, dict[str, str]] = {":": {}, "_": {}}
    for name in file.names:
        match = _PROBABILITY.fullmatch(name)
        if match is not None and found[match[1]].setdefault(match[2], name) != name:
            raise DataError(f"{file.path}: columns {found[match[1]][match[2]]!r} and {name!r} are of one label")
    return found[":"] or (found["_"] if len(found["_"]) > 1 else {})


def pass_over_guessed(
    path: Path, choice: ScoreColumns, found: dict[str, Column], columns: Columns, *, named: bool
) -> tuple[ScoreColumns, tuple[str, ...]]:
    """Return the choice without guessed columns that cannot be what their name says, and a note on each."""
    names: dict[str, str | None] = dict(choice.names)
    notes = tuple(pass_over(path, found, vars(columns), names))
    choice = replace(choice, names={what: name for what, name in names.items() if name is not None})
    text, predicted = names.get("text"), names.get("predicted")
    if text is not None and columns.text is None and found[text].blank:
        choice = choice.without("text")
        notes += (f"{path.name}: column {text!r} is empty: not used",)
    if predicted is None or named or choice.measure == "predicted":
        return choice, notes
    if "label" not in choice.names or found[predicted].blank:
        why = "is empty" if found[predicted].blank else "has no label column beside it"
        choice = choice.without("predicted")
        notes += (f"{path.name}: column {predicted!r} {why}: not used",)
    return choice, notes
