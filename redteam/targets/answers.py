"""What a black box answers for a batch of texts, read strictly: endpoints and functions share it.

Accepted, for n texts and k labels:

    {"probabilities": [{"label": p, ...}, ...]}                 n objects, each with the same k labels
    {"probabilities": [[p, ...], ...], "classes": [...]}        n rows; classes may be given beforehand
    {"labels": ["label", ...], "classes": [...]}                n predicted labels; classes are optional
    [[{"label": ..., "score": p}, ...], ...]                    Hugging Face text classification, all k labels

Other keys are ignored. Where both are there, "probabilities" count and "labels" are ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redteam.errors import TargetError
from redteam.target import Access, FloatArray, IntArray

# A probability of exactly zero has no logarithm. The smallest normal double is below everything else that a
# black box can answer, so a zero stays below every other answer and no two different answers become equal.
FLOOR = float(np.finfo(np.float64).tiny)
_TOLERANCE = 1e-3
_TEXT_CLASSIFICATION = {"label", "score"}


@dataclass(frozen=True)
class Scored:
    """Answers for n texts: indices of the predicted labels [n], log-probabilities [n, k] where shown."""

    predicted: IntArray
    log_probabilities: FloatArray | None


def log_probabilities(probabilities: FloatArray) -> FloatArray:
    """Return natural logarithms, zeros raised to FLOOR (-708.4) and rounding above one cut, same shape."""
    values = np.clip(probabilities, FLOOR, 1.0)
    return np.log(values, out=values)


def probability_fault(probabilities: FloatArray) -> tuple[int, str] | None:
    """Return the first row of [n, k] that is not a distribution and what is wrong with it, or None."""
    with np.errstate(all="ignore"):
        total = probabilities.sum(axis=1)
        wrong = (probabilities < 0).any(axis=1) | ~(np.abs(total - 1) <= _TOLERANCE)
    if not wrong.any():
        return None
    row = int(wrong.argmax())
    if not np.isfinite(probabilities[row]).all():
        return row, "a probability is NaN or infinite"
    if (least := probabilities[row].min()) < 0:
        return row, f"a probability is negative ({least:.4g}); give probabilities, not logits"
    return row, f"the probabilities sum to {total[row]:.4g}, not 1; give those of all labels, not rounded"


def shown(labels: Iterable[str]) -> str:
    """Return at most three labels for an error message, cut short: a broken service may send anything."""
    some = list(labels)
    return ", ".join(repr(label[:30]) for label in some[:3]) + (", ..." if len(some) > 3 else "")


def as_document(answer: Any) -> object:
    """Give a bare answer the form of an endpoint's: names are predicted labels, the rest probabilities."""
    if isinstance(answer, Mapping) or (
        isinstance(answer, list) and _holds(answer, list) and _holds(answer[0], Mapping)
    ):
        return answer
    if isinstance(answer, list | tuple) and _holds(answer, Mapping):
        top_label = isinstance(answer[0].get("label"), str) and "score" in answer[0]
        return answer if top_label else {"probabilities": answer}
    names = isinstance(answer, list | tuple) and _holds(answer, str | int | np.integer)
    names = names or (isinstance(answer, np.ndarray) and answer.ndim == 1 and answer.dtype.kind in "iuUO")
    return {"labels": answer} if names else {"probabilities": answer}


def _holds(values: Any, kind: Any) -> bool:
    return isinstance(values, list | tuple) and bool(values) and isinstance(values[0], kind)


