"""AUC: how well members are told from non-members, over all thresholds.

It counts in both directions, since who knows that it is below 1/2 need only turn the attack round: far below 1/2 is a
leak where inclusion was randomised, and elsewhere a sign that the sides are swapped or of two sources.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

from redteam.report import LUCK, Limit, Outcome, Ruling, plural, range_of, some
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import POWER, Interval, attainable_auc, auc_examples_needed, normal_quantile, two_sided

_CDF = NormalDist().cdf
_NORMAL = tuple((i / 8, NormalDist().pdf(i / 8) / 8) for i in range(-64, 65))  # points and masses: exact to 1e-12


class Auc(Metric):
    """The chance that a member looks more like one than a non-member does; 1/2 is luck."""

    name, symbol, order = "auc", "AUC", 10
    low_share = 0.9  # the rest is for an attack turned round
    description = "members of the training data can be told from non-members"
    remedy = (
        "train for fewer epochs (early stopping) or regularise (weight decay, dropout, smaller model), "
        "remove duplicates from the training data, or train with differential privacy (DP-SGD); then audit again"
    )
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 NISTAML.033", "OWASP ML04:2023")
    given_by = "a membership attack (RT1xx)"
    measured_in = "probability"
    allowed = "at least 0.5 (chance) and below 1"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit lies between chance and certainty."""
        return 0.5 <= limit < 1

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float:
        """Return the lower bound that complete separation supports."""
        return attainable_auc(members, nonmembers, alpha=two_sided(self.low_share * alpha))

    def examples_needed(self, limit: Limit, *, alpha: float) -> tuple[int, int] | None:
        """Return how many members and non-members it takes, as many of each."""
        return auc_examples_needed(limit.limit, alpha=two_sided(self.low_share * alpha))

    def detectable(self, limit: Limit, members: int, nonmembers: int, *, alpha: float) -> float | None:
        """Return the smallest AUC that would be proven above `limit` with probability 0.8."""
        return detectable_auc(limit.limit, members, nonmembers, error=self.low_share * alpha)

    def outcome(self, evidence: Evidence, limit: Limit, report: AuditReport) -> Outcome:
        """Tell what it says about a limit, in both directions."""
        if self.admits(report.grade):
            if _below(evidence, report, limit):
                return "exceeded"
            if _reversed(evidence, report):
                return "reversed"
        found = super().outcome(evidence, limit, report)
        return "inconclusive" if found == "within" and not evidence.interval.low >= 1 - limit.limit else found

    def rule_on(self, limit: Limit, report: AuditReport) -> Ruling:
        """Hold a limit against all evidence, and against every label by itself, which an average hides."""
        return replace(super().rule_on(limit, report), aside=tuple(self._labels(limit.limit, report)))

    def leak(self, evidence: Evidence, limit: Limit, report: AuditReport) -> tuple[Evidence, str]:
        """Return the evidence as the attacker would use it, turned round where it is below 1/2."""
        if not _below(evidence, report, limit):
            return super().leak(evidence, limit, report)
        low, value, high = (1 - x for x in (evidence.interval.high, evidence.interval.value, evidence.interval.low))
        round_ = replace(evidence, interval=Interval(value, low, high, evidence.interval.alpha))
        shown = replace(round_, signal=f"{evidence.signal} the other way round")
        return round_, self.finding(shown, limit.limit)

    def at_least(self, evidence: Evidence) -> float:
        """Return what is proven by its distance from 1/2, on either side."""
        return max(evidence.interval.low, 1 - evidence.interval.high)

    def at_most(self, evidence: Evidence, report: AuditReport, *, beside: Evidence) -> float:
        """Return what is proven not to be passed on either side."""
        return max(evidence.interval.high, 1 - evidence.interval.low)

    def problems(self, report: AuditReport) -> Iterator[str]:
        """Yield that members look less like members than non-members do: under no policy can that be a pass."""
        found = [each for each in report.judged if each.metric == self.name and _reversed(each, report)]
        if found:
            lowest = min(found, key=lambda each: each.interval.high)
            yield (
                f"{some([each.id for each in found])}: non-members look more like members than members do "
                f"(AUC {range_of(lowest.interval)}): the two sides are swapped, the score's sign or the labels are "
                "wrong, or the sides are not of one source"
            )

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that an outsider tells the sides apart."""
        apart, rows = "members from non-members", ""
        if evidence.unit == "user":
            apart = "users whose rows were trained on from users whose rows were not"
            rows = " (mean over all rows of a user)"
        numbers = f"AUC {self.against(evidence.interval, limit, ', limit ')}"
        return f"an outsider who thresholds {evidence.signal}{rows} tells {apart}: {numbers}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how often an attacker picks the right one of a pair."""
        low, value = evidence.interval.low, evidence.interval.value
        sure = f"and at least {low * 100:.0f} times on the cautious reading" if low > 0.5 else LUCK
        two = "one person's example that was used in training and one that was not"
        if evidence.unit == "user":
            two = "rows of one user that were used in training and rows of one that were not"
        return f"shown {two}, the attacker picks the right one {value * 100:.0f} times in 100, {sure}; a coin gets 50"

    def _labels(self, limit: float, report: AuditReport) -> Iterator[str]:
        """Name the labels whose own AUC is proven above the limit for all."""
        if any(each.metric == self.name and each.interval.low > limit for each in report.judged):
            return  # nothing to say of the parts where the whole is judged
        found = [each for each in report.classes if each.auc is not None and each.auc.low > limit]
        if found:
            worst = max(found, key=lambda each: each.auc.low if each.auc else 0.0)
            shown = range_of(worst.auc) if worst.auc else ""
            yield (
                f"taken alone, {plural(len(found), 'label')} would be above max_auc {limit:g}, worst {worst.label!r} "
                f"with AUC {shown}: the limit is on all examples together, these people are exposed all the same"
            )


