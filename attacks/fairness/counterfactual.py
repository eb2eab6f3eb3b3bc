"""RT501 counterfactual flips: does the answer change with nothing but the group that a text names?

Every listed word of a text is exchanged (counterfactual token fairness, Garg et al. 2019): `she` for `he`, a first name
for one of the other group, or what the user's list says. The flip rate is the share of texts whose predicted label
changes, the gap the mean total variation between the two answers, 1/2 sum over labels of the change of probability. Of
both, what the placebo swap RT903 does on the same texts is taken off: the judged number has a zero, and a brittle model
is not called unfair. It is below zero where a placebo sways the model more, and then says so.

Of the versions of the placebo the mean is taken off. The interval is the hull of one for each version: its low end is
against the placebo that sways most, its high end against the one that sways least, so that it holds for every weighing
of them, and words that training left swaying a little more than others are no finding. Those of flips are exact, from
the pairs in which only one of two swaps changes the answer (McNemar's test); those of the gap are Gaffke's of bounded
values, whose level is proven for values 0 and 1 and conjectured for others. Of 30 templates or more the templates are
the sample. Who loses is described by the signed gap, the change of a label's probability from the one group to the
other.

It needs predicted labels; gaps need probabilities. It costs five answers a text. The answers' gradients say less: see
RT504.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAnswer, FairnessAttack, FairnessProbe, Level, Number, Pairs
from redteam.report import plural, range_of
from redteam.report.values import Evidence, FairnessNumber
from redteam.statistics import Interval
from redteam.statistics.fairness import (
    attainable_mean,
    attainable_paired,
    bounded_mean,
    group_rate,
    hull,
    paired_difference,
)
from redteam.targets.target import Access, Target, classifier, labels_of

FLIPS, BY_PLACEBO = "flips", "flips under placebo"
UNDERSTATED = ", and a rare word sways a model more: what lies beyond it is understated"


@dataclass(frozen=True)
class CounterfactualFlips(FairnessAttack):
    """Exchange the groups that texts name, and see what changes."""

    id = "RT501"
    name = "counterfactual flips"
    needs = Access.LABELS
    metrics = ("flip_rate", "counterfactual_gap")

    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return a flip rate for each swap list and, of probabilities, a gap."""
        if self.needs not in access:
            return ()
        metrics = ("flip_rate", "counterfactual_gap") if Access.PROBABILITIES in access else ("flip_rate",)
        return tuple((metric, pairs.name) for pairs in probe.pairs for metric in metrics)

    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return flips and gaps of every swap list, and who loses by it."""
        parts = [self._of(target, pairs, probe, level) for pairs in probe.pairs]
        return FairnessAnswer(
            tuple(each for part in parts for each in part.evidence),
            tuple(each for part in parts for each in part.numbers),
            tuple(each for part in parts for each in part.notes),
        )

    def _of(self, target: Target, pairs: Pairs, probe: FairnessProbe, level: Level) -> FairnessAnswer:
        asked = [pairs.each(texts) for texts in (pairs.texts, pairs.swapped, *pairs.placebos)]
        if Access.PROBABILITIES in target.access:
            shares = [np.exp(classifier(target).log_probabilities(each)) for each in asked]
            labels = [share.argmax(axis=1) for share in shares]
        else:
            labels = [classifier(target).predict(each) for each in asked]
            shares = _as_shares(labels)
        flips, *placebos = (labels[0] != other for other in labels[1:])
        evidence = [self._flips(pairs, flips, placebos, level)]
        if Access.PROBABILITIES in target.access:
            moved, *by_placebo = (_variation(shares[0], other) for other in shares[1:])
            alpha = level("counterfactual_gap", pairs.name)
            evidence.append(self._beyond("counterfactual_gap", pairs, moved, by_placebo, alpha))
        numbers = (*self._rates(pairs, flips, placebos, level), *self._signed(target, pairs, probe, shares, level))
        return FairnessAnswer(tuple(evidence), numbers, tuple(_notes(pairs, evidence[0], numbers)))

    def _flips(self, pairs: Pairs, flips: BoolArray, placebos: list[BoolArray], level: Level) -> Evidence:
        alpha = level("flip_rate", pairs.name)
        if pairs.units is not None:
            return self._beyond("flip_rate", pairs, flips.astype(np.float64), placebos, alpha)
        found = [
            paired_difference(int((flips & ~each).sum()), int((each & ~flips).sum()), len(pairs), alpha=alpha)
            for each in placebos
        ]
        most = attainable_paired(len(pairs), alpha=alpha)
        return Evidence(self.id, pairs.name, "flip_rate", hull(found), len(pairs), 0, most)

    def _beyond(
        self, metric: str, pairs: Pairs, values: FloatArray, placebos: Sequence[FloatArray | BoolArray], alpha: float
    ) -> Evidence:
        """Return by how much the mean of values lies above that of each placebo."""
        found = [bounded_mean(_by_unit(values - each, pairs), least=-1, most=1, alpha=alpha) for each in placebos]
        most = attainable_mean(pairs.samples, least=-1, most=1, alpha=alpha)
        return Evidence(self.id, pairs.name, metric, hull(found), pairs.samples, 0, most)

    def _rates(
        self, pairs: Pairs, flips: BoolArray, placebos: list[BoolArray], level: Level
    ) -> tuple[FairnessNumber, ...]:
        found = []
        for measure, changed in ((FLIPS, [flips]), (BY_PLACEBO, placebos)):
            alpha = level(measure, pairs.name)
            if pairs.units is None:
                each = [group_rate((int(one.sum()), len(pairs)), alpha=alpha) for one in changed]
            else:
                means = [_by_unit(one.astype(np.float64), pairs) for one in changed]
                each = [bounded_mean(one, least=0, most=1, alpha=alpha) for one in means]
            interval = hull(each)
            found.append(FairnessNumber(self.id, pairs.name, measure, interval.value, pairs.samples, interval))
        return tuple(found)

    def _signed(
        self, target: Target, pairs: Pairs, probe: FairnessProbe, shares: list[FloatArray], level: Level
    ) -> tuple[FairnessNumber, ...]:
        """Return for each label of interest how much more of it the first group gets, the largest first."""
        named = np.array(pairs.named)
        rows, names = np.flatnonzero(named), labels_of(target)
        if not len(rows):
            return ()
        found = []
        for label in probe.labels_judged(names):
            column = names.index(label)
            more = named[rows] * (shares[0][rows, column] - shares[1][rows, column])
            units = None if pairs.units is None else pairs.units[rows]
            interval = bounded_mean(_means(more, units), least=-1, most=1, alpha=level("signed", pairs.name))
            what = f"{label!r}, {pairs.sides[0]} minus {pairs.sides[1]}"
            found.append(FairnessNumber(self.id, pairs.name, what, interval.value, len(rows), interval))
        return tuple(sorted(found, key=lambda each: -abs(each.value)))[:10]


def _as_shares(labels: list[IntArray]) -> list[FloatArray]:
    """Return predicted labels as if they were probabilities of 1, [n, k] each."""
    width = max(int(each.max()) for each in labels) + 1
    return [np.eye(width)[each] for each in labels]


def _variation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the total variation between two answers a row, [n]; they come from one target, so columns agree."""
    found: FloatArray = np.abs(one - other).sum(axis=1) / 2
    return np.minimum(found, 1.0)


