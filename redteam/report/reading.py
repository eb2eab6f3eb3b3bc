"""Read saved reports, and refuse those that do not agree with themselves or lack what they set out to give.

What was written by an audit does; what was edited or cut seldom does. An audit writes down what it asked, and which
intervals share its error. Each of those is there, or a failure says why not: an attack gives all numbers of a signal or
none, and one failure for each signal without. Reports of older versions have no such list; they say how many intervals
there were, in words and in number, and are held to that.

This finds accidents and careless edits. Who forges a report with care is not found out: a gate trusts its report.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from redteam.core import ReportError, read_text
from redteam.report import plural, some
from redteam.report.metrics import Metric, metric
from redteam.report.values import AuditReport, Failure, Scope
from redteam.statistics import MOST

_CLOSE = 1e-6
_LARGEST = 64 * 2**20  # bytes; audits write some 10,000, and few hundred for each label of the data
_SHARED = re.compile(r"shared equally over \d+ intervals")  # what an audit writes, and a report made by hand may not
_OF_CANARIES = re.compile(r"; (\d+) are extraction rates and exposures of canaries")
_BY_ACCESS = re.compile(r"needs \w+, the target gives \w+")  # then the attack's intervals were never counted
_CONTROLS = re.compile(r"(.+) cannot tell the two sides apart without the target(?:;.*)?")


def measured(report: AuditReport) -> tuple[Metric, ...]:
    """Return the metrics of a report's evidence, in the order of policies."""
    found = {metric(each.metric) for each in report.evidence}
    return tuple(sorted(found, key=lambda each: (each.order, each.name)))


def only_fairness(report: AuditReport) -> bool:
    """Tell whether a report is on groups alone: it is of rows, none of which is a member or not."""
    return bool(report.fairness) and report.data.nonmembers == 0


def measure_of(identifier: str) -> str:
    """Return what an identifier is a number of, by any attack: `tpr@0.01` of `RT102.tpr@0.01:entropy`."""
    return identifier.partition(":")[0].partition(".")[2]


def measured_by(rule: str) -> Metric:
    """Return the metric of a rule or an id, such as `RT102.user.tpr@0.01:entropy`."""
    return metric(rule.partition(":")[0].partition("@")[0].rpartition(".")[2])


def load_report(path: Path) -> AuditReport:
    """Read the report file `path`; raise ReportError where there is none, or it contradicts itself."""
    try:
        report = AuditReport.from_json(read_text(path, most=_LARGEST), source=str(path))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: cannot be read (not UTF-8 text, byte {error.start})") from None
    require_consistent(report, source=str(path))
    return report


def require_consistent(report: AuditReport, *, source: str) -> None:
    """Raise ReportError with the first contradiction in `report`, or for a metric that nothing here knows.

    `source` is what messages call it.
    """
    for name in {evidence.metric for evidence in report.evidence}:
        try:
            metric(name)
        except ReportError as error:
            raise ReportError(f"{source}: {error}") from None
    for contradiction in _contradictions(report):
        raise ReportError(f"{source}: contradicts itself: {contradiction}; audit again")


def _contradictions(report: AuditReport) -> Iterator[str]:
    seen = report.accuracy
    if min(vars(report.data).values()) < 0:
        yield "a count of examples is negative"
    if max(vars(report.data).values()) > MOST:
        yield f"a count of examples is above {MOST:,}"
    if seen is not None and not all(0 <= share <= 1 for share in (seen.members, seen.nonmembers, seen.commonest)):
        yield "a share of right answers is not between 0 and 1"
    if len({evidence.id for evidence in report.evidence}) != len(report.evidence):
        yield "two numbers have the same id"
    if len({evidence.unit for evidence in report.evidence if _of_members(metric(evidence.metric))}) > 1:
        yield "some numbers are of examples and some of users"
    for control in report.controls:
        blunted = control.auc.high < 0.5 and not control.may_be_below_chance
        if report.grade != "C" and (control.auc.low > 0.5 or blunted):
            yield f"grade {report.grade}, but {control.control} tells the sides apart"
    users = None if seen is None else seen.by_user
    if users is not None and report.unit == "user" and (report.users is None or users.users != report.users.members):
        yield "its accuracy is of another number of users than the report"
    yield from what_is_missing(report)
    yield from _of_error(report)
    for evidence in report.evidence:
        yield from metric(evidence.metric).contradictions(evidence, report)


