"""What the tests of the gap experiment train with: fast stand-ins for private trainers, and reports made by hand."""

from dataclasses import dataclass, replace

from defenses.plain import Plain
from redteam.data.label_canaries import ACCESSES
from redteam.experiments.gap.grid import GapCell
from redteam.experiments.gap.report import GapReport, GapResult, gap_rows
from redteam.plugins.defense import Defense
from redteam.report.values import Budget, Evidence, Guarantee
from redteam.statistics import Interval


def budget(epsilon, delta=1e-5):
    return Budget(epsilon, delta, "example", "add or remove one", "a double's word")


@dataclass(frozen=True)
class Boaster(Defense):
    """Trains plainly and says that it accounts for what it was asked for."""

    id = "RD901"
    name = "boaster"

    epsilon: float | None = 8.0
    noise_multiplier: float | None = None
    delta: float = 1e-5
    epochs: int = 30
    batch_size: int = 32

    def fit(self, start, examples, **options):
        trained = Plain(self.epochs, self.batch_size).fit(start, examples, **options)
        if self.epsilon is None:
            return trained
        return replace(trained, guarantee=Guarantee(budget(self.epsilon), budget(self.epsilon)))


@dataclass(frozen=True)
class Clumsy(Boaster):
    """Cannot be trained at an epsilon of 1."""

    id = "RD902"
    name = "clumsy"

    def fit(self, start, examples, **options):
        if self.epsilon == 1.0:
            raise ValueError("fell over")
        return super().fit(start, examples, **options)


def evidence(metric, value, low, high, *, signal="loss", attainable=5.1, fpr=None):
    delta = 1e-5 if metric == "epsilon" else None
    return Evidence("RT101", signal, metric, Interval(value, low, high, 0.05), 700, 700, attainable, fpr, delta)


def cell(trainer, epsilon, seed=0, *, accounted=None, nominal=None, low=0.0, auc=0.6, accuracy=0.9, seconds=10.0):
    """A cell as a real one would be; without `accounted` it has neither a guarantee nor a bound on epsilon."""
    guarantee = (
        None if accounted is None else Guarantee(budget(accounted if nominal is None else nominal), budget(accounted))
    )
    found = [evidence("auc", auc, auc - 0.05, auc + 0.05), evidence("tpr", 0.05, 0.01, 0.1, fpr=0.01)]
    if accounted is not None:
        found.append(evidence("epsilon", low, low, low + 1))
    right = Interval(accuracy, accuracy - 0.02, accuracy + 0.02, 0.05)
    rest = {"members": 700, "nonmembers": 700, "accuracy_members": 0.95, "passes": 5, "alpha": 0.05, "failures": ()}
    rest["commonest"] = 0.4
    settled = {"seconds": seconds, "accuracy": right, "guarantee": guarantee, "evidence": tuple(found)}
    return GapResult(GapCell(trainer, epsilon, seed), "RD900", **rest, **settled)


def with_planted(trainer, epsilon, lows, **how):
    """A cell with a bound by label canaries for each adversary."""
    one = cell(trainer, epsilon, **how)
    found = [
        evidence("epsilon", low, low, 20.0, signal=of, attainable=20.0) for of, low in zip(ACCESSES, lows, strict=True)
    ]
    planted = (replace(each, attack="label-canaries", metric="canary_epsilon") for each in found)
    return replace(one, evidence=(*one.evidence, *planted))


def report_of(cells, **parts):
    """A report of cells, in the order given."""
    rest = {"settings": {"alpha": 0.05}, "rows": gap_rows(cells), "cells": tuple(cells), "failures": (), "broken": ()}
    return GapReport(**rest | {"created": "2026-01-01", "tool_version": "0"} | parts)


def numbers(result):
    """What must be the same in every run: all but the time."""
    return replace(result, seconds=None)
