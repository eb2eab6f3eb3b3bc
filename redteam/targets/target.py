"""What is attacked: anything that answers for a text, and how much of itself it shows.

A target is opened by `load_target` from a bundle, a Hugging Face directory, `module:function` or an http(s)
endpoint; saved scores stand in for one. Attacks see it only through the `Target` protocol.
"""

from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np

from redteam.core.arrays import FloatArray, IntArray
from redteam.core.errors import TargetError
from redteam.data import Examples
from redteam.data.vocabulary import name_of
from redteam.report.wording import shown

_ADVICE = "say with --label-map FILE which is which"


class Access(IntEnum):
    """How much the attacker sees; each level includes those below it.

    LABELS: the predicted label. LOSSES: one number a row, such as the loss. PROBABILITIES: of every label.
    WEIGHTS: the parameters. UPDATES: what a federated client sends.
    """

    LABELS = 1
    LOSSES = 2
    PROBABILITIES = 3
    WEIGHTS = 4
    UPDATES = 5

    @property
    def word(self) -> str:
        """The level's name as reports print it."""
        return self.name.lower()


@runtime_checkable
class Target(Protocol):
    """A text classifier under attack.

    `name` and `kind` are for the report, `digest` identifies all that answers depend on or is None, `labels` are in
    the order of the probabilities' columns. A method above `access` raises TargetError.
    """

    name: str
    kind: str
    access: Access
    labels: tuple[str, ...]
    digest: str | None

    def predict(self, examples: Examples) -> IntArray:
        """Return the index in `labels` of each predicted label, shape [n]."""
        ...

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each example's own label in nats, shape [n]."""
        ...

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, len(labels)], rows summing to one after exp."""
        ...


def label_indices(labels: tuple[str, ...], examples: Examples, *, name: str) -> IntArray:
    """Return the column of each example's label, shape [n]; raise TargetError for a label the target lacks.

    A Hugging Face model without label names (`LABEL_0`, `LABEL_1`) is met half way: a label "0" is `LABEL_0`.
    """
    index = label_index(labels)
    if examples.labels is None:
        raise TargetError(f"{name}: the examples carry no labels")
    unknown = sorted(set(examples.labels) - index.keys())
    if unknown:
        some = ", ".join(shown(label) for label in unknown[:3])
        known = ", ".join(repr(label) for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
        raise TargetError(f"{name}: {len(unknown)} labels unknown to the model ({some}); it knows {known}; {_ADVICE}")
    return np.array([index[label] for label in examples.labels], dtype=np.int64)


def label_index(labels: tuple[str, ...]) -> dict[str, int]:
    """Return the place of each label by every spelling that a data file may have of it."""
    index = {name_of(label): i for i, label in reversed(list(enumerate(labels)))}
    index |= {label.removeprefix("LABEL_"): i for i, label in enumerate(labels) if label.startswith("LABEL_")}
    return index | {label: i for i, label in enumerate(labels)}


def own_label_losses(log_probabilities: FloatArray, own: IntArray) -> FloatArray:
    """Return the negative log-probability of each row's own label, shape [n]."""
    return -log_probabilities[np.arange(len(own)), own]


def check_log_probabilities(values: FloatArray, rows: int, classes: int, *, name: str) -> FloatArray:
    """Return `values` if it is a [rows, classes] array of log-probabilities; raise TargetError if it is not.

    Minus infinity (a probability of exactly zero) is allowed, NaN and rows that do not sum to one are not.
    """
    if values.shape != (rows, classes):
        raise TargetError(f"{name}: answered shape {values.shape} for {rows} texts and {classes} labels")
    if np.isnan(values).any():
        raise TargetError(f"{name}: {int(np.isnan(values).any(axis=1).sum())} of {rows} answers are NaN")
    total = np.exp(values).sum(axis=1)
    off = np.abs(total - 1) > 1e-3
    if off.any():
        raise TargetError(
            f"{name}: {int(off.sum())} of {rows} answers do not sum to 1 (one sums to {total[off][0]:.4g})"
        )
    return values
