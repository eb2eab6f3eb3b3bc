"""A target of which only the answers are seen: what endpoints and functions have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from redteam.data import Examples
from redteam.errors import TargetError
from redteam.target import Access, FloatArray, IntArray, label_indices, own_label_losses
from redteam.targets.answers import Answers, Scored, shown

PROBE = "What is the weather like today?"
_ENOUGH_TO_MATCH = 10


class BlackBox(ABC):
    """Asks batch by batch and keeps the last answers: attacks ask for the same texts one after another.

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
        self.scored = 0
        self._answers = Answers(name, labels)
        self._last: tuple[tuple[str, ...], Scored] | None = None
        self._matched = False
        if not (isinstance(batch_size, int) and batch_size >= 1):
            raise TargetError(f"{name}: batch_size must be 1 or more, not {batch_size!r}")

    @abstractmethod
    def _ask(self, texts: list[str]) -> object:
        """Return the raw answer for one batch."""

    def _probe(self) -> None:
        """Ask for one harmless text to learn the access and the labels."""
        self._score((PROBE,))
        self.access = self._answers.access or Access.LABELS

    def predict(self, examples: Examples) -> IntArray:
        """Return the index in `labels` of each predicted label, shape [n]."""
        predicted = self._look_up(examples).predicted
        if not self._answers.closed and examples.labels is not None and len(examples):
            self._match(examples.labels, predicted)
        return predicted.copy()

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each example's own label in nats, shape [n], finite."""
        self._require_probabilities()
        own = label_indices(self.labels, examples, name=self.name)  # first: a wrong label must cost no request
        return own_label_losses(self.log_probabilities(examples), own)

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, len(labels)]; zeros are answers.FLOOR."""
        self._require_probabilities()
        values = self._look_up(examples).log_probabilities
        if values is None:
            raise TargetError(f"{self.name}: no probabilities were answered")
        return values.copy()

    def _require_probabilities(self) -> None:
        if self.access < Access.PROBABILITIES:
            raise TargetError(f"{self.name}: shows {self.access.word} only; there are no losses or probabilities")

    def _look_up(self, examples: Examples) -> Scored:
        texts = examples.texts
        if texts is None:
            raise TargetError(f"{self.name}: the examples carry no texts to ask for")
        if self._last is None or self._last[0] != texts:
            self._last = (texts, self._score(texts))
        return self._last[1]

    def _score(self, texts: tuple[str, ...]) -> Scored:
        """Ask for every text once, in order; `scored` counts how many have been answered."""
        batches: list[Scored] = []
        self.scored = 0
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            batches.append(self._answers.read(self._ask(list(batch)), len(batch)))
            self.scored += len(batch)
        self.labels = self._answers.labels
        predicted = np.concatenate([np.empty(0, np.int64), *(batch.predicted for batch in batches)])
        if self._answers.access is not Access.PROBABILITIES:
            return Scored(predicted, None)
        values = [batch.log_probabilities for batch in batches if batch.log_probabilities is not None]
        return Scored(predicted, np.concatenate([np.empty((0, len(self.labels))), *values]))

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
