"""The contract of kinds of target: what `access` says is given, in shape and in sense, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np

from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.kind import TargetKind
from redteam.targets.target import Access, Target, classifier, labels_of
from redteam.testing.examples import must, sentences


def check_target(
    kind: type[TargetKind] | TargetKind, source: str, examples: Examples | None = None, /, **options: Any
) -> None:
    """Hold a kind of target to its contract, by what `source` opens; raise AssertionError with the line it breaks.

    `examples` are texts with labels that the target knows, by default random sentences with its own labels.
    """
    it = kind() if isinstance(kind, type) else kind
    must(it.names(source), f"{it.name}: does not take {source} for one of its own")
    must(not it.names("no such thing"), f"{it.name}: takes any name for one of its own")
    target = it.open(source, **options)
    must(target.name and target.kind, f"{it.name}: a target has a name and a kind, for the report")
    must(target.access, f"{it.name}: a target that gives nothing cannot be attacked")
    rows = _examples(target) if examples is None else examples
    if Access.LABELS in target.access:
        _check_labels(target, rows)
    if Access.PROBABILITIES in target.access:
        _check_probabilities(target, rows)
    if Access.LOSSES in target.access:
        losses = _same_twice(lambda: target.losses(rows), target.name)
        must(losses.shape == (len(rows),), f"{target.name}: losses of shape {losses.shape} for {len(rows)} rows")
        must(np.isfinite(losses).all(), f"{target.name}: a loss is not finite")
    else:
        _check_refuses(lambda: target.losses(rows), target.name)


def _examples(target: Target) -> Examples:
    return sentences(12, seed=1, labels=labels_of(target) or ("a",))


def _same_twice(ask: Callable[[], Any], name: str) -> Any:
    first, again = np.asarray(ask()), np.asarray(ask())
    must(np.array_equal(first, again, equal_nan=True), f"{name}: answers otherwise when it is asked again")
    return first


def _check_labels(target: Target, rows: Examples) -> None:
    predicted = _same_twice(lambda: classifier(target).predict(rows), target.name)
    must(predicted.shape == (len(rows),), f"{target.name}: labels of shape {predicted.shape} for {len(rows)} rows")
    known = np.isin(predicted, np.arange(len(labels_of(target)))).all()
    must(known, f"{target.name}: predicts the index of a label that it does not name")


def _check_probabilities(target: Target, rows: Examples) -> None:
    values = _same_twice(lambda: classifier(target).log_probabilities(rows), target.name)
    shape = (len(rows), len(labels_of(target)))
    must(values.shape == shape, f"{target.name}: probabilities of shape {values.shape}, wanted {shape}")
    must(np.allclose(np.exp(values).sum(axis=1), 1, atol=1e-3), f"{target.name}: probabilities do not add up to one")
    best = classifier(target).predict(rows) == values.argmax(axis=1)
    must(best.all(), f"{target.name}: predicts another label than the most probable")


def _check_refuses(ask: Callable[[], Any], name: str) -> None:
    try:
        ask()
    except TargetError:
        return
    must(False, f"{name}: gives losses that its access does not hold")
