"""What stands on the page of an audit: the verdict and the numbers that decide it first, the rest to unfold."""

import shlex
from collections.abc import Iterator

from redteam import formats
from redteam.formats.groups import HEADERS, tables
from redteam.formats.html.figures import figures, of_signal, signals
from redteam.formats.html.page import HtmlTable, Number, Page, Section
from redteam.policy import BUILT_IN, Policy, Verdict, applying
from redteam.report import LOW_BOUND, Check, Outcome, decimals, number, plural, range_of
from redteam.report.metrics import metric
from redteam.report.pictures import Pictures, pictures_of
from redteam.report.reading import measured_by
from redteam.report.values import AuditReport, ClassLeak, Evidence

OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "exceeded": ("leak proven", "leak"),
    "within": ("within the limit", "pass"),
    "inconclusive": ("inconclusive", "inconclusive"),
    "underpowered": ("underpowered: the sample is too small", "inconclusive"),
    "inadmissible": ("not judged", "inconclusive"),
    "reversed": ("reversed", "inconclusive"),
    "weaker": ("not exceeded", "plain"),
}
_STATES = {"proven": ("leak proven", "leak"), "waived": ("waived", "plain"), "baseline": ("in the baseline", "plain")}


def audit_page(report: AuditReport, verdict: Verdict, policy: Policy) -> Page:
    """Return the page of one judged report."""
    drawn = pictures_of(report)
    found = tuple(
        f"{each.id}: {each.message}" + (f" ({each.excuse})" if each.excuse else "") for each in verdict.findings
    )
    alarms = (("Findings", found), ("Problems: what keeps this report from passing", verdict.problems))
    return Page(
        title=f"Privacy audit of {report.target.name}",
        kind=verdict.status,
        word=formats.HEADLINES[verdict.status],
        sentence=formats.summary(verdict).partition(": ")[2],
        about=tuple(_about(report, policy)),
        numbers=tuple(_numbers(report, verdict))[:3],
        alarms=tuple((title, lines) for title, lines in alarms if lines),
        next=formats.next_steps(report, verdict),
        figures=tuple(figures(report, policy, drawn)),
        sections=tuple(each for each in _sections(report, verdict, policy, drawn) if not each.empty),
        foot=f"redteam {report.tool_version}, {report.created}. A finding is a proof, a pass is not.",
    )


def _about(report: AuditReport, policy: Policy) -> Iterator[tuple[str, str]]:
    target = report.target
    digest = f", digest {target.digest[:12]}" if target.digest else ""
    yield "Target", f"{target.name} ({target.kind}, {plural(target.classes, 'class', 'classes')}{digest})"
    yield "Attacker sees", target.access
    yield "Data", formats.data_line(report.data)
    if (users := formats.user_line(report)) is not None:
        yield "Users", users
    yield "Evidence", f"grade {report.grade}"
    yield "Policy", policy.source + (", strict" if policy.strict else "")
    yield "Date", report.created


def _numbers(report: AuditReport, verdict: Verdict) -> Iterator[Number]:
    """Yield the numbers that decide, proven leaks first, one of each metric before a second of any."""
    known = {each.id: each for each in report.evidence}
    settling = {each.id for each in report.judged if report.settles(each)}
    rank = {each.id: i for i, each in enumerate(verdict.findings)}
    checks = sorted(verdict.checks, key=lambda each: (rank.get(each.id, len(rank)), each.id not in settling))
    seen, later = set[str](), []
    states = {each.id: each.state for each in verdict.findings}
    for check in checks:
        made = _number(check, known.get(check.id), states.get(check.id))
        rule = check.rule.partition(".")[2]
        if rule in seen:
            later.append(made)
        else:
            seen.add(rule)
            yield made
    yield from later
    if not checks:
        yield Number("Evidence", f"grade {report.grade}", report.grade_reason, "nothing was judged", "inconclusive")


def _number(check: Check, evidence: Evidence | None, state: str | None) -> Number:
    outcome, kind = _STATES[state] if state is not None else OUTCOMES[check.outcome]
    if check.interval is None:
        return Number("Guarantee", "by the guarantee", f"limit {number(check.limit)}", outcome, kind)
    digits = decimals(check.interval, check.limit)
    limit = f"limit {number(check.limit, digits=digits)}"
    if evidence is None:
        return Number(check.id, measured_by(check.rule).measured(check.interval, digits=digits), limit, outcome, kind)
    name = f"{formats.metric_name(evidence)} by {evidence.attack} {evidence.signal}"
    return Number(name, metric(evidence.metric).full(evidence, digits=digits), limit, outcome, kind)