def _by_unit(values: FloatArray, pairs: Pairs) -> FloatArray:
    return _means(values, pairs.units)


def _means(values: FloatArray, units: IntArray | None) -> FloatArray:
    """Return the mean of each unit, or the values themselves where each row is one."""
    if units is None:
        return values
    _, own = np.unique(units, return_inverse=True)
    found: FloatArray = np.clip(np.bincount(own, weights=values) / np.bincount(own), -1.0, 1.0)
    return found


def _notes(pairs: Pairs, flips: Evidence, numbers: tuple[FairnessNumber, ...]) -> Iterator[str]:
    out = ", ".join(f"{count:,} {reason}" for reason, count in pairs.left_out)
    what = f"{plural(flips.members, 'template')}" if pairs.of == "templates" else f"{pairs.of}"
    yield (
        f"RT501: {pairs.name}: {plural(len(pairs), 'pair')} of {what}, each with "
        f"{plural(len(pairs.placebos), 'placebo')} (RT903){f'; left out: {out}' if out else ''}"
    )
    own, other = pairs.commonness
    yield (
        f"RT501: {pairs.name}: words that are swapped stand in {own:.1%} of texts, those of a placebo in {other:.1%} "
        f"(medians){UNDERSTATED if other < own / 4 else ''}"
    )
    signed = [each for each in numbers if " minus " in each.measure]
    if signed and signed[0].interval is not None and not signed[0].interval.low <= 0 <= signed[0].interval.high:
        shown: Interval = signed[0].interval
        yield f"RT501: {pairs.name}: who loses: probability of {signed[0].measure}: {range_of(shown)}"
    raw, placebo = (next(each for each in numbers if each.measure == name) for name in (FLIPS, BY_PLACEBO))
    if raw.value > 0 and placebo.value > raw.value / 2:
        yield (
            f"RT501: {pairs.name}: placebo swaps alone change {placebo.value:.1%} of answers, the swap of groups "
            f"{raw.value:.1%}: this model is brittle, and its unfairness may hide in that"
        )
