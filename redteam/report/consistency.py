"""Does a saved report agree with itself? What was written by an audit does; what was edited or cut seldom does.

This finds accidents and careless edits. Who forges a report with care is not found out: a gate trusts its report.
"""

import math
from collections.abc import Iterator

from redteam.core.errors import ReportError
from redteam.report.completeness import what_is_missing
from redteam.report.metrics import metric
from redteam.report.values import AuditReport

_CLOSE = 1e-6


def require_consistent(report: AuditReport, *, source: str) -> None:
    """Raise ReportError with the first contradiction in a report, or for a metric that nothing here knows."""
    for name in {evidence.metric for evidence in report.evidence}:
        try:
            metric(name)
        except ReportError as error:
            raise ReportError(f"{source}: {error}") from None
    for contradiction in _contradictions(report):
        raise ReportError(f"{source}: contradicts itself: {contradiction}; audit again")


def _contradictions(report: AuditReport) -> Iterator[str]:
    shared = report.multiplicity
    if not math.isclose(shared.each * shared.intervals, shared.alpha, rel_tol=_CLOSE):
        yield f"{shared.intervals} intervals at {shared.each:g} do not share {shared.alpha:g}"
    if len({evidence.id for evidence in report.evidence}) != len(report.evidence):
        yield "two numbers have the same id"
    if len({evidence.unit for evidence in report.evidence if not metric(evidence.metric).of_canaries}) > 1:
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
        if not math.isclose(evidence.interval.alpha, shared.each, rel_tol=_CLOSE):
            yield f"{evidence.id} has level {evidence.interval.alpha:g}, the report says {shared.each:g} each"
        yield from metric(evidence.metric).contradictions(evidence, report)