def _sections(report: AuditReport, verdict: Verdict, policy: Policy, drawn: Pictures) -> Iterator[Section]:
    yield Section("What this audit could not have seen", tuple(formats.blind_spots(report)), open=True)
    meanings = tuple(
        f"{formats.metric_name(each)} {of.shown(each)} ({each.attack} {each.signal}): {of.meaning(each)}"
        for each in formats.strongest(report)
        for of in (metric(each.metric),)
    )
    yield Section("What the numbers mean for the people in the data", meanings)
    every = HtmlTable(*_evidence(report, verdict))
    yield Section("Every number", formats.legend(report), (("", every),) if every.rows else ())
    limits = applying(policy, report)
    others = tuple(f for curve in signals(report, drawn)[1:] for f in of_signal(curve, report, limits))
    yield Section("Curves and scores of the other judged signals", figures=others)
    yield Section("All labels and groups", tables=tuple(_breakdowns(report)))
    yield Section("How groups fare", tables=tuple(_fairness(report)))
    yield Section("Members that an attacker would name first", tables=tuple(_exposed(report)))
    yield Section(f"What this evidence is worth: grade {report.grade}", tuple(_worth(report, verdict)))
    yield _errors(report)
    failures = tuple((each.attack, each.kind.replace("_", " "), each.reason) for each in report.failures)
    table = (("", HtmlTable(("attack", "what", "reason"), failures)),) if failures else ()
    yield Section("Attacks that gave no evidence", tables=table)
    yield Section("Notes", (*verdict.notes, *report.attack_notes, *report.target.notes))
    methods = tuple((f"{each.attack} {each.name}, needs {each.needs}", each.manual) for each in drawn.methods)
    yield Section("Method of every attack", texts=methods)
    yield Section("What standards call it", tables=tuple(_standards(report)))
    yield _again(report, policy, drawn)


def _fairness(report: AuditReport) -> Iterator[tuple[str, HtmlTable]]:
    for title, rows, _ in tables(report, verbose=True):
        yield title, HtmlTable(HEADERS, tuple(rows))


def _evidence(
    report: AuditReport, verdict: Verdict
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], tuple[str, ...]]:
    checks = {each.id: each for each in verdict.checks}
    states = {each.id: each.state for each in verdict.findings}
    judged = {each.id for each in report.judged}
    rows = []
    for each in report.evidence:
        check = checks.get(each.id)
        digits = 2 if check is None else decimals(each.interval, check.limit)
        outcome = ("no limit" if each.id in judged else "described") if check is None else OUTCOMES[check.outcome][0]
        if each.id in states:
            outcome = _STATES[states[each.id]][0]
        limit = "-" if check is None else number(check.limit, digits=digits)
        cells = metric(each.metric).cells(each, digits=digits)
        rows.append((each.attack, each.signal, formats.metric_name(each), *cells, limit, outcome))
    headers = ("attack", "signal", "metric", "value", "interval", "limit", "outcome")
    return headers, tuple(rows), ("value", "interval", "limit")


def _breakdowns(report: AuditReport) -> Iterator[tuple[str, HtmlTable]]:
    for what, leaks in (("label", report.classes), ("group", report.groups)):
        if leaks:
            ordered = sorted(leaks, key=lambda each: -1.0 if each.auc is None else each.auc.low, reverse=True)
            headers = (what, "members", "non-members", "AUC")
            yield f"By {what}, {report.classes_signal}", HtmlTable(headers, tuple(map(_leak, ordered)), headers[1:])


def _leak(each: ClassLeak) -> tuple[str, str, str, str]:
    return (
        each.label,
        f"{each.members:,}",
        f"{each.nonmembers:,}",
        "too few" if each.auc is None else range_of(each.auc),
    )


def _exposed(report: AuditReport) -> Iterator[tuple[str, HtmlTable]]:
    if report.exposed:
        rows = tuple((each.id, each.label or "-", (each.hash or "-")[:16]) for each in report.exposed)
        yield f"By {report.classes_signal or 'the first attack'}", HtmlTable(("row", "label", "salted hash"), rows)


def _worth(report: AuditReport, verdict: Verdict) -> Iterator[str]:
    yield formats.grade_words(report)
    yield f"why: {report.grade_reason}"
    controls = [f"control {each.control} saw AUC {range_of(each.auc)}" for each in report.controls]
    yield from controls or ["no control ran"]
    yield from formats.resolution(report, verdict)
    if any(metric(each.metric).guaranteed for each in report.evidence):
        yield LOW_BOUND


def _errors(report: AuditReport) -> Section:
    shares = tuple((each.id, f"{each.error:.3g}") for each in report.multiplicity.shares)
    tables = (("Error of each judged number", HtmlTable(("number", "error"), shares, ("error",))),) if shares else ()
    return Section("Family of errors", (formats.confidence(report),), tables)


def _standards(report: AuditReport) -> Iterator[tuple[str, HtmlTable]]:
    rows = tuple(
        (
            attack,
            f"{', '.join(each.atlas)} ({each.atlas_version})",
            ", ".join(each.nist_aml),
            ", ".join(each.owasp_ml),
        )
        for attack, each in sorted(report.taxonomy.items())
    )
    if rows:
        headers = ("attack", "MITRE ATLAS (version)", "NIST AI 100-2 (2025)", "OWASP ML Top 10 (2023)")
        yield "", HtmlTable(headers, rows)


def _again(report: AuditReport, policy: Policy, drawn: Pictures) -> Section:
    words = [
        "redteam",
        "audit",
        report.target.name[:400],
        "--seed",
        str(report.seed),
        "--alpha",
        f"{report.multiplicity.alpha:g}",
    ]
    if policy.source != BUILT_IN:
        words += ["--policy", policy.source]
    note = (
        "The same model, ledger and data, the same version and seed, and on the same kind of machine the same numbers; "
        "options for files, columns, attacks and endpoints are those of the first run."
    )
    rows = tuple(drawn.environment.items())
    environment = (("Environment", HtmlTable(("part", "version"), rows)),) if rows else ()
    return Section("Do it again", (note,), environment, (("", " ".join(map(shlex.quote, words))),))
