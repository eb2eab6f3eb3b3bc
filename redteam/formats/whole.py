"""The whole report for a terminal, which `-v` asks for: every number, what they mean, what was not seen, what to do.

Training text appears only where the audit was told to put it in.
"""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from redteam import formats
from redteam.formats import clip
from redteam.formats.text import OUTCOMES, STATES, Cell, bullets, pairs, section, table
from redteam.policy import Finding, Policy, State, Verdict
from redteam.report import LOW_BOUND, Check, decimals, number, plural, range_of
from redteam.report.metrics import metric
from redteam.report.reading import only_fairness
from redteam.report.values import AuditReport, ClassLeak, Evidence


def sections(report: AuditReport, verdict: Verdict, policy: Policy) -> list[RenderableType]:
    """Return all that follows the verdict."""
    return [
        *_subject(report, policy),
        *_findings(verdict),
        *_listed("Problems: what keeps this report from passing", [(each, "yellow") for each in verdict.problems], "!"),
        *_evidence(report, verdict),
        *_meanings(report),
        *_guarantee(report),
        *_classes(report, None),
        *(_fairness(report, True) if report.fairness else ()),
        *(_exposed(report) if verdict.status == "leak" else ()),
        *_worth(report, verdict),
        *_failures(report, verdict),
        *_listed("Notes", verdict.notes),
        *_listed("What this audit could not have seen", tuple(formats.blind_spots(report))),
        *_listed("What to do next", formats.next_steps(report, verdict)),
    ]


def _subject(report: AuditReport, policy: Policy) -> Iterator[RenderableType]:
    target = report.target
    digest = f", digest {target.digest[:12]}" if target.digest else ""
    rows: list[tuple[str, Cell]] = [
        ("target", f"{target.name} ({target.kind}, {plural(target.classes, 'class', 'classes')}{digest})"),
        ("attacker sees", target.access),
        ("data", formats.data_line(report.data)),
        ("judged by", policy.source + (", strict" if policy.strict else "")),
        ("audited", f"{report.created}, redteam {report.tool_version}, seed {report.seed}"),
    ]
    if report.accuracy is not None:
        seen = report.accuracy
        shown = f"right on {seen.members:.1%} of members, {seen.nonmembers:.1%} of non-members"
        shown = f"right on {seen.members:.1%}" if only_fairness(report) else shown
        rows.insert(3, ("accuracy", f"{shown}; the commonest label is {seen.commonest:.1%}"))
    if (users := formats.user_line(report)) is not None:
        rows.insert(3, ("users", (users, "yellow" if formats.unmeasured_users(report) else "")))
    yield section("Target and data", pairs(rows))


def _findings(verdict: Verdict) -> Iterator[RenderableType]:
    if verdict.findings:
        yield section("Findings", bullets([_finding(each) for each in verdict.findings]))


def _finding(finding: Finding) -> Cell:
    excuse = f" ({finding.excuse})" if finding.excuse else ""
    return f"{finding.id}: {finding.message}{excuse}", "red" if finding.state == "proven" else "yellow"


def _evidence(report: AuditReport, verdict: Verdict) -> Iterator[RenderableType]:
    checks = {check.id: check for check in verdict.checks}
    states = {finding.id: finding.state for finding in verdict.findings}
    judged = {evidence.id for evidence in report.judged}
    rows = [
        _evidence_row(evidence, checks.get(evidence.id), states, evidence.id in judged) for evidence in report.evidence
    ]
    if not rows:
        yield section("Evidence", Text("none: no attack gave a number"))
        return
    headers = ("attack", "signal", "metric", "value", "interval", "limit", "outcome")
    drawn = table(headers, rows, right=("value", "interval", "limit"))
    yield section("Evidence", drawn, *([bullets(words)] if (words := formats.legend(report)) else []))


def _evidence_row(evidence: Evidence, check: Check | None, states: dict[str, State], judged: bool) -> tuple[Cell, ...]:
    digits = 2 if check is None else decimals(evidence.interval, check.limit)
    outcome: Cell = ("no limit" if judged else "described", "dim") if check is None else OUTCOMES[check.outcome]
    if evidence.id in states:
        outcome = STATES[states[evidence.id]]
    return (
        evidence.attack,
        clip(evidence.signal, 30),
        formats.metric_name(evidence),
        *metric(evidence.metric).cells(evidence, digits=digits),
        "-" if check is None else number(check.limit, digits=digits),
        outcome,
    )


