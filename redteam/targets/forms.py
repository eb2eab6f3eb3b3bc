"""The forms of a black box's answers, taken apart without knowing what was answered before.

Where something is not of any form, `error` makes the exception: it knows whose answer it was.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redteam.core import TargetError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.report import plural
from redteam.targets.target import Access

Error = Callable[[str], TargetError]
_WANTED = "give each text a probability for every label"
_TEXT_CLASSIFICATION = {"label", "score"}


@dataclass
class Tally:
    """How many answers were read, and of how many something had to be made that they are not as they stand.

    `percent` is None until the first answer tells; `varied` counts answers that name other labels than the first.
    """

    rows: int = 0
    rounded: int = 0
    partial: int = 0
    varied: int = 0
    positions: int = 0
    percent: bool | None = None

    def restart(self) -> None:
        """Count anew: the probe's text is nobody's."""
        self.rows = self.rounded = self.partial = self.positions = 0

    def notes(self) -> tuple[str, ...]:
        """Return a line on each thing that was done to the answers."""
        of = f"of {plural(self.rows, 'answer')} read"
        lines = []
        if self.percent and self.rows:
            lines.append("answers are percentages: divided by 100")
        if self.rounded:
            lines.append(f"{self.rounded:,} {of} do not sum to 1, as rounded ones do: divided by their sums")
        if self.partial:
            lines.append(
                f"{self.partial:,} {of} name only the surest labels: the others share what is left of 1 equally, none "
                "gets more than the smallest probability given, so attacks may do better on a target that shows all"
            )
        if self.positions:
            lines.append(f"{self.positions:,} {of} are whole numbers: taken as positions among the labels given")
        return tuple(lines)


def shown(labels: Iterable[str]) -> str:
    """Return at most three labels for an error message, cut short: a broken service may send anything."""
    some = list(labels)
    return ", ".join(repr(label[:30]) for label in some[:3]) + (", ..." if len(some) > 3 else "")


def as_document(answer: Any) -> object:
    """Give a bare answer the form of an endpoint's: names are predicted labels, the rest probabilities.

    Tensors are taken off their graph and device; the names of a data frame's columns are labels.
    """
    if isinstance(answer, Mapping):
        return answer
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        columns = list(answer.columns)
        named = bool(columns) and all(isinstance(name, str) for name in columns)
        return {"probabilities": answer.to_numpy()} | ({"classes": columns} if named else {})
    tensors = isinstance(answer, list | tuple) and len(answer) > 0 and hasattr(answer[0], "detach")
    answer = [_array(each) for each in answer] if tensors else _array(answer)
    first = _first(answer)
    if isinstance(answer, list) and isinstance(first, list) and first and isinstance(first[0], Mapping):
        return answer
    if isinstance(answer, list | tuple) and isinstance(first, Mapping):
        if first.keys() == {"label"}:
            return {
                "labels": [each["label"] if isinstance(each, Mapping) and "label" in each else each for each in answer]
            }
        return list(answer) if _is_top_label(first) else {"probabilities": answer}
    names = isinstance(answer, list | tuple) and isinstance(first, str | int | np.integer)
    names = names or (isinstance(answer, np.ndarray) and answer.ndim == 1 and answer.dtype.kind in "iuUO")
    return {"labels": answer} if names else {"probabilities": answer}


def _array(value: Any) -> Any:
    """Return a tensor of torch as an array, which numpy makes of none with a gradient or in bfloat16."""
    if not (hasattr(value, "detach") and hasattr(value, "is_floating_point")):
        return value
    plain = value.detach().cpu()
    return (plain.double() if plain.is_floating_point() else plain).numpy()


def _first(answer: Any) -> Any:
    """Return the first entry of a list that is an answer."""
    if not isinstance(answer, list | tuple):
        return None
    return next((value for value in answer if not _is_refusal(value)), None)


def unpack(document: object, error: Error) -> tuple[Access, Any]:
    """Return how much is shown and the rows that show it: something with a length."""
    access, values = Access.PROBABILITIES, document
    if isinstance(document, Mapping):
        key = next((key for key in ("probabilities", "labels") if key in document), None)
        if key is None:
            keys = shown(str(key) for key in document) or "none"
            raise error(f'answered an object without "probabilities" or "labels" (its keys: {keys})')
        access, values = Access.PROBABILITIES if key == "probabilities" else Access.LABELS, document[key]
    elif not (isinstance(document, list) and (_is_scores(_first(document)) or _is_top_label(_first(document)))):
        kind = type(document).__name__
        raise error(f'answered a bare {kind}; wanted {{"probabilities": ...}} or {{"labels": ...}}')
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise error(f"answered {type(values).__name__} where a list with one entry a text was wanted")
    if hasattr(values, "shape") and len(values.shape) == 0:
        raise error("answered a single number where a list with one entry a text was wanted")
    return access, values


def answered(values: Any) -> BoolArray:
    """Tell which entries are answers, [n]: null, or an object with an error in words, is none."""
    if isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.dtype.kind == "O"):
        return np.array([not _is_refusal(value) for value in values], dtype=np.bool_)
    return np.ones(len(values), dtype=np.bool_)


def names(values: Any, what: str, error: Error) -> tuple[str, ...]:
    """Return a list of at least two different names of labels."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise error(f"{what} must be a list of names, not {type(values).__name__}")
    found = tuple(name(value, error) for value in values)
    if len(found) < 2 or len(set(found)) < len(found):
        raise error(f"{what} must be at least two different names, not {shown(found) or 'none'}")
    return found


