"""What a black box answers for a batch of texts, read strictly: endpoints and functions share it.

Accepted, for n texts and k labels:

    {"probabilities": [{"label": p, ...}, ...]}                 n objects, each with all labels or the surest of them
    {"probabilities": [[p, ...], ...], "classes": [...]}        n rows; classes may be given beforehand
    {"labels": ["label", ...], "classes": [...]}                n predicted labels; classes are optional
    [[{"label": ..., "score": p}, ...], ...]                    Hugging Face text classification
    [{"label": ..., "score": p}, ...]                           the same, of the surest label alone

Other keys are ignored. Where both are there, "probabilities" count and "labels" are ignored. Null, or an object with
an "error", stands for a text that was refused. What is not quite a distribution is brought into the form of one, and
counted: see `redteam.targets.distributions`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redteam.core import TargetError
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.targets import distributions, forms
from redteam.targets.forms import shown
from redteam.targets.target import Access

_LARGEST = 2**63  # no probability, and larger ones fit no float
OTHER = "(another label)"  # the column of labels that only answers name, once no column can be added


class Mismatch(TargetError):
    """A batch that was not answered text by text; one text at a time may be."""


@dataclass(frozen=True)
class Scored:
    """Answers for n texts: indices of the predicted labels [n], log-probabilities [n, k] where shown.

    Where `answered` [n] is False the text was refused: the index is -1 and the row NaN.
    """

    predicted: IntArray
    log_probabilities: FloatArray | None
    answered: BoolArray

    @classmethod
    def refused(cls, rows: int, columns: int | None) -> "Scored":
        """Return the answers for texts of which none was answered."""
        values = None if columns is None else np.full((rows, columns), np.nan)
        return cls(np.full(rows, -1, np.int64), values, np.zeros(rows, np.bool_))


class Answers:
    """Reads a black box's answers and holds it to what it answered before.

    `labels` are given, named by the first answer, or - where answers name only some of them - those seen so far: then
    labels are only ever appended, so that indices stay what they are. `closed` is False where predicted labels are all
    there is and nothing lists them. `met` are the labels that the data has (see `meet`).
    """

    def __init__(self, name: str, labels: Sequence[str] | None = None) -> None:
        """Read for the target `name`; `labels`, where given, are those in any order of the answers."""
        self.name = name
        self.labels: tuple[str, ...] = ()
        self.access: Access | None = None
        self.closed = self.given = labels is not None
        self.partial = False
        self.tally = forms.Tally()
        self._named: set[str] = set()
        self._first: set[str] = set()
        self._met: tuple[str, ...] = ()
        self._fixed = False
        if labels is not None:
            self.labels = forms.names(labels, "labels", self._error)

    def read(self, document: object, rows: int) -> Scored:
        """Return what `document` says about `rows` texts; raise TargetError if its form is not accepted."""
        access, values = forms.unpack(document, self._error)
        if len(values) == rows and not (there := forms.answered(values)).any():
            return Scored.refused(rows, len(self.labels) if self.access is Access.PROBABILITIES else None)
        if self.access not in (None, access):
            raise self._error(f"answered {access.word} now and something else before; it must always show the same")
        named = document.get("classes") if isinstance(document, Mapping) else None
        classes = None if named is None else forms.names(named, "classes", self._error)
        if classes is not None:
            self._settle(classes)
        if len(values) != rows:
            raise Mismatch(f"{self.name}: answered {len(values)} rows for {rows} texts; send one for each text")
        values = values if there.all() else [value for value, here in zip(values, there, strict=True) if here]
        if access is Access.LABELS:
            scored = Scored(self._predicted(values), None, there)
        else:
            probabilities = self._probabilities(values, classes)
            if there.all():
                self._check_top(document.get("top") if isinstance(document, Mapping) else None, probabilities)
            logs = distributions.log_probabilities(probabilities)
            scored = Scored(probabilities.argmax(axis=1), logs, there)
        self.access = access
        self.tally.rows += int(there.sum())
        return scored if there.all() else _spread(scored)

    def admit(self, labels: Iterable[str]) -> None:
        """Append labels that no answer has named yet; does nothing where the labels are closed."""
        if not self.closed:
            self._append(labels)

    def meet(self, own: Iterable[str]) -> None:
        """Learn which labels the data has, before its texts are asked for, so that each has a column.

        Where answers name their labels and the data has others, only some are taken to be named; `check_met` finds out.
        """
        if self._fixed or self.given or not self._named:
            return
        self._fixed = True
        known = {*self.labels, *(label.removeprefix("LABEL_") for label in self.labels)}
        self._met = tuple(sorted(set(own) - known))
        if self._met or self.partial:
            self._open(self._met)

    def check_met(self, own: Iterable[str]) -> None:
        """Raise TargetError where the data's labels are not the answers': other names would hide every leak."""
        if not self.partial or self.given:
            return
        plain = {*self._named, *(label.removeprefix("LABEL_") for label in self._named)}
        if plain.isdisjoint(own):
            answers, labels = shown(sorted(self._named)), shown(sorted(set(own)))
            raise self._error(f"answers {answers}, the data has {labels}: no label is in both")
        if not self.tally.varied:
            lost = [label for label in self._met if label not in plain]
            what = f"{len(lost)} labels unknown to the model ({shown(lost)})" if lost else "answers do not sum to 1"
            raise self._error(f"{what}; it always names the same: {shown(sorted(self._named))}")

    def _open(self, labels: Iterable[str]) -> None:
        """Go on with labels that are only some, those named and a column for all others."""
        self.partial = True
        self._append([*labels, OTHER])

    def _append(self, labels: Iterable[str]) -> None:
        known = set(self.labels)
        self.labels += tuple(label for label in dict.fromkeys(labels) if label not in known)

    def _error(self, what: str) -> TargetError:
        return TargetError(f"{self.name}: {what}")

    def _settle(self, labels: tuple[str, ...]) -> None:
        """Take the labels, or check that they are the ones known, in any order."""
        if not self.closed and self.access is None:
            self.labels, self.closed = labels, True
        elif not self.closed or set(labels) != set(self.labels):
            before = "given" if self.given else "of the answers before"
            changed = shown(sorted(set(labels) ^ set(self.labels)))
            raise self._error(f"its labels are not the {len(self.labels)} {before} (they differ in {changed})")

    def _predicted(self, values: Any) -> IntArray:
        names = [forms.name(value, self._error) for value in values]
        if self.given and set(names).isdisjoint(self.labels) and forms.positions(values, len(self.labels)):
            self.tally.positions += len(names)
            return np.array([int(value) for value in values], dtype=np.int64)
        unknown = sorted(set(names) - set(self.labels))
        if unknown and self.closed:
            raise self._error(f"answered labels outside the {len(self.labels)} known ones: {shown(unknown)}")
        self.admit(names)
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index[name] for name in names], dtype=np.int64)

    def _probabilities(self, values: Any, classes: tuple[str, ...] | None) -> FloatArray:
        rows = forms.by_name(values, self._error)
        if rows is not None:
            given = self._given_by(rows)
        elif classes is None and not self.given:
            raise self._error('answered rows of probabilities without "classes"; name them, or give the labels')
        else:
            order = classes or self.labels
            given = forms.matrix(values, len(order), self._error)[:, [order.index(label) for label in self.labels]]
        return self._distribution(given)

    def _distribution(self, given: FloatArray) -> FloatArray:
        """Return [n, k] that sum to 1, from [n, k] as answered: NaN where a label was left out."""
        if self.tally.percent is None:
            self.tally.percent = distributions.in_percent(given)
        values = given / 100.0 if self.tally.percent else given
        partial = np.isnan(values).any(axis=1)
        for rows, fault in (
            (~partial, distributions.probability_fault(values[~partial])),
            (partial, distributions.partial_fault(values[partial])),
        ):
            if fault is not None:
                where = int(np.flatnonzero(rows)[fault[0]])
                raise self._error(f"answer {where + 1} of {len(values)}: {fault[1]}")
        self.tally.partial += int(partial.sum())
        values[partial] = distributions.completed(values[partial])
        values[~partial], off = distributions.normalised(values[~partial])
        self.tally.rounded += off
        return values

    def _given_by(self, rows: list[dict[str, Any]]) -> FloatArray:
        """Return objects label -> p in the order of the labels [n, k], NaN where one was left out."""
        fresh = not self.closed and self.access is None
        if fresh:
            self.labels, self.closed = tuple(rows[0]), True
        named: set[str] = set().union(*rows)
        strange = sorted(named - set(self.labels))
        if strange and self.given:
            changed = shown(sorted(named ^ set(self.labels)))
            raise self._error(f"its labels are not the {len(self.labels)} given (they differ in {changed})")
        if strange or (fresh and _falls_short(rows)):
            self._open(() if self._fixed else strange)
        self._first = self._first or set(rows[0])
        self.tally.varied += sum(row.keys() != self._first for row in rows)
        self._named |= named
        return forms.table(rows, self.labels, OTHER, self._error)

    def _check_top(self, top: Any, probabilities: FloatArray) -> None:
        """Hold the labels given for the columns against what a service says each row is surest of."""
        if top is None or len(top) != len(probabilities):
            return
        for row, said in zip(probabilities, top, strict=True):
            if said in self.labels and row[self.labels.index(said)] < row.max():
                meant = self.labels[int(row.argmax())]
                raise self._error(f"says {said[:30]!r} where the labels given say {meant!r}; give them in its order")


def _falls_short(rows: list[dict[str, Any]]) -> bool:
    """Tell whether the first answer names a single label, or some that make less than a whole."""
    numbers = [p for p in rows[0].values() if isinstance(p, int | float) and not isinstance(p, bool)]
    if len(numbers) < len(rows[0]) or any(abs(p) > _LARGEST for p in numbers):  # refused where all are read
        return False
    stated = np.array([numbers], dtype=np.float64)
    stated = stated / 100.0 if distributions.in_percent(np.append(stated, [[np.nan]], axis=1)) else stated
    whole, part = distributions.probability_fault(stated), distributions.partial_fault(stated)
    return len(numbers) < 2 or (whole is not None and part is None)


def _spread(scored: Scored) -> Scored:
    """Put the answers that there are into the places of their texts."""
    there = scored.answered
    predicted = np.full(len(there), -1, np.int64)
    predicted[there] = scored.predicted
    if scored.log_probabilities is None:
        return Scored(predicted, None, there)
    values = np.full((len(there), scored.log_probabilities.shape[1]), np.nan)
    values[there] = scored.log_probabilities
    return Scored(predicted, values, there)
