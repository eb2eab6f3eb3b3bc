"""The report for a terminal: the verdict, the numbers, what they mean, what was not seen, what to do.

Plain unless `color` is asked for. Training text appears only where the audit was told to put it in.
"""

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from redteam.formats import clip, prose
from redteam.formats.layout import Cell, bullets, draw, headline, pairs, section, table
from redteam.policy import Finding, Policy, State, Verdict
from redteam.report.judging import Check, Outcome
from redteam.report.metrics import metric
from redteam.report.values import AuditReport, ClassLeak, DataSummary, Evidence
from redteam.report.wording import LOW_BOUND, decimals, number, plural, range_of

_STYLES = {"pass": "bold white on green", "leak": "bold white on red", "inconclusive": "bold black on yellow"}
_OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "exceeded": ("LEAK", "bold red"),
    "within": ("within", "green"),
    "inconclusive": ("inconclusive", "yellow"),
    "underpowered": ("underpowered", "yellow"),
    "inadmissible": ("not judged", "yellow"),
    "reversed": ("reversed", "yellow"),
}
_MOST_GROUPS = 20  # of a column that nobody chose for its few values
_STATES: dict[State, tuple[str, str]] = {
    "proven": ("LEAK", "bold red"),
    "waived": ("waived", "yellow"),
    "baseline": ("baseline", "yellow"),
}


def render(
    report: AuditReport,
    verdict: Verdict,
    *,
    policy: Policy,
    color: bool = False,
    width: int = 100,
    **_: Any,
) -> str:
    """Return the report as text of at most `width` columns, with terminal colours where `color` is true."""
    parts = [
        *_headline(verdict),
        *_subject(report, policy),
        *_findings(verdict),
        *_problems(verdict),
        *_evidence(report, verdict),
        *_meanings(report),
        *_guarantee(report),
        *_classes(report),
        *(_exposed(report) if verdict.status == "leak" else ()),
        *_worth(report),
        *_failures(report),
        *_listed("Notes", verdict.notes),
        *_listed("What this audit could not have seen", tuple(prose.blind_spots(report))),
        *_listed("What to do next", prose.next_steps(report, verdict)),
    ]
    return draw(parts, width=width, color=color)


def _headline(verdict: Verdict) -> Iterator[RenderableType]:
    word, _, rest = prose.summary(verdict).partition(": ")
    yield headline(word, rest, _STYLES[verdict.status])


def _skipped(data: DataSummary) -> str:
    """Say how many texts of either side the target refused."""
    if not data.skipped_members and not data.skipped_nonmembers:
        return ""
    return f", {plural(data.skipped_members, 'member')} and {plural(data.skipped_nonmembers, 'non-member')} refused"


def _subject(report: AuditReport, policy: Policy) -> Iterator[RenderableType]:
    target, data = report.target, report.data
    digest = f", digest {target.digest[:12]}" if target.digest else ""
    counts = (
        f"{plural(data.members, 'member')}, {plural(data.nonmembers, 'non-member')}"
        f"{f', {data.reference:,} kept apart' if data.reference else ''}; left out: {data.moved_out:,} that moved, "
        f"{plural(data.duplicates, 'duplicate')}{_skipped(data)}"
    )
    counts += f"; {plural(data.canaries, 'canary', 'canaries')} planted besides" if data.canaries else ""
    rows: list[tuple[str, Cell]] = [
        ("target", f"{target.name} ({target.kind}, {plural(target.classes, 'class', 'classes')}{digest})"),
        ("attacker sees", target.access),
        ("data", counts),
        ("judged by", policy.source + (", strict" if policy.strict else "")),
        ("audited", f"{report.created}, redteam {report.tool_version}, seed {report.seed}"),
    ]
    if report.accuracy is not None:
        seen = report.accuracy
        shown = f"right on {seen.members:.1%} of members, {seen.nonmembers:.1%} of non-members"
        rows.insert(3, ("accuracy", f"{shown}; the commonest label is {seen.commonest:.1%}"))
    if (users := prose.user_line(report)) is not None:
        rows.insert(3, ("users", (users, "yellow" if prose.unmeasured_users(report) else "")))
    yield section("Target and data", pairs(rows))


def _findings(verdict: Verdict) -> Iterator[RenderableType]:
    if verdict.findings:
        yield section("Findings", bullets([_finding(each) for each in verdict.findings]))


def _finding(finding: Finding) -> Cell:
    excuse = f" ({finding.excuse})" if finding.excuse else ""
    return f"{finding.id}: {finding.message}{excuse}", "red" if finding.state == "proven" else "yellow"


def _problems(verdict: Verdict) -> Iterator[RenderableType]:
    if verdict.problems:
        lines = [(problem, "yellow") for problem in verdict.problems]
        yield section("Problems: what keeps this report from passing", bullets(lines, "!"))


