"""A target of which only the answers are seen: what endpoints and functions have in common."""

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from redteam.core import TargetError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.report import plural
from redteam.targets.answers import Answers, Mismatch, Scored
from redteam.targets.distributions import widened
from redteam.targets.forms import shown
from redteam.targets.target import Access, label_indices, own_label_losses

PROBE = "What is the weather like today?"
_ENOUGH_TO_MATCH = 10
_QUOTED = re.compile(r"'([^']{8,})'|\"([^\"]{8,})\"")  # shorter ones tell of nobody


class Refused(TargetError):
    """A request that was understood and not answered: one of its texts may be why."""


class BlackBox(ABC):
    """Asks batch by batch and keeps the last answers: attacks ask for the same texts one after another.

    A batch that is refused, or not answered text by text, is asked for in halves, down to single texts: so the text
    that is refused is found, and how many texts are taken at a time. `attempt` leaves such texts unanswered, all
    else fails on the first.

    Where answers are labels only and nothing names them all, `labels` grows with each `predict`, by what is
    answered and by the examples' own labels (a label never answered is then a wrong answer, not an error).
    Call `predict` before looking up labels.
    """

    name: str
    kind: str
    access: Access
    labels: tuple[str, ...]
    digest: str | None

    def __init__(self, name: str, labels: Sequence[str] | None, batch_size: int) -> None:
        """Take the settings; the subclass calls `_probe` once it can ask."""
        self.name, self.digest, self.batch_size = name, None, batch_size
        self.scored = self.refusals = 0
        self._taken: int | None = None  # texts at a time, where that is fewer than were sent
        self._answers = Answers(name, labels)
        self._last: tuple[tuple[str, ...], Scored] | None = None
        self._matched = False
        if not (isinstance(batch_size, int) and batch_size >= 1):
            raise TargetError(f"{name}: batch_size must be 1 or more, not {batch_size!r}")

    @property
    def labels_in_order(self) -> bool:
        """Whether the labels were named beforehand: those of answers may come in any order."""
        return self._answers.given

    @abstractmethod
    def _ask(self, texts: list[str]) -> object:
        """Return the raw answer for one batch."""

    def _probe(self) -> None:
        """Ask for one harmless text to learn the access and the labels."""
        if not self._score((PROBE,), refusals=1).answered.all():
            raise TargetError(f"{self.name}: gave no answer to a first, harmless text")
        self.access = self._answers.access or Access.LABELS
        self._answers.tally.restart()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines on what was made of the answers so far."""
        taken = () if self._taken is None else (f"takes no more than {plural(self._taken, 'text')} at a time",)
        return taken + self._answers.tally.notes()

    def meet(self, labels: Sequence[str]) -> None:
        """Learn which labels the data has before its texts are asked for; `labels` may grow by these."""
        self._answers.meet(labels)
        self.labels = self._answers.labels

    def attempt(self, examples: Examples, *, refusals: int) -> FloatArray:
        """Return log-probabilities [n, k], or the predicted labels' indices [n, 1], NaN where a text was refused.

        Raises TargetError as soon as more than `refusals` texts were.
        """
        with self._unechoed(examples):
            return self._attempt(examples, refusals)

    def again(self, examples: Examples) -> FloatArray:
        """Return what `attempt` does, of texts that were asked before and do not count once more."""
        tally = replace(self._answers.tally)
        try:
            return self.attempt(examples, refusals=len(examples))
        finally:
            self._answers.tally = tally

    def _attempt(self, examples: Examples, refusals: int) -> FloatArray:
        scored = self._look_up(examples, refusals=refusals)
        if scored.log_probabilities is not None:
            return scored.log_probabilities.copy()
        if not self._answers.closed and examples.labels is not None and scored.answered.any():
            self._match(examples.labels, scored.predicted[scored.answered])
        return np.where(scored.answered, scored.predicted.astype(np.float64), np.nan)[:, None]

    def predict(self, examples: Examples) -> IntArray:
        """Return the index in `labels` of each predicted label, shape [n]."""
        with self._unechoed(examples):
            predicted = self._look_up(examples).predicted
            if not self._answers.closed and examples.labels is not None and len(examples):
                self._match(examples.labels, predicted)
        return predicted.copy()

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each example's own label in nats, shape [n], finite."""
        self._require_probabilities()
        if self._answers.partial:
            self.meet(examples.labels or ())
        own = label_indices(self.labels, examples, name=self.name)  # first: a wrong label must cost no request
        return own_label_losses(self.log_probabilities(examples), own)

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, len(labels)]; zeros are answers.FLOOR."""
        self._require_probabilities()
        with self._unechoed(examples):
            values = self._look_up(examples).log_probabilities
        if values is None:
            raise TargetError(f"{self.name}: no probabilities were answered")
        return values.copy()

    @contextlib.contextmanager
    def _unechoed(self, examples: Examples) -> Iterator[None]:
        """Keep texts that an answer repeats, as a wrong path to it does, out of what is said of the answer."""
        try:
            yield
        except TargetError as error:
            own = set(examples.labels or ())
            found = {one or other for one, other in _QUOTED.findall(str(error))} - own
            asked = [f"{text} {text!r}".casefold() for text in examples.texts or () if found]
            if any(words.casefold() in text for words in found for text in asked):
                said = "answers with the texts it was asked where labels or probabilities were wanted"
                raise TargetError(f"{self.name}: {said}; see --response-path and --api") from None
            raise

    def _require_probabilities(self) -> None:
        if Access.PROBABILITIES not in self.access:
            raise TargetError(f"{self.name}: shows {self.access.word} only; there are no losses or probabilities")

    def _look_up(self, examples: Examples, *, refusals: int = 0) -> Scored:
        texts = examples.texts
        if texts is None:
            raise TargetError(f"{self.name}: the examples carry no texts to ask for")
        self.meet((examples.labels or ()) if self._answers.partial else ())
        if self._last is None or self._last[0] != texts:
            self._last = (texts, self._score(texts, refusals=refusals))
        scored = self._last[1]
        if (gone := int((~scored.answered).sum())) > refusals:
            raise TargetError(f"{self.name}: refused {gone} of {plural(len(texts), 'text')}")
        if examples.labels is not None and self._answers.tally.rows >= _ENOUGH_TO_MATCH:
            self._answers.check_met(examples.labels)
        return scored

    def _score(self, texts: tuple[str, ...], *, refusals: int = 0) -> Scored:
        """Ask for every text once, in order; `scored` counts how many have been answered or refused."""
        self.scored = self.refusals = 0
        parts: list[Scored] = []
        start = 0
        while start < len(texts):
            batch = texts[start : start + self.batch_size]  # which may shrink on the way
            self._collect(batch, parts, refusals)
            start += len(batch)
        self.labels = self._answers.labels
        predicted = np.concatenate([np.empty(0, np.int64), *(part.predicted for part in parts)])
        there = np.concatenate([np.empty(0, np.bool_), *(part.answered for part in parts)])
        if self._answers.access is not Access.PROBABILITIES:
            return Scored(predicted, None, there)
        columns = len(self.labels)
        values = [widened(part.log_probabilities, columns) for part in parts if part.log_probabilities is not None]
        return Scored(predicted, np.concatenate([np.empty((0, columns)), *values]), there)

    def _collect(self, texts: tuple[str, ...], parts: list[Scored], refusals: int) -> bool:
        """Add the answers to a batch, in one request or, where that is refused, in several; tell whether one did."""
        try:
            part = self._answers.read(self._ask(list(texts)), len(texts))
        except (Refused, Mismatch) as error:
            if len(texts) > 1:
                self._collect_halves(texts, parts, refusals)
                return False
            if isinstance(error, Mismatch) or self._answers.access is None:
                raise
            columns = len(self._answers.labels) if self._answers.access is Access.PROBABILITIES else None
            part = Scored.refused(1, columns)
            self._count(1, refusals, str(error))
        else:
            self._count(int((~part.answered).sum()), refusals, f"{self.name}: a text was not answered")
        self.scored += len(texts)
        parts.append(part)
        return bool(part.answered.all())

    def _collect_halves(self, texts: tuple[str, ...], parts: list[Scored], refusals: int) -> None:
        """Ask for the halves of a batch that was refused; where both are answered, it was the size that was refused."""
        half = -(-len(texts) // 2)
        answered = []
        for start in range(0, len(texts), half):
            rest = texts[start : start + half]
            size = min(self.batch_size, len(rest))  # what was found out meanwhile holds for the rest of the batch
            answered += [self._collect(rest[i : i + size], parts, refusals) for i in range(0, len(rest), size)]
        if all(answered) and half < self.batch_size:
            self.batch_size = self._taken = half

    def _count(self, refused: int, refusals: int, why: str) -> None:
        self.refusals += refused
        if self.refusals > refusals:
            allowed = f"; more than the {refusals} texts that may be" if refusals else ""
            raise TargetError(f"{why} ({plural(self.refusals, 'text')} refused{allowed})")

    def _match(self, own: tuple[str, ...], predicted: IntArray) -> None:
        """Refuse label names that never meet: every answer would count as wrong and no leak would show."""
        answered = {self.labels[i] for i in np.unique(predicted)}
        plain = {label.removeprefix("LABEL_") for label in answered}
        self._matched = self._matched or not plain.isdisjoint(own)
        if not self._matched and len(own) >= _ENOUGH_TO_MATCH:
            answers, labels = shown(sorted(answered)), shown(sorted(set(own)))
            raise TargetError(f"{self.name}: answers {answers}, the data has {labels}: no label is in both")
        known = {label.removeprefix("LABEL_") for label in self.labels}
        self._answers.admit(sorted(set(own) - known))
        self.labels = self._answers.labels