def _of_error(report: AuditReport) -> Iterator[str]:
    """Hold the level of every number against its share of the error, and the shares against the whole."""
    shared = report.multiplicity
    levels = {share.id: share.error for share in shared.shares}
    described = shared.alpha
    if shared.primary is None and not shared.shares:
        described = shared.each
        if not math.isclose(shared.each * shared.intervals, shared.alpha, rel_tol=_CLOSE):
            yield f"{shared.intervals} intervals at {shared.each:g} do not share {shared.alpha:g}"
        if len(report.evidence) > shared.intervals:
            yield f"{len(report.evidence)} numbers share the error of {shared.intervals}"
    elif len(levels) != len(shared.shares) or len(levels) != shared.intervals:
        yield f"{len(levels)} numbers have a share of the error, the report says {shared.intervals}"
    elif levels and not math.isclose(math.fsum(levels.values()), shared.alpha, rel_tol=_CLOSE):
        yield f"the shares of the error add up to {math.fsum(levels.values()):g}, not to {shared.alpha:g}"
    elif levels and not min(levels.values()) > 0:
        yield "a share of the error is not above 0"
    elif levels and not math.isclose(max(levels.values()), shared.each, rel_tol=_CLOSE):
        yield f"no number has more than {max(levels.values()):g} of the error, the report says {shared.each:g}"
    yield from _of_primary(levels, report)
    for evidence in report.evidence:
        level = levels.get(evidence.id, described)
        if not math.isclose(evidence.interval.alpha, level, rel_tol=_CLOSE):
            yield f"{evidence.id} has level {evidence.interval.alpha:g}, the report says {level:g}"


def _of_primary(levels: Mapping[str, float], report: AuditReport) -> Iterator[str]:
    """Hold the attack that settles limits against the shares: where it gives a number it has more than all others."""
    primary = report.multiplicity.primary
    asked = (each.id for each in report.evidence) if report.scope is None else report.scope.intervals
    gives = {measure_of(each) for each in asked if each.startswith(f"{primary}.")}
    own, others = defaultdict[str, float](float), defaultdict[str, float](float)
    for identifier, error in levels.items():
        (own if identifier.startswith(f"{primary}.") else others)[measure_of(identifier)] += error
    for rule in others:
        if primary is None and _of_members(measured_by(rule)):
            yield f"{rule} has a share of the error, but no attack settles limits"
        elif rule in gives and not own[rule] > others[rule]:
            yield f"{primary} settles limits, but of the error of {rule} other attacks have as much or more"


def what_is_missing(report: AuditReport) -> Iterator[str]:
    """Yield what was cut out of a report, or put into it twice."""
    yield from _twice(report)
    yield from _canaries(report)
    if report.scope is None:
        yield from _without_scope(report)
    else:
        yield from _within(report.scope, report)


def _of_members(measured: Metric) -> bool:
    """Tell whether a metric is of members and non-members, and not of canaries or of texts whoever wrote them."""
    return not measured.of_canaries and not measured.admits("C")


def _twice(report: AuditReport) -> Iterator[str]:
    for failure, times in Counter(report.failures).items():
        if times > 1:
            yield f"the failure of {failure.attack} is in it {times} times"
    for control, times in Counter(each.control for each in report.controls).items():
        if times > 1:
            yield f"the control {control} is in it {times} times"


def _canaries(report: AuditReport) -> Iterator[str]:
    """Hold the groups of canaries of each attack, by their repetitions, against how many were planted."""
    planted = [evidence for evidence in report.evidence if metric(evidence.metric).of_canaries]
    for attack in dict.fromkeys(evidence.attack for evidence in planted):
        groups = {evidence.signal: evidence.members for evidence in planted if evidence.attack == attack}
        if sum(groups.values()) != report.data.canaries:
            yield f"{attack} is of {sum(groups.values())} canaries, the report of {report.data.canaries}"