def name(value: object, error: Error) -> str:
    """Return the name of a label, which may be a whole number."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    raise error(f"answered {type(value).__name__} where the name of a label was wanted")


def positions(values: Sequence[Any], labels: int) -> bool:
    """Tell whether predicted labels are whole numbers that can be positions among so many labels."""
    whole = (isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values)
    return all(whole) and all(0 <= int(value) < labels for value in values)


def by_name(values: Any, error: Error) -> list[dict[str, Any]] | None:
    """Return rows that name their labels as objects label -> p; None where rows are of numbers."""
    if not isinstance(values, list | tuple) or not values:
        return None
    if _is_scores(values[0]) or _is_top_label(values[0]):
        return [_scores(row, i, error) for i, row in enumerate(values)]
    if not isinstance(values[0], Mapping):
        return None
    rows = []
    for i, row in enumerate(values):
        if not isinstance(row, Mapping) or not row:
            raise error(f"answer {i + 1} is not an object like the others")
        rows.append({name(key, error): value for key, value in row.items()})
    return rows


def matrix(values: Any, columns: int, error: Error) -> FloatArray:
    """Return rows of numbers as an array [n, columns]."""
    try:
        array = np.asarray(values)
    except Exception as problem:  # an array-like of any library may refuse in its own way
        raise error(f"its probabilities do not make an array ({type(problem).__name__})") from None
    if array.dtype.kind not in "fiu":
        raise error("its probabilities are not all numbers")
    if array.ndim != 2 or array.shape[1] != columns:
        raise error(f"answered shape {array.shape} for {len(array)} texts and {columns} labels; {_WANTED}")
    return _stated(array)


def table(rows: list[dict[str, Any]], labels: Sequence[str], other: str, error: Error) -> FloatArray:
    """Return objects label -> p as an array [n, k], NaN where a label is left out; labels without a column are `other`.

    Every row is filled in the order of `labels` at once where all name all of them.
    """
    known = set(labels)
    if all(row.keys() == known for row in rows):
        return matrix([[row[label] for label in labels] for row in rows], len(labels), error)
    column = {label: i for i, label in enumerate(labels)}
    filled = np.full((len(rows), len(labels)), np.nan)
    for i, row in enumerate(rows):
        stated = matrix([list(row.values())], len(row), error)[0]
        for label, p in zip(row, stated, strict=True):
            at = column.get(label, column.get(other, -1))
            filled[i, at] = p if np.isnan(filled[i, at]) else filled[i, at] + p
    return filled


def _stated(array: Any) -> FloatArray:
    """Return numbers as they were answered, NaN as infinity: NaN stands for what was not."""
    values: FloatArray = array.astype(np.float64)
    return np.where(np.isnan(values), np.inf, values)


def _scores(row: object, position: int, error: Error) -> dict[str, Any]:
    entries: Any = [row] if _is_top_label(row) else row
    if not _is_scores(entries):
        raise error(f"answer {position + 1} is not a list of labels with scores like the others")
    scores = {name(entry["label"], error): entry["score"] for entry in entries}
    if len(scores) < len(entries):
        raise error(f"answer {position + 1} names a label twice")
    return scores


def _is_refusal(value: object) -> bool:
    return value is None or (isinstance(value, Mapping) and isinstance(value.get("error"), str))


def _is_top_label(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == _TEXT_CLASSIFICATION and not isinstance(value["label"], float)


def _is_scores(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_top_label(item) for item in value)
