"""Two reports side by side: which numbers changed, and which of the changes are proven.

A change is proven only where the two intervals do not overlap. That asks for more than a test of the
difference would, and buys two things: it holds however the two audits depend on each other (the same
examples, the same seed), and because the lower ends of all judged intervals of a report hold at once with confidence
1 - alpha, and so do the upper ends, all changes proven to be for the worse hold at once with confidence 1 - alpha_old -
alpha_new (Bonferroni), and so do all for the better.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from redteam.core import ReportError
from redteam.report import LOW_BOUND, plural, some
from redteam.report.metrics import metric
from redteam.report.reading import measure_of, measured_by
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import Interval

FORMAT = "redteam.comparison/1"

Direction = Literal["worse", "better", "no proven change", "only in old", "only in new"]


@dataclass(frozen=True)
class Change:
    """One number in both reports, or in one; `difference` is new minus old."""

    id: str
    old: Interval | None
    new: Interval | None
    difference: float | None
    direction: Direction


@dataclass(frozen=True)
class Comparison:
    """What changed from one report to another; `alpha` is the error allowed to all proven changes of one direction.

    `gaps` say why the newer report cannot be said to be no worse: it lacks what the older one measured.
    """

    old: str
    new: str
    alpha: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    gaps: tuple[str, ...] = ()
    format: str = FORMAT

    @property
    def worse(self) -> tuple[Change, ...]:
        """The changes proven to be for the worse."""
        return tuple(change for change in self.changes if change.direction == "worse")


def compare_reports(old: AuditReport, new: AuditReport) -> Comparison:
    """Compare two reports number by number; raise ReportError where their formats differ."""
    if old.format != new.format:
        raise ReportError(f"reports of formats {old.format!r} and {new.format!r} do not compare: audit again")
    before = {evidence.id: evidence for evidence in old.judged}
    after = {evidence.id: evidence for evidence in new.judged}
    changes = tuple(_change(before.get(each), after.get(each), old, new) for each in dict.fromkeys([*before, *after]))
    alpha = min(old.multiplicity.alpha + new.multiplicity.alpha, 1.0)
    return Comparison(
        old.target.name, new.target.name, alpha, changes, tuple(_notes(old, new, changes)), tuple(_gaps(new, changes))
    )


def _change(before: Evidence | None, after: Evidence | None, old: AuditReport, new: AuditReport) -> Change:
    if before is None or after is None:
        known = before or after
        assert known is not None
        was = None if before is None else before.interval
        now = None if after is None else after.interval
        return Change(known.id, was, now, None, "only in new" if before is None else "only in old")
    direction: Direction = "no proven change"
    of = metric(before.metric)
    if of.admits(old.grade) and of.admits(new.grade):
        if of.at_least(after) > of.at_most(before, old, beside=after):
            direction = "worse"
        elif of.at_most(after, new, beside=before) < of.at_least(before):
            direction = "better"
    difference = after.interval.value - before.interval.value
    return Change(before.id, before.interval, after.interval, difference, direction)


def _notes(old: AuditReport, new: AuditReport, changes: tuple[Change, ...]) -> Iterator[str]:
    if old.target.name != new.target.name:
        yield f"the targets differ: {old.target.name} and {new.target.name}"
    elif old.target.digest is not None and old.target.digest == new.target.digest:
        yield "the two reports are of the very same model file: what changed is the audit"
    if old.grade != new.grade:
        yield f"the evidence grades differ: {old.grade} and {new.grade}; the numbers are not worth the same"
    if "C" in (old.grade, new.grade):
        yield "a report of grade C says nothing about membership: no such change is proven"
    if any(measured_by(change.id).guaranteed for change in changes):
        yield LOW_BOUND
    if old.unit != new.unit:
        yield f"the old report is about each {old.unit}, the new one about each {new.unit}: the two do not compare"
    if described := _described(new, changes):
        yield f"the new report only describes {plural(len(described), 'number')} that the old one judged"
    if (old.data.members, old.data.nonmembers) != (new.data.members, new.data.nonmembers):
        yield f"the data differ in size: {_size(old)}, then {_size(new)}"


def _gaps(new: AuditReport, changes: tuple[Change, ...]) -> Iterator[str]:
    described = _described(new, changes)
    gone = sum(change.direction == "only in old" for change in changes) - len(described)
    if gone:
        yield f"the new report lacks {plural(gone, 'number')} of the old one"
    limited = {measure_of(each.id) for each in new.judged}
    lost = dict.fromkeys(measure_of(each.id) for each in described)
    if unlimited := [each for each in lost if each not in limited]:
        yield f"the new report judges no {some(unlimited)}: audit again with a policy that limits it"
    if new.grade == "C":
        yield "the new report is of grade C: it says nothing about membership"
    if not changes:
        yield "neither report holds a number: there is nothing to compare"


def _described(new: AuditReport, changes: tuple[Change, ...]) -> list[Evidence]:
    """Return what the new report holds of the numbers that only the old one judged."""
    only = {change.id for change in changes if change.direction == "only in old"}
    return [each for each in new.evidence if each.id in only]


def _size(report: AuditReport) -> str:
    return f"{plural(report.data.members, 'member')} and {plural(report.data.nonmembers, 'non-member')}"
