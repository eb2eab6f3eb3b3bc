"""Epsilon: what one example, or all rows of one user, can change, measured from below under random inclusion.

No attack bounds it from above, only a guarantee does; and two epsilons compare only where the measured one's delta is
no smaller than the other's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from redteam.report import (
    LOW_BOUND,
    Check,
    Limit,
    Outcome,
    Ruling,
    Sample,
    at_delta,
    decimals,
    number,
    read_number,
    some,
    speaks_of,
)
from redteam.report.metrics import Metric, metric
from redteam.report.values import AuditReport, Evidence, Grade, Guarantee
from redteam.statistics import Interval, attainable_epsilon

_CLOSE = 1e-6
_DELTA, _MAX_DELTA = "max_delta", 1e-5  # the largest delta at which a guarantee counts, where a policy names none
_BY_GUARANTEE = "guarantee.epsilon"


class Epsilon(Metric):
    """The privacy loss that an attack proves, at a delta, under random inclusion."""

    name, symbol, order = "epsilon", "epsilon", 30
    description = "more privacy was spent than the limit allows"
    remedy = (
        "raise the noise multiplier, lower the clipping norm or the sampling rate, or train for fewer "
        "steps until the guarantee is below the limit; then audit again"
    )
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 NISTAML.033", "NIST SP 800-226")
    measured_in = "nats"
    worst_grade: ClassVar[Grade] = "A"
    guaranteed = True
    options: ClassVar[tuple[str, ...]] = (_DELTA,)
    allowed = "a finite number, at least 0"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit is an epsilon."""
        return limit >= 0

    def read(self, table: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Return the limit at the delta that the policy names."""
        (limit,) = super().read(table)
        delta = _MAX_DELTA
        if _DELTA in table:
            delta = read_number(_DELTA, table[_DELTA], "at least 0 and below 1", lambda x: 0 <= x < 1)
        return (Limit(self.name, limit.limit, delta=delta),)

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float | None:
        """Return the bound that right guesses about so many support at `delta`."""
        return None if delta is None else attainable_epsilon(members, nonmembers, delta=delta, alpha=alpha)

    def outcome(self, evidence: Evidence, limit: Limit, report: AuditReport) -> Outcome:
        """Tell what it says about a limit; only a guarantee settles one."""
        if not metric(evidence.metric).admits(report.grade):
            return "inadmissible"
        met = _meets(limit, report)
        if not speaks_of(evidence, limit.delta):
            return "within" if met else "inadmissible"
        if evidence.interval.low > limit.limit:
            return "exceeded"
        if met:
            return "within"
        return "inconclusive" if self.can_break(limit.limit, evidence.attainable) else "underpowered"

    def rule_on(self, limit: Limit, report: AuditReport) -> Ruling:
        """Hold a limit against all evidence, and against the guarantee."""
        outcomes = self.outcomes(limit, report)
        checks = tuple(Check(e.id, e.rule, limit.limit, e.interval, o) for e, o in outcomes)
        if _standing(report) is not None:
            settled: Outcome = "within" if _meets(limit, report) else "inconclusive"
            checks = (*checks, Check(_BY_GUARANTEE, _BY_GUARANTEE, limit.limit, None, settled))
        open_ = [e for e, o in outcomes if o == "inconclusive"]
        apart = [e for e, o in outcomes if o == "inadmissible" and metric(e.metric).admits(report.grade)]
        unbounded = self._unbounded(limit, report, outcomes)
        return Ruling(
            checks,
            (
                *unbounded,
                *_other_deltas(limit, apart),
                *self.cannot_break(limit, outcomes),
            ),
            (self.undecided(limit, open_),) if open_ and not unbounded else (),  # said already
        )

    def at_most(self, evidence: Evidence, report: AuditReport, *, beside: Evidence) -> float:
        """Return what the guarantee says, at the delta of `beside`; no attack bounds epsilon from above."""
        guarantee = _standing(report)
        return guarantee.accounted.epsilon if guarantee and speaks_of(beside, guarantee.accounted.delta) else math.inf

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved epsilon cannot be so."""
        interval, sizes = evidence.interval, (evidence.members, evidence.nonmembers)
        if evidence.delta is None or not 0 <= evidence.delta < 1:
            yield f"{evidence.id} is an epsilon at delta {evidence.delta}"
            return
        members, nonmembers = report.sizes_of(evidence.unit)
        if not (0 <= sizes[0] <= members and 0 <= sizes[1] <= nonmembers):
            yield f"{evidence.id} is of more {evidence.unit}s than the report"
            return
        most = attainable_epsilon(*sizes, delta=evidence.delta, alpha=interval.alpha)
        if not (abs(evidence.attainable - most) <= _CLOSE and 0 <= interval.low <= most + _CLOSE):
            shown = f"{evidence.id} has low end {interval.low:g} and says that {evidence.attainable:g} is attainable"
            yield f"{shown}, of {sum(sizes)} canaries {most:g} is"

    def problems(self, report: AuditReport) -> Iterator[str]:
        """Yield where more was measured than a guarantee admits and the two do not compare."""
        if report.guarantee is not None:
            from redteam.report.guarantee import incomparable

            yield from incomparable([each for each in report.judged if each.metric == self.name], self, report)

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that more privacy was spent than allowed."""
        digits = decimals(evidence.interval, limit)
        spent, rows = "more privacy was spent", ""
        if evidence.unit == "user":
            spent, rows = "more privacy of a user was spent", " (mean over all rows of a user)"
        return (
            f"an outsider who thresholds {evidence.signal}{rows} proves that {spent} than allowed: epsilon "
            f"{self.full(evidence, digits=digits)}{at_delta(evidence)}, limit {number(limit, digits=digits)}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say by how much the odds shift."""
        what = "one person's example" if evidence.unit == "example" else "what one user wrote, all together,"
        low = evidence.interval.low
        factor = number(math.exp(low), digits=1) if low < 20 else f"10^{low / math.log(10):.0f}"
        return (
            f"{what} shifts the odds of what the model shows by a factor of at least "
            f"{factor}: epsilon is {self.full(evidence)}; a factor of 1 would be perfect privacy. {LOW_BOUND}"
        )

    def legend(self, report: AuditReport) -> str | None:
        """Say that it is a lower bound."""
        return f"an epsilon is a lower bound, (of ...) the largest that this sample could have shown. {LOW_BOUND}"

    def measured(self, interval: Interval, *, digits: int = 2) -> str:
        """Write the bound, `at least 0.40`."""
        return f"at least {number(interval.low, digits=digits)}"

    def shown(self, evidence: Evidence) -> str:
        """Write the bound."""
        return self.measured(evidence.interval)

    def full(self, evidence: Evidence, *, digits: int = 2) -> str:
        """Write the bound beside the largest attainable: `at least 0.40 (this sample could have shown up to 5.10)`."""
        most = number(evidence.attainable, digits=digits)
        return f"{self.measured(evidence.interval, digits=digits)} (this sample could have shown up to {most})"

    def cells(self, evidence: Evidence, *, digits: int = 2) -> tuple[str, str]:
        """Write no value, and the bound with the largest attainable."""
        most = number(evidence.attainable, digits=digits)
        return "-", f"{self.measured(evidence.interval, digits=digits)} (of {most})"

    def undecided(self, limit: Limit, evidence: Sequence[Evidence]) -> str:
        """Say that an attack alone never settles a limit."""
        widest = max(evidence, key=lambda e: e.interval.high)
        return (
            f"{limit.name} is not settled by {some([e.id for e in evidence])} "
            f"({self.against(widest.interval, limit.limit, ', limit ')}): an attack never bounds epsilon from above, "
            f"only a guarantee does. {LOW_BOUND}"
        )

    def way_out(self, limit: Limit, evidence: Evidence) -> str:
        """Say that more random inclusion would do."""
        return f"audit more randomised {evidence.unit}s"

    def prospect(self, limit: Limit, sample: Sample) -> str:
        """Say whether a sample could break a limit, and that only a guarantee settles one."""
        if sample.randomised is None:
            return "only a guarantee can settle it, no epsilon is measured"
        members, nonmembers, delta = sample.randomised
        if limit.delta is None or delta < limit.delta:
            return f"CANNOT be proven broken at delta {delta:g}; only a guarantee settles it"
        most = attainable_epsilon(members, nonmembers, delta=delta, alpha=sample.each)
        can = "can" if self.can_break(limit.limit, most) else "CANNOT"
        return f"{can} be proven broken by this sample; only a guarantee settles it"

    def _unbounded(
        self, limit: Limit, report: AuditReport, outcomes: Sequence[tuple[Evidence, Outcome]]
    ) -> tuple[str, ...]:
        """Say why nothing holds epsilon below its limit, unless a guarantee does or a finding says otherwise."""
        if _meets(limit, report) or any(o == "exceeded" for _, o in outcomes):
            return ()
        guarantee = _standing(report)
        if guarantee is not None:
            return (_unmet(limit, guarantee, report),)
        if not outcomes:
            return (
                f"{limit.name}: the report has neither an epsilon measured on randomised members nor a "
                "guarantee: train with DP-SGD, or put examples in and out at random and audit again",
            )
        if all(o == "inadmissible" for _, o in outcomes) and not self.admits(report.grade):
            return (
                f"{limit.name} cannot be judged on evidence of grade {report.grade}: an epsilon is only proven "
                "where the inclusion of every audited example was random: train with randomised members",
            )
        open_ = [evidence for evidence, o in outcomes if o == "inconclusive"]
        refuted = ", and the one that the report has is proven wrong" if report.guarantee is not None else ""
        said = f"No guarantee meets the limit{refuted}: train with DP-SGD"
        return (f"{self.undecided(limit, open_)} {said}",) if open_ else ()


def _standing(report: AuditReport) -> Guarantee | None:
    """Return the guarantee, None where there is none or an attack refutes it."""
    if report.guarantee is None:
        return None
    from redteam.report.guarantee import standing_guarantee

    return standing_guarantee(report)


def _meets(limit: Limit, report: AuditReport) -> bool:
    """Tell whether a guarantee holds an epsilon within its limit."""
    guarantee = _standing(report)
    if guarantee is None or limit.delta is None or not _about(guarantee, report):
        return False
    return guarantee.accounted.epsilon <= limit.limit and guarantee.accounted.delta <= limit.delta


def _about(guarantee: Guarantee, report: AuditReport) -> bool:
    """Tell whether a guarantee can settle what a report is about: one for single examples settles nothing for users."""
    return report.unit == "example" or guarantee.accounted.covers(report.unit)


def _unmet(limit: Limit, guarantee: Guarantee, report: AuditReport) -> str:
    """Say why a guarantee does not meet a limit."""
    accounted = guarantee.accounted
    if not _about(guarantee, report):
        return (
            f"{limit.name} is not met for users: the guarantee is for each {accounted.unit}, and says "
            "nothing about all rows of a user together: train with a guarantee for users, or audit single rows"
        )
    remedy = "train with more noise or raise the limit"
    if accounted.epsilon <= limit.limit:
        remedy = "account for it at the limit's delta, or raise max_delta"
    return (
        f"{limit.name} is not met by the guarantee: the training accounts for epsilon {accounted.epsilon:g} at delta "
        f"{accounted.delta:g}, and no attack can bound it from above: {remedy}"
    )


def _other_deltas(limit: Limit, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """Say that what was measured at a smaller delta, or at none, is no measure of the limit."""
    if not evidence:
        return ()
    deltas = " and ".join(dict.fromkeys("no" if e.delta is None else f"{e.delta:g}" for e in evidence))
    return (
        f"{limit.name} cannot be held against {some([e.id for e in evidence])}, measured at delta {deltas}: an epsilon "
        "says nothing about a larger delta: set max_delta to the delta of the guarantee",
    )
