"""Two reports side by side: which numbers changed, and which of the changes are proven.

A change is proven only where the two intervals do not overlap. That asks for more than a test of the
difference would, and buys two things: it holds however the two audits depend on each other (the same
examples, the same seed), and because the lower ends of all judged intervals of a report hold at once with confidence
1 - alpha, and so do the upper ends, all changes proven to be for the worse hold at once with confidence 1 - alpha_old -
alpha_new (Bonferroni), and so do all for the better.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redteam import core
from redteam.core import ReportError, read_text
from redteam.report import LOW_BOUND, plural, some
from redteam.report.metrics import metric
from redteam.report.reading import measure_of, measured_by
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import Interval

FORMAT = "redteam.comparison/1"
_LARGEST, _CLOSE = 64 * 2**20, 1e-9  # bytes, and what rounding may change

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


def load_comparison(path: Path) -> Comparison:
    """Read what `redteam compare -f json` wrote; raise ReportError where it is anything else, or contradicts itself."""
    try:
        text = read_text(path, most=_LARGEST)
        found = core.parse(Comparison, text, "comparison", format=FORMAT, advice="compare again")
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as what redteam compare wrote ({error})") from None
    for contradiction in _contradictions(found):
        raise ReportError(f"{path}: contradicts itself: {contradiction}; compare again")
    return found


def _contradictions(found: Comparison) -> Iterator[str]:
    if not 0 < found.alpha <= 1:
        yield f"its error is {found.alpha:g}"
    if len({change.id for change in found.changes}) != len(found.changes):
        yield "two numbers have the same id"
    for change in found.changes:
        if (change.old is None, change.new is None) != (
            change.direction == "only in new",
            change.direction == "only in old",
        ):
            yield f"{change.id} is {change.direction}, and that is not where it stands"
        elif change.old is None or change.new is None:
            if change.difference is not None:
                yield f"{change.id} stands in one report only, and has a difference"
        elif change.difference is None or abs(change.difference - change.new.value + change.old.value) > _CLOSE:
            yield f"the difference of {change.id} is not that of its two values"
        else:
            yield from _of_direction(change, change.old, change.new, found)


def _of_direction(change: Change, old: Interval, new: Interval, found: Comparison) -> Iterator[str]:
    """Hold what is said to be proven against the intervals; of what a guarantee bounds these do not tell."""
    of = measured_by(change.id)
    if of.guaranteed:
        return
    apart = old.high < new.low or new.high < old.low
    if change.direction in ("worse", "better") and not apart:
        yield f"{change.id} is {change.direction}, but the two intervals overlap"
    above = of.turned(new).low > of.turned(old).high
    if of.measured_in == "probability":  # as far below 1/2 is the same leak
        above = above and max(new.low, 1 - new.high) > max(old.high, 1 - old.low)
    refused = any("grade C" in note for note in found.notes)
    if above and not refused and change.direction != "worse":
        yield f"{change.id} is {change.direction}, but all of the new interval is worse than the old one"
