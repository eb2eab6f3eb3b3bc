"""RT503 subgroup AUC: is a label told from the others as well where a group is concerned? (Borkan et al. 2019)

Of each label of interest and each group: the AUC within the group; that of everybody else's positives against the
group's negatives (BPSN), low where the group itself is taken for the label; and that of the group's positives against
everybody else's negatives (BNSP), low where it is taken for its absence. Unlike rates they depend on no threshold.

The lowest of all groups is held against a limit, with intervals of all groups at once. A group with fewer than ten rows
of either class is not resolved. It needs probabilities.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from attacks.fairness._groups import FEWEST, Groups, groups_of
from redteam.core.arrays import BoolArray, FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAnswer, FairnessAttack, FairnessProbe, Level, Number
from redteam.report.values import Evidence, FairnessNumber
from redteam.statistics import attainable_auc
from redteam.statistics.area import area_interval
from redteam.statistics.fairness import lowest
from redteam.statistics.ranking import rank
from redteam.targets.target import Access, Target, classifier, labels_of

_KINDS = ("subgroup", "BPSN", "BNSP")
_POWER = -5.0  # of the mean over groups that leans towards the lowest
Sides = tuple[BoolArray, BoolArray]  # which rows are positives, and which negatives, of a comparison


@dataclass(frozen=True)
class SubgroupAucs(FairnessAttack):
    """Compare AUCs within and across groups."""

    id = "RT503"
    name = "subgroup AUC"
    needs = Access.PROBABILITIES
    metrics = ("subgroup_auc",)

    def planned(self, probe: FairnessProbe, labels: tuple[str, ...], access: Access) -> tuple[Number, ...]:
        """Return one number for each kind and label that some group resolves."""
        groups = groups_of(probe, labels) if self.needs in access else None
        if groups is None or len(groups.names) < 2:
            return ()
        return tuple(
            ("subgroup_auc", _signal(kind, label))
            for label in probe.labels_judged(labels)
            for kind in _KINDS
            if any(True for _ in _resolved(groups, labels.index(label), kind))
        )

    def lacks(self, probe: FairnessProbe, labels: tuple[str, ...]) -> Mapping[str, str]:
        """Return which group has too few rows of a class that is named."""
        groups = groups_of(probe, labels)
        if groups is None or not (probe.positives or len(labels) == 2):
            return {}
        for label in probe.labels_judged(labels):
            own = groups.labels == labels.index(label)
            for among, what in ((own, f"of {label!r}"), (~own, f"of other labels than {label!r}")):
                if (few := groups.lacking(among, what)) is not None:
                    return {"subgroup_auc": few}
        return {}

    def measure(self, target: Target, probe: FairnessProbe, level: Level, context: AttackContext) -> FairnessAnswer:
        """Return the lowest AUC of each kind and label, and the AUC of every group."""
        labels = labels_of(target)
        groups = groups_of(probe, labels)
        assert groups is not None  # otherwise nothing was planned
        assert probe.rows is not None
        scores = classifier(target).log_probabilities(probe.rows)
        evidence, numbers = list[Evidence](), list[FairnessNumber]()
        for label in probe.labels_judged(labels):
            column = labels.index(label)
            for kind in _KINDS:
                sides = dict(_resolved(groups, column, kind))
                if sides:
                    evidence.append(
                        self._lowest(scores[:, column], sides, _signal(kind, label), groups, level, numbers)
                    )
        return FairnessAnswer(tuple(evidence), tuple(numbers))

    def _lowest(
        self,
        scores: FloatArray,
        sides: dict[int, Sides],
        signal: str,
        groups: Groups,
        level: Level,
        numbers: list[FairnessNumber],
    ) -> Evidence:
        alpha = level("subgroup_auc", signal)
        each, values = alpha / len(sides), np.maximum(scores, -1e9)  # a probability of 0 ranks last
        found = []
        for g, (positive, negative) in sides.items():
            either = positive | negative
            ranking = rank(values[either], positive[either], may_tie=True)
            found.append(area_interval(ranking, alpha=each))
            alone = area_interval(ranking, alpha=level("auc", signal))
            numbers.append(FairnessNumber(self.id, groups.names[g], signal, alone.value, int(either.sum()), alone))
        mean = float(np.mean(np.maximum([one.value for one in found], 1e-9) ** _POWER) ** (1 / _POWER))
        numbers.append(FairnessNumber(self.id, "all groups", f"power mean of {signal}", mean, len(values)))
        _, interval = lowest(found, alpha=alpha)
        worst = min(1 - attainable_auc(int(p.sum()), int(n.sum()), alpha=each) for p, n in sides.values())
        return Evidence(self.id, signal, "subgroup_auc", interval, len(values), 0, worst)


def _signal(kind: str, label: str) -> str:
    return f"{kind} of {label}"


def _resolved(groups: Groups, column: int, kind: str) -> Iterator[tuple[int, Sides]]:
    """Yield each group with its positives and negatives, where there are enough of both."""
    own = groups.labels == column
    for g in range(len(groups.names)):
        inside = groups.rows(g)
        positive = own & (~inside if kind == "BPSN" else inside)
        negative = ~own & (~inside if kind == "BNSP" else inside)
        if min(positive.sum(), negative.sum()) >= FEWEST:
            yield g, (positive, negative)
