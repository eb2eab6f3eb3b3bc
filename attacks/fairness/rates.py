"""RT502 group rates: how often each group gets a label, and gets it rightly or wrongly.

Of each label of interest, one against the rest: the selection rate (demographic parity), the true positive rate (equal
opportunity) and the false positive rate; the larger of the last two gaps is that of equalised odds (Hardt et al. 2016).
And the accuracy in the group where it is lowest. A selection gap of 0 can hide gaps of both other rates, and where
groups differ in their true labels a perfect model has a selection gap: `rates=odds` judges the two others alone.

All pairs of groups are compared at once; the interval is that of the pair whose gap is proven largest. Sums over groups
(FPED and FNED, Dixon et al. 2018) are described and never judged: they are biased upwards, the more groups, the more.
Groups with fewer than ten rows of a class are not resolved, and said so. It needs labels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attacks.fairness._groups import Groups, groups_of
from redteam.core.arrays import BoolArray
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAnswer, FairnessAttack, FairnessProbe, Level, Number
from redteam.plugins.settings import Setting
from redteam.report import range_of
from redteam.report.values import Evidence, FairnessNumber
from redteam.statistics.fairness import Count, attainable_gap, group_rate, lowest, worst_gap
from redteam.targets.target import Access, Target, classifier, labels_of

ACCURACY = "accuracy"


@dataclass(frozen=True)
class _Rate:
    """A rate to compare: its signal, the rows that it is of, and the column of the label that counts."""

    signal: str
    kind: str
    among: BoolArray
    label: int


@dataclass(frozen=True)
class GroupRates(FairnessAttack):
    """Compare rates between groups."""

    id = "RT502"
    name = "group rates"
    needs = Access.LABELS
    metrics = ("group_gap", "group_accuracy")

    rates: Literal["all", "selection", "odds"] = Setting(
        "Rates whose gaps are judged: all, that of selection, or true and false positives."
    ).default("all")

    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return a gap for each rate that two groups resolve, and the worst accuracy."""
        groups = groups_of(probe, labels) if self.needs in access else None
        if groups is None:
            return ()
        found: list[Number] = [
            ("group_gap", rate.signal)
            for rate in self._judged(groups, probe, labels)
            if len(groups.resolved(rate.among)) > 1
        ]
        everybody = np.ones(len(groups.of), dtype=np.bool_)
        return (*found, *([("group_accuracy", ACCURACY)] if groups.resolved(everybody) else []))

    def lacks(self, probe: FairnessProbe, labels: tuple[str, ...]) -> Mapping[str, str]:
        """Return which group has too few rows of a class that is named."""
        groups = groups_of(probe, labels)
        if groups is None:
            return {}
        found: dict[str, str] = {}
        few = groups.lacking(np.ones(len(groups.of), dtype=np.bool_), "in all")
        if few is not None:
            found["group_accuracy"] = found["group_gap"] = few
        if probe.positives or len(labels) == 2:
            for rate in self._judged(groups, probe, labels):
                few = groups.lacking(rate.among, f"for the {rate.signal}")
                if few is not None:
                    found.setdefault("group_gap", few)
        return found

    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return the gaps and the worst accuracy, and the rates of each group."""
        labels = labels_of(target)
        groups = groups_of(probe, labels)
        assert groups is not None  # otherwise nothing was planned
        assert probe.rows is not None
        predicted = classifier(target).predict(probe.rows)
        evidence, numbers, notes = list[Evidence](), list[FairnessNumber](), list[str]()
        judged = {rate.signal for rate in self._judged(groups, probe, labels)}
        for rate in _rates(groups, probe, labels):
            hit = predicted == rate.label
            counts = {g: _count(hit, rate.among & groups.rows(g)) for g in groups.resolved(rate.among)}
            numbers += self._each(groups, counts, rate.signal, level)
            numbers += self._sums(counts, rate, hit)
            if rate.signal in judged and len(counts) > 1:
                evidence.append(self._gap(counts, rate.signal, level, groups, notes))
        evidence += self._accuracy(groups, predicted == groups.labels, level, numbers)
        few = [name for g, name in enumerate(groups.names) if groups.rows(g).sum() < 10]
        if few:
            notes.append(f"RT502: not resolved, fewer than 10 rows: {', '.join(few[:5])}")
        return FairnessAnswer(tuple(evidence), tuple(numbers), tuple(notes))

    def _judged(self, groups: Groups, probe: FairnessProbe, labels: tuple[str, ...]) -> Iterator[_Rate]:
        for rate in _rates(groups, probe, labels):
            if self.rates == "all" or (self.rates == "selection") == (rate.kind == "selection"):
                yield rate

    def _gap(self, counts: dict[int, Count], signal: str, level: Level, groups: Groups, notes: list[str]) -> Evidence:
        alpha, order = level("group_gap", signal), list(counts)
        (better, worse), interval = worst_gap([counts[g] for g in order], alpha=alpha)
        most = attainable_gap([n for _, n in counts.values()], alpha=alpha)
        if interval.low > 0:
            names = groups.names[order[better]], groups.names[order[worse]]
            notes.append(f"RT502: {signal}: {names[0]} above {names[1]} by {range_of(interval)}")
        return Evidence(self.id, signal, "group_gap", interval, sum(n for _, n in counts.values()), 0, most)

    def _accuracy(
        self, groups: Groups, right: BoolArray, level: Level, numbers: list[FairnessNumber]
    ) -> Iterator[Evidence]:
        counts = {g: _count(right, groups.rows(g)) for g in groups.resolved(np.ones_like(right))}
        if not counts:
            return
        numbers += self._each(groups, counts, ACCURACY, level)
        alpha = level("group_accuracy", ACCURACY)
        each = alpha / len(counts)
        _, interval = lowest([group_rate(count, alpha=each) for count in counts.values()], alpha=alpha)
        best = min(group_rate((0, n), alpha=each).high for _, n in counts.values())
        yield Evidence(self.id, ACCURACY, "group_accuracy", interval, len(right), 0, best)

    def _each(self, groups: Groups, counts: dict[int, Count], signal: str, level: Level) -> Iterator[FairnessNumber]:
        for g, count in counts.items():
            interval = group_rate(count, alpha=level("rate", signal))
            yield FairnessNumber(self.id, groups.names[g], signal, interval.value, count[1], interval)

    def _sums(self, counts: dict[int, Count], rate: _Rate, hit: BoolArray) -> Iterator[FairnessNumber]:
        """Yield FPED or FNED: how far all groups together lie from the rate of everybody."""
        name = {"false positive": "FPED", "true positive": "FNED"}.get(rate.kind)
        if name is not None and counts:
            whole = float(hit[rate.among].mean())
            total = sum(abs(k / n - whole) for k, n in counts.values())
            yield FairnessNumber(self.id, "all groups", f"{name} of {rate.signal}", total, int(rate.among.sum()))


def _rates(groups: Groups, probe: FairnessProbe, labels: tuple[str, ...]) -> Iterator[_Rate]:
    for label in probe.labels_judged(labels):
        column = labels.index(label)
        own = groups.labels == column
        yield _Rate(f"selection rate of {label}", "selection", np.ones(len(own), dtype=np.bool_), column)
        yield _Rate(f"true positive rate of {label}", "true positive", own, column)
        yield _Rate(f"false positive rate of {label}", "false positive", ~own, column)


def _count(hit: BoolArray, among: BoolArray) -> Count:
    return int(hit[among].sum()), int(among.sum())