def _meanings(report: AuditReport) -> Iterator[RenderableType]:
    lines = [
        f"{formats.metric_name(each)} {of.shown(each)} ({each.attack} {each.signal}): {of.meaning(each)}"
        for each in formats.strongest(report)
        for of in (metric(each.metric),)
    ]
    if lines:
        yield section("What the numbers mean for the people in the data", bullets(lines))


def _guarantee(report: AuditReport) -> Iterator[RenderableType]:
    if report.guarantee is None:
        return
    from redteam.report import guarantee

    rows = guarantee.rows(report, formats.strongest(report))
    status: Cell = (guarantee.status(report), "" if guarantee.standing_guarantee(report) else "bold red")
    headers = ("", "epsilon", "delta", "by", "covers")
    yield section("Guarantee", table(headers, rows, right=("epsilon", "delta")), bullets([status, LOW_BOUND]))


def _classes(report: AuditReport, most: int | None) -> Iterator[RenderableType]:
    for what, leaks in (("label", report.classes), ("group", report.groups)):
        if leaks:
            yield _breakdown(report, what, leaks, most)


def _breakdown(report: AuditReport, what: str, leaks: tuple[ClassLeak, ...], most: int | None) -> RenderableType:
    ordered = sorted(leaks, key=lambda each: -1.0 if each.auc is None else each.auc.low, reverse=True)
    rows = [
        (
            clip(each.label, 40),
            f"{each.members:,}",
            f"{each.nonmembers:,}",
            "too few" if each.auc is None else range_of(each.auc),
        )
        for each in ordered[:most]
    ]
    headers = (what, "members", "non-members", "AUC")
    title = f"Which {what}s leak most (AUC of {report.classes_signal}, intervals corrected over the {what}s)"
    drawn = table(headers, rows, right=("members", "non-members", "AUC"))
    more = [bullets([f"and {len(leaks) - len(rows):,} more; -v shows all"])] if len(rows) < len(leaks) else []
    return section(title, drawn, *more)


def _fairness(report: AuditReport, verbose: bool) -> Iterator[RenderableType]:
    from redteam.formats.groups import HEADERS, tables  # which few reports have

    for title, rows, left in tables(report, verbose=verbose):
        yield section(title, table(HEADERS, rows, right=("rows", "value")), *([bullets(left)] if left else []))


def _exposed(report: AuditReport) -> Iterator[RenderableType]:
    if not (rows := report.exposed):
        return
    columns = {"row": [clip(row.id, 30) for row in rows], "label": [clip(row.label or "-", 30) for row in rows]}
    columns["salted hash"] = [(row.hash or "-")[:16] for row in rows]
    if any(row.text is not None for row in rows):
        columns["text"] = [clip(row.text or "-", 60) for row in rows]
    title = f"Members that {report.classes_signal or 'the first attack'} would name first"
    if all(row.risk is not None for row in rows):
        columns["AUC"] = [range_of(row.risk) for row in rows if row.risk is not None]
        title = "Members that any model trained like this one leaks most (AUC of telling models with the row)"
    yield section(title, table(tuple(columns), zip(*columns.values(), strict=True), right=("AUC",)))


def _worth(report: AuditReport, verdict: Verdict) -> Iterator[RenderableType]:
    controls = [f"control {each.control} saw AUC {range_of(each.auc)}" for each in report.controls]
    lines = [
        formats.grade_words(report),
        *report.attack_notes,
        f"why: {report.grade_reason}",
        *(controls or ["no control ran"]),
        formats.confidence(report),
        *formats.resolution(report, verdict),
    ]
    of = " for single rows, none for users" if formats.unmeasured_users(report) else ""
    yield section(f"What this evidence is worth: grade {report.grade}{of}", bullets(lines))


def _failures(report: AuditReport, verdict: Verdict) -> Iterator[RenderableType]:
    lines = [
        f"{each.attack}, {each.kind.replace('_', ' ')}: {each.reason}"
        for each in report.failures
        if f"{each.attack} does not apply: {each.reason}" not in verdict.notes  # which says it already
    ]
    yield from _listed("Attacks that gave no evidence", tuple(lines))


def _listed(title: str, lines: Sequence[Cell], mark: str = "-") -> Iterator[RenderableType]:
    if lines:
        yield section(title, bullets(lines, mark))