def _evidence(report: AuditReport, verdict: Verdict) -> Iterator[RenderableType]:
    checks = {check.id: check for check in verdict.checks}
    states = {finding.id: finding.state for finding in verdict.findings}
    rows = [_evidence_row(evidence, checks.get(evidence.id), states) for evidence in report.evidence]
    if not rows:
        yield section("Evidence", Text("none: no attack gave a number"))
        return
    headers = ("attack", "signal", "metric", "value", "interval", "limit", "outcome")
    drawn = table(headers, rows, right=("value", "interval", "limit"))
    yield section("Evidence", drawn, *([bullets(legend)] if (legend := prose.legend(report)) else []))


def _evidence_row(evidence: Evidence, check: Check | None, states: dict[str, State]) -> tuple[Cell, ...]:
    digits = 2 if check is None else decimals(evidence.interval, check.limit)
    outcome: Cell = ("no limit", "dim") if check is None else _OUTCOMES[check.outcome]
    if evidence.id in states:
        outcome = _STATES[states[evidence.id]]
    return (
        evidence.attack,
        clip(evidence.signal, 30),
        prose.metric_name(evidence),
        *metric(evidence.metric).cells(evidence, digits=digits),
        "-" if check is None else number(check.limit, digits=digits),
        outcome,
    )


def _meanings(report: AuditReport) -> Iterator[RenderableType]:
    lines = [
        f"{prose.metric_name(each)} {of.shown(each)} ({each.attack} {each.signal}): {of.meaning(each)}"
        for each in prose.strongest(report)
        for of in (metric(each.metric),)
    ]
    if lines:
        yield section("What the numbers mean for the people in the data", bullets(lines))


def _guarantee(report: AuditReport) -> Iterator[RenderableType]:
    if report.guarantee is None:
        return
    from redteam.report import guarantee

    rows = guarantee.rows(report, prose.strongest(report))
    status: Cell = (guarantee.status(report), "" if guarantee.standing_guarantee(report) else "bold red")
    headers = ("", "epsilon", "delta", "by", "covers")
    yield section("Guarantee", table(headers, rows, right=("epsilon", "delta")), bullets([status, LOW_BOUND]))


def _classes(report: AuditReport) -> Iterator[RenderableType]:
    for what, leaks, most in (("label", report.classes, None), ("group", report.groups, _MOST_GROUPS)):
        if leaks:
            yield _breakdown(report, what, leaks, most)


def _breakdown(report: AuditReport, what: str, leaks: tuple[ClassLeak, ...], most: int | None) -> RenderableType:
    known = [each for each in leaks if each.auc is not None]
    known.sort(key=lambda each: -1.0 if each.auc is None else each.auc.low, reverse=True)
    unknown = [each for each in leaks if each.auc is None]
    rows = [
        (
            clip(each.label, 40),
            f"{each.members:,}",
            f"{each.nonmembers:,}",
            "too few" if each.auc is None else range_of(each.auc),
        )
        for each in (*known, *unknown)[:most]
    ]
    headers = (what, "members", "non-members", "AUC")
    title = f"Which {what}s leak most (AUC of {report.classes_signal}, intervals corrected over the {what}s)"
    drawn = table(headers, rows, right=("members", "non-members", "AUC"))
    more = [bullets([f"and {len(leaks) - len(rows):,} more"])] if len(rows) < len(leaks) else []
    return section(title, drawn, *more)


def _exposed(report: AuditReport) -> Iterator[RenderableType]:
    if not report.exposed:
        return
    with_text = any(row.text is not None for row in report.exposed)
    headers = ("row", "label", "salted hash", *(("text",) if with_text else ()))
    rows = [
        (
            clip(row.id, 30),
            clip(row.label or "-", 30),
            (row.hash or "-")[:16],
            *((clip(row.text or "-", 60),) if with_text else ()),
        )
        for row in report.exposed
    ]
    named = report.classes_signal or "the first attack"
    yield section(f"Members that {named} would name first", table(headers, rows))


def _worth(report: AuditReport) -> Iterator[RenderableType]:
    controls = [f"control {each.control} saw AUC {range_of(each.auc)}" for each in report.controls]
    lines = [
        prose.grade_words(report),
        f"why: {report.grade_reason}",
        *(controls or ["no control ran"]),
        prose.confidence(report),
    ]
    of = " for single rows, none for users" if prose.unmeasured_users(report) else ""
    yield section(f"What this evidence is worth: grade {report.grade}{of}", bullets(lines))


def _failures(report: AuditReport) -> Iterator[RenderableType]:
    lines = [f"{each.attack}, {each.kind.replace('_', ' ')}: {each.reason}" for each in report.failures]
    yield from _listed("Attacks that gave no evidence", tuple(lines))


def _listed(title: str, lines: tuple[str, ...]) -> Iterator[RenderableType]:
    if lines:
        yield section(title, bullets(lines))
