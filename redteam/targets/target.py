"""What is attacked: anything that answers for a text, and how much of itself it shows.

A target is opened by `load_target` from a bundle, a Hugging Face directory, `module:function` or an http(s)
endpoint; saved scores stand in for one. Attacks see it only through three small protocols: a `Target` gives the loss of
a row, a `Classifier` labels and probabilities too, a `WhiteBox` its weights. Its `access` says which of them it is.
"""

from enum import Flag
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from redteam.core import TargetError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.data.cells import shown
from redteam.data.vocabulary import name_of

SURE = 40.0  # log-odds: a float64 cannot tell a probability of more from 1
_ADVICE = "say with --label-map FILE which is which"


class Access(Flag):
    """What an adversary has: a set, so that an attack applies where `attack.needs in target.access`.

    LABELS: the predicted label. LOSSES: one number a row, such as the loss. PROBABILITIES: of every label, from which
    labels and losses follow. WEIGHTS: the parameters, from which all answers follow. BASE_MODEL: the public encoder
    that training started from. UPDATES: what a federated client sends. RECIPE: how the target was trained, so that
    models like it can be.

    >>> Access.LOSSES in Access.PROBABILITIES
    True
    >>> Access.WEIGHTS | Access.BASE_MODEL in Access.WEIGHTS
    False
    """

    LABELS = 1
    LOSSES = 2
    PROBABILITIES = LABELS | LOSSES | 4
    WEIGHTS = PROBABILITIES | 8
    BASE_MODEL = 16
    UPDATES = 32
    RECIPE = 64

    @property
    def word(self) -> str:
        """The set as reports print it, what follows from the rest left out: "weights", "losses and base model"."""
        own = [each for each in Access.__members__.values() if each in self]
        most = [each for each in own if not any(each in other for other in own if other != each)]
        return " and ".join(str(each.name).lower().replace("_", " ") for each in most)

    def lacking(self, needs: "Access") -> str | None:
        """Return what whoever `needs` more would miss, in words; None where this is enough."""
        return None if needs in self else f"needs {needs.word}, the target gives {self.word}"


@runtime_checkable
class Target(Protocol):
    """Anything under attack: it gives the loss of a row, be it a text, its tokens or its labels.

    `name` and `kind` are for the report, `digest` identifies all that answers depend on or is None. What `access` does
    not hold raises TargetError.
    """

    name: str
    kind: str
    access: Access
    digest: str | None

    def losses(self, examples: Examples) -> FloatArray:
        """Return the negative log-likelihood of each example's own label in nats, shape [n]."""
        ...


@runtime_checkable
class Classifier(Target, Protocol):
    """A target that gives each text one label; `labels` are in the order of the probabilities' columns."""

    labels: tuple[str, ...]

    def predict(self, examples: Examples) -> IntArray:
        """Return the index in `labels` of each predicted label, shape [n]."""
        ...

    def log_probabilities(self, examples: Examples) -> FloatArray:
        """Return natural-log probabilities, shape [n, len(labels)], rows summing to one after exp."""
        ...


@runtime_checkable
class WhiteBox(Classifier, Protocol):
    """A classifier whose weights are at hand: a `torch` model on `device`, and the tokenizer in front of it.

    Attacks leave both as they were.
    """

    model: Any
    tokenizer: Any
    device: str


def classifier(target: Target) -> Classifier:
    """Return the target as a classifier; raise TargetError for one that gives no labels."""
    if Access.LABELS not in target.access:
        raise TargetError(f"{target.name}: gives {target.access.word} and no labels: it is no classifier")
    return cast(Classifier, target)


def labels_of(target: Target) -> tuple[str, ...]:
    """Return a classifier's labels; none of a target that is no classifier."""
    labels: tuple[str, ...] = getattr(target, "labels", ())
    return labels


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


def own_label_log_odds(log_probabilities: FloatArray, own: IntArray, *, cut: float = SURE) -> FloatArray:
    """Return log p - log(1 - p) of each row's own label, shape [n], from all labels' log-probabilities.

    1 - p is summed from the other labels: subtracting would lose what tells members apart. What lies beyond `cut`
    either way, as where a probability is 1, becomes that.
    """
    rows = np.arange(len(own))
    others = log_probabilities.copy()
    others[rows, own] = -np.inf
    most = others.max(axis=1)
    there = np.isfinite(most)
    rest = np.full(len(own), -np.inf)
    rest[there] = most[there] + np.log(np.exp(others[there] - most[there, None]).sum(axis=1))
    odds: FloatArray = np.clip(log_probabilities[rows, own] - rest, -cut, cut)
    return odds


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
