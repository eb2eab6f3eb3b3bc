"""Does a saved report agree with itself? What was written by an audit does; what was edited or cut seldom does.

This finds accidents and careless edits. Who forges a report with care is not found out: a gate trusts its report.
"""

import math
from collections.abc import Iterator

from redteam.core.errors import ReportError
from redteam.report.completeness import what_is_missing
from redteam.report.values import CANARY_METRICS, AuditReport, Evidence
from redteam.statistics.resolution import attainable, attainable_extraction_rate

_CLOSE = 1e-6


def require_consistent(report: AuditReport, *, source: str) -> None:
    """Raise ReportError with the first contradiction in a report."""
    for contradiction in _contradictions(report):
        raise ReportError(f"{source}: contradicts itself: {contradiction}; audit again")


def _contradictions(report: AuditReport) -> Iterator[str]:
    shared = report.multiplicity
    if not math.isclose(shared.each * shared.intervals, shared.alpha, rel_tol=_CLOSE):
        yield f"{shared.intervals} intervals at {shared.each:g} do not share {shared.alpha:g}"
    if len({evidence.id for evidence in report.evidence}) != len(report.evidence):
        yield "two numbers have the same id"
    if len({evidence.unit for evidence in report.evidence if evidence.metric not in CANARY_METRICS}) > 1:
        yield "some numbers are of examples and some of users"
    for control in report.controls:
        blunted = control.auc.high < 0.5 and not control.may_be_below_chance
        if report.grade != "C" and (control.auc.low > 0.5 or blunted):
            yield f"grade {report.grade}, but {control.control} tells the sides apart"
    if len(report.evidence) > shared.intervals:
        yield f"{len(report.evidence)} numbers share the error of {shared.intervals}"
    seen = None if report.accuracy is None else report.accuracy.by_user
    if seen is not None and report.unit == "user" and (report.users is None or seen.users != report.users.members):
        yield "its accuracy is of another number of users than the report"
    yield from what_is_missing(report)
    for evidence in report.evidence:
        yield from _of_evidence(evidence, report)


def _of_evidence(evidence: Evidence, report: AuditReport) -> Iterator[str]:
    interval = evidence.interval
    if evidence.metric == "epsilon":
        yield from _of_epsilon(evidence, report)
        return
    if evidence.metric in CANARY_METRICS:
        yield from _of_canaries(evidence, report)
        return
    if not (interval.low >= 0 and interval.high <= 1):
        yield f"{evidence.id} is not between 0 and 1"
        return
    if not math.isclose(interval.alpha, report.multiplicity.each, rel_tol=_CLOSE):
        yield f"{evidence.id} has level {interval.alpha:g}, the report says {report.multiplicity.each:g} each"
    if (evidence.members, evidence.nonmembers) != _sizes(evidence, report):
        yield f"{evidence.id} is of another number of {evidence.unit}s than the report"
        return
    if evidence.metric == "tpr" and not (evidence.fpr is not None and 0 < evidence.fpr < 1):
        yield f"{evidence.id} is a TPR at an FPR of {evidence.fpr}"
        return
    most = attainable(evidence.metric, evidence.members, evidence.nonmembers, alpha=interval.alpha, fpr=evidence.fpr)
    if not abs(evidence.attainable - most) <= _CLOSE:
        yield f"{evidence.id} says that {evidence.attainable:g} is attainable, but {most:g} is"


def _sizes(evidence: Evidence, report: AuditReport) -> tuple[int, int]:
    """Return how many members and non-members there are of the evidence's unit; none of users where none are known."""
    if evidence.unit == "example":
        return report.data.members, report.data.nonmembers
    return (0, 0) if report.users is None else (report.users.members, report.users.nonmembers)


def _of_canaries(evidence: Evidence, report: AuditReport) -> Iterator[str]:
    interval, count = evidence.interval, evidence.members
    if not math.isclose(interval.alpha, report.multiplicity.each, rel_tol=_CLOSE):
        yield f"{evidence.id} has level {interval.alpha:g}, the report says {report.multiplicity.each:g} each"
        return
    if not (1 <= count <= report.data.canaries and evidence.nonmembers == count):
        yield f"{evidence.id} is of {count} canaries and {evidence.nonmembers} held out, the report of other numbers"
        return
    best = attainable_extraction_rate(count, alpha=interval.alpha)
    rate = evidence.metric == "extraction_rate"
    if not (
        evidence.attainable >= 0 and (not rate or min(evidence.attainable, abs(evidence.attainable - best)) <= _CLOSE)
    ):
        yield f"{evidence.id} says that {evidence.attainable:g} is attainable, which {count} canaries do not have"
    if not (0 <= interval.low <= evidence.attainable + _CLOSE and (interval.high <= 1 or not rate)):
        yield f"{evidence.id} is beyond what {count} canaries can show"


def _of_epsilon(evidence: Evidence, report: AuditReport) -> Iterator[str]:
    interval, sizes = evidence.interval, (evidence.members, evidence.nonmembers)
    if evidence.delta is None or not 0 <= evidence.delta < 1:
        yield f"{evidence.id} is an epsilon at delta {evidence.delta}"
        return
    if not math.isclose(interval.alpha, report.multiplicity.each, rel_tol=_CLOSE):
        yield f"{evidence.id} has level {interval.alpha:g}, the report says {report.multiplicity.each:g} each"
        return
    members, nonmembers = _sizes(evidence, report)
    if not (0 <= sizes[0] <= members and 0 <= sizes[1] <= nonmembers):
        yield f"{evidence.id} is of more {evidence.unit}s than the report"
        return
    most = attainable("epsilon", *sizes, alpha=interval.alpha, delta=evidence.delta)
    if not (abs(evidence.attainable - most) <= _CLOSE and 0 <= interval.low <= most + _CLOSE):
        shown = f"{evidence.id} has low end {interval.low:g} and says that {evidence.attainable:g} is attainable"
        yield f"{shown}, of {sum(sizes)} canaries {most:g} is"