def _below(evidence: Evidence, report: AuditReport, limit: Limit) -> bool:
    """Tell whether, under random inclusion, an AUC is proven to be as far below 1/2 as its limit is above."""
    return report.grade == "A" and evidence.interval.high < 1 - limit.limit


def _reversed(evidence: Evidence, report: AuditReport) -> bool:
    """Tell whether non-members are proven to look more like members than members do, where nothing randomised them."""
    return report.grade != "A" and evidence.interval.high < 0.5


def detectable_auc(limit: float, members: int, nonmembers: int, *, error: float) -> float | None:
    """Return the smallest AUC of which a lower end of `error` is above `limit` with probability 0.8.

    None where not even complete separation would be. Approximate, for curves as of two normal distributions of one
    width.
    """
    if not attainable_auc(members, nonmembers, alpha=two_sided(error)) > limit:
        return None
    steps = normal_quantile(POWER) - normal_quantile(error)
    low, high = max(0.5, limit), 1.0
    for _ in range(40):
        middle = (low + high) / 2
        left = middle - middle / (min(members, nonmembers) + 1)  # where one more example had come out worst
        apart = math.asin(math.sqrt(left)) - math.asin(math.sqrt(limit))  # ends are skewed, less so on this scale
        spread = _standard_error(middle, members, nonmembers) / (2 * math.sqrt(middle * (1 - middle)))
        proven = apart > steps * spread
        low, high = (low, middle) if proven else (middle, high)
    return high


def _standard_error(auc: float, members: int, nonmembers: int) -> float:
    """Return the standard error of an AUC: its mean square over pairs, and over two pairs that share an example."""
    shift = math.sqrt(2) * normal_quantile(min(auc, 1 - 1e-12))
    both = math.fsum(mass * _CDF(x + shift) ** 2 for x, mass in _NORMAL)  # two members score above one non-member
    spread = auc * (1 - auc) + (members + nonmembers - 2) * (both - auc**2)
    return math.sqrt(max(spread, 0.0) / (members * nonmembers))