def _within(scope: Scope, report: AuditReport) -> Iterator[str]:
    named, shared = set(scope.intervals), report.multiplicity
    older = shared.primary is None and not shared.shares
    if len(named) != len(scope.intervals) or (older and max(1, len(named)) != shared.intervals):
        yield f"it names {len(scope.intervals)} numbers and shares the error of {shared.intervals}"
    if foreign := [share.id for share in shared.shares if share.id not in named]:
        yield f"{some(foreign)}: has a share of the error, but was not asked for"
    if shared.primary is not None and shared.primary not in scope.asked:
        yield f"{shared.primary}: settles limits, but was not asked"
    if foreign := [each.id for each in report.evidence if each.id not in scope.intervals]:
        yield f"{some(foreign)}: among the numbers, but was not asked for"
    controls = [each.control for each in report.controls]
    given = {*controls, *(each.attack for each in report.evidence), *(each.attack for each in report.failures)}
    if foreign := sorted(given - set(scope.asked)):
        yield f"{some(foreign)}: in the report, but was not asked"
    if gone := [each for each in scope.asked if each not in given]:
        yield f"{some(gone)}: asked, but neither what was found nor a failure is there"
    if scope.guarantee != (report.guarantee is not None):
        yield "the guarantee is missing" if scope.guarantee else "the audit was given no guarantee"
    if scope.accuracy != (report.accuracy is not None):
        yield "the target's accuracy is missing" if scope.accuracy else "the audit measured no accuracy"
    for attack in dict.fromkeys(scope.asked):
        yield from _of_attack(attack, scope, report)


def _of_attack(attack: str, scope: Scope, report: AuditReport) -> Iterator[str]:
    """Hold what is missing of one attack against its failures."""
    found = {evidence.id for evidence in report.evidence}
    planned = [each for each in scope.intervals if each.startswith(f"{attack}.")]
    missing = [each for each in planned if each not in found]
    if not missing:
        return
    failures = [failure for failure in report.failures if failure.attack == attack]
    gone, there = ({each.partition(":")[2] for each in ids} for ids in (missing, set(planned) & found))
    excused = [failure for failure in failures if failure.kind != "not_applicable" or _all_of_canaries(missing)]
    told = {signal for signal in gone for failure in excused if failure.reason.startswith(f"{signal}: ")}
    wholly = any(not failure.reason.startswith(tuple(f"{signal}: " for signal in told)) for failure in excused)
    if gone & there or not (gone == told or (wholly and not there)):
        yield f"{plural(len(missing), 'number')} of {attack} missing ({some(missing)}), and no failure says why"


def _all_of_canaries(ids: Sequence[str]) -> bool:
    """Tell whether these are numbers of canaries: only an attack after those can find that it does not apply."""
    return all(measured_by(each).of_canaries for each in ids)


def _without_scope(report: AuditReport) -> Iterator[str]:
    method = report.multiplicity.method
    stated = _OF_CANARIES.search(method)
    of_canaries = int(stated[1]) if stated else 0
    measured = sum(metric(evidence.metric).of_canaries for evidence in report.evidence)
    missing = report.multiplicity.intervals - len(report.evidence)
    of_members = missing - (of_canaries - measured)
    broken = [failure for failure in report.failures if _costs(failure)]
    counted = report.evidence and _SHARED.search(method)
    if counted and missing > 0 and not broken:
        yield f"{plural(missing, 'number')} of {report.multiplicity.intervals} missing, and no failure says why"
    elif counted and of_members > 0 and all(each.kind == "not_applicable" for each in broken):
        yield f"{plural(of_members, 'number')} about members missing, and no failure says why"
    names = _CONTROLS.fullmatch(report.grade_reason)
    if names is not None and names[1] != " and ".join(each.control for each in report.controls):
        yield f"its grade rests on {names[1]}, but that is not what the controls are"


def _costs(failure: Failure) -> bool:
    """Tell whether a failure can be why a number is missing that was counted."""
    return failure.kind != "not_applicable" or not _BY_ACCESS.fullmatch(failure.reason)