class Answers:
    """Reads a black box's answers and holds it to what it answered before.

    `labels` are given, named by the first answer, or - where predicted labels are all there is - those seen
    so far: then `closed` is False, and labels are only ever appended, so that indices stay what they are.
    """

    def __init__(self, name: str, labels: Sequence[str] | None = None) -> None:
        """Read for the target `name`; `labels`, where given, are those in any order of the answers."""
        self.name = name
        self.labels: tuple[str, ...] = ()
        self.access: Access | None = None
        self.closed = self._given = labels is not None
        if labels is not None:
            self.labels = self._names(labels, "labels")

    def read(self, document: object, rows: int) -> Scored:
        """Return what `document` says about `rows` texts; raise TargetError if its form is not accepted."""
        access, values = self._unpack(document)
        if self.access not in (None, access):
            raise self._error(f"answered {access.word} now and something else before; it must always show the same")
        named = document.get("classes") if isinstance(document, Mapping) else None
        classes = None if named is None else self._names(named, "classes")
        if classes is not None:
            self._settle(classes)
        if len(values) != rows:
            raise self._error(f"answered {len(values)} rows for {rows} texts; send one for each text")
        if access is Access.LABELS:
            scored = Scored(self._predicted(values), None)
        else:
            probabilities = self._probabilities(values, classes)
            self._check_top(document.get("top") if isinstance(document, Mapping) else None, probabilities)
            scored = Scored(probabilities.argmax(axis=1), log_probabilities(probabilities))
        self.access = access
        return scored

    def admit(self, labels: Iterable[str]) -> None:
        """Append labels that no answer has named yet; does nothing where the labels are closed."""
        if not self.closed:
            known = set(self.labels)
            self.labels += tuple(label for label in dict.fromkeys(labels) if label not in known)

    def _error(self, what: str) -> TargetError:
        return TargetError(f"{self.name}: {what}")

    def _unpack(self, document: object) -> tuple[Access, Any]:
        """Return how much is shown and the rows that show it: something with a length."""
        access, values = Access.PROBABILITIES, document
        if isinstance(document, Mapping):
            key = next((key for key in ("probabilities", "labels") if key in document), None)
            if key is None:
                keys = shown(str(key) for key in document) or "none"
                raise self._error(f'answered an object without "probabilities" or "labels" (its keys: {keys})')
            access, values = Access.PROBABILITIES if key == "probabilities" else Access.LABELS, document[key]
        elif not (isinstance(document, list) and document and _is_text_classification(document[0])):
            if isinstance(document, list) and document and _is_top_label(document[0]):
                raise self._error("answered only the top label's score; send those of all labels (top_k=None)")
            kind = type(document).__name__
            raise self._error(f'answered a bare {kind}; wanted {{"probabilities": ...}} or {{"labels": ...}}')
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
            raise self._error(f"answered {type(values).__name__} where a list with one entry a text was wanted")
        if hasattr(values, "shape") and len(values.shape) == 0:
            raise self._error("answered a single number where a list with one entry a text was wanted")
        return access, values

    def _names(self, values: Any, what: str) -> tuple[str, ...]:
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
            raise self._error(f"{what} must be a list of names, not {type(values).__name__}")
        names = tuple(self._name(value) for value in values)
        if len(names) < 2 or len(set(names)) < len(names):
            raise self._error(f"{what} must be at least two different names, not {shown(names) or 'none'}")
        return names

    def _name(self, value: object) -> str:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            return str(value)
        raise self._error(f"answered {type(value).__name__} where the name of a label was wanted")

    def _settle(self, labels: tuple[str, ...]) -> None:
        """Take the labels, or check that they are the ones known, in any order."""
        if not self.closed and self.access is None:
            self.labels, self.closed = labels, True
        elif not self.closed or set(labels) != set(self.labels):
            before = "given" if self._given else "of the answers before"
            changed = shown(sorted(set(labels) ^ set(self.labels)))
            raise self._error(f"its labels are not the {len(self.labels)} {before} (they differ in {changed})")

    def _predicted(self, values: Any) -> IntArray:
        names = [self._name(value) for value in values]
        unknown = sorted(set(names) - set(self.labels))
        if unknown and self.closed:
            raise self._error(f"answered labels outside the {len(self.labels)} known ones: {shown(unknown)}")
        self.admit(names)
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index[name] for name in names], dtype=np.int64)

    def _probabilities(self, values: Any, classes: tuple[str, ...] | None) -> FloatArray:
        first = values[0] if isinstance(values, list | tuple) else None
        if _is_text_classification(first):
            values = [self._scores_by_name(row, i) for i, row in enumerate(values)]
            first = values[0]
        if isinstance(first, Mapping):
            array = self._matrix(self._by_name(values), len(self.labels))
        else:
            if classes is None and not self._given:
                raise self._error('answered rows of probabilities without "classes"; name them, or give the labels')
            order = classes or self.labels
            array = self._matrix(values, len(order))[:, [order.index(label) for label in self.labels]]
        fault = probability_fault(array)
        if fault is not None:
            raise self._error(f"answer {fault[0] + 1} of {len(array)}: {fault[1]}")
        return array

    def _check_top(self, top: Any, probabilities: FloatArray) -> None:
        """Hold the labels given for the columns against what a service says each row is surest of."""
        if top is None or len(top) != len(probabilities):
            return
        for row, said in zip(probabilities, top, strict=True):
            if said in self.labels and row[self.labels.index(said)] < row.max():
                meant = self.labels[int(row.argmax())]
                raise self._error(f"says {said[:30]!r} where the labels given say {meant!r}; give them in its order")

    def _scores_by_name(self, row: object, position: int) -> dict[str, Any]:
        if not _is_text_classification(row):
            raise self._error(f"answer {position + 1} is not a list of labels with scores like the others")
        entries: list[Mapping[str, Any]] = row  # type: ignore[assignment]
        scores = {self._name(entry["label"]): entry["score"] for entry in entries}
        if len(scores) < len(entries):
            raise self._error(f"answer {position + 1} names a label twice")
        return scores

    def _by_name(self, rows: Sequence[object]) -> list[list[Any]]:
        """Bring objects label -> p into the order of the labels, which the first of them may have to say."""
        table: list[list[Any]] = []
        for position, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise self._error(f"answer {position + 1} is not an object like the others")
            scores = {self._name(key): value for key, value in row.items()}
            if position == 0:
                self._settle(self._names(list(scores), "the labels of an answer"))
            elif scores.keys() != set(self.labels):
                differ = shown(sorted(scores.keys() ^ set(self.labels)))
                raise self._error(f"answer {position + 1} of {len(rows)} has other labels than the first ({differ})")
            table.append([scores[label] for label in self.labels])
        return table

    def _matrix(self, values: Any, columns: int) -> FloatArray:
        try:
            array = np.asarray(values)
        except Exception as error:  # an array-like of any library may refuse in its own way
            raise self._error(f"its probabilities do not make an array ({type(error).__name__})") from None
        if array.dtype.kind not in "fiu":
            raise self._error("its probabilities are not all numbers")
        if array.ndim != 2 or array.shape[1] != columns:
            raise self._error(f"answered shape {array.shape} for {len(array)} texts and {columns} labels")
        return array.astype(np.float64)


def _is_top_label(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == _TEXT_CLASSIFICATION


def _is_text_classification(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_top_label(item) for item in value)
