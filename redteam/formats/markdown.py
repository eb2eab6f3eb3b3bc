"""The report as a comment on a pull request: the verdict and the limits, the rest folded away.

It never shows single rows: a pull request has more readers than a report.
"""

from collections.abc import Iterator
from typing import Any

from redteam import formats
from redteam.formats import clip, code, in_markdown
from redteam.policy import Policy, State, Verdict
from redteam.report import LOW_BOUND, Check, Outcome, decimals, guarantee, number, plural, range_of
from redteam.report.metrics import metric
from redteam.report.reading import measured, measured_by
from redteam.report.values import AuditReport, ClassLeak, Evidence

_MOST = 100  # labels, groups or notes: a job summary of GitHub takes a mebibyte, a comment 65,536 characters
_OUTCOMES: dict[Outcome, str] = {
    "exceeded": "**leak**",
    "within": "within",
    "inconclusive": "inconclusive",
    "underpowered": "underpowered",
    "inadmissible": "not judged",
    "reversed": "reversed",
    "weaker": "not exceeded",
}
_STATES: dict[State, str] = {"proven": "**leak**", "waived": "waived", "baseline": "baseline"}


def render(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    lines = [
        f"### redteam: {formats.HEADLINES[verdict.status]}",
        "",
        in_markdown(formats.summary(verdict).partition(": ")[2]),
        "",
        f"Target {code(report.target.name)}, {plural(report.data.members, 'member')} and "
        f"{plural(report.data.nonmembers, 'non-member')}, evidence of grade {report.grade}"
        f"{' for single rows, none for users' if formats.unmeasured_users(report) else ''}, "
        f"judged by {code(policy.source)}.",
        *_checks(report, verdict),
        *((f"\n{LOW_BOUND}",) if any(each.guaranteed for each in measured(report)) else ()),
        *_listed("Findings", [_finding(each.id, each.message, each.excuse) for each in verdict.findings]),
        *_listed("Problems", [in_markdown(each) for each in verdict.problems]),
        *_details("What the numbers mean", _meanings(report)),
        *_details("Guarantee", _guarantee(report)),
        *_details("Evidence", _evidence(report, verdict)),
        *_details("Labels", _classes(report, "label", report.classes)),
        *_details("Groups", _classes(report, "group", report.groups)),
        *_details("How groups fare", _fairness(report)),
        *_details("Notes and limits of this audit", _notes(report, verdict)),
        *_details("What to do next", _bullets(formats.next_steps(report, verdict))),
    ]
    return "\n".join(lines) + "\n"


def _checks(report: AuditReport, verdict: Verdict) -> Iterator[str]:
    if not verdict.checks:
        return
    known = {evidence.id: evidence for evidence in report.evidence}
    states = {finding.id: finding.state for finding in verdict.findings}
    yield from ("", "| check | measured | limit | outcome |", "|---|---|---|---|")
    for check in verdict.checks:
        outcome = _STATES[states[check.id]] if check.id in states else _OUTCOMES[check.outcome]
        yield f"| {code(check.id)} | {_measured(check, known.get(check.id))} | {_limit(check)} | {outcome} |"


def _measured(check: Check, evidence: Evidence | None) -> str:
    if check.interval is None:
        return "by the guarantee"
    digits = decimals(check.interval, check.limit)
    if evidence is None:
        return measured_by(check.rule).measured(check.interval, digits=digits)
    return metric(evidence.metric).full(evidence, digits=digits)


def _limit(check: Check) -> str:
    digits = 2 if check.interval is None else decimals(check.interval, check.limit)
    return number(check.limit, digits=digits)


def _finding(identifier: str, message: str, excuse: str | None) -> str:
    return f"{code(identifier)} {in_markdown(message)}" + (f" ({in_markdown(excuse)})" if excuse else "")


def _listed(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"**{title}**", "")
        yield from (f"- {line}" for line in lines)


def _details(title: str, lines: Iterator[str]) -> Iterator[str]:
    content = list(lines)
    if content:
        # Markdown is only read inside <details> after a blank line.
        yield from ("", f"<details><summary>{title}</summary>", "", *content, "", "</details>")


def _bullets(lines: tuple[str, ...]) -> Iterator[str]:
    return (f"- {in_markdown(line)}" for line in lines)


def _meanings(report: AuditReport) -> Iterator[str]:
    for each in formats.strongest(report):
        of = metric(each.metric)
        name = f"{formats.metric_name(each)} {of.shown(each)}"
        yield f"- {in_markdown(name)} ({code(f'{each.attack} {each.signal}')}): {in_markdown(of.meaning(each))}"


def _guarantee(report: AuditReport) -> Iterator[str]:
    if report.guarantee is not None:
        rows = guarantee.rows(report, formats.strongest(report))
        yield from ("| | epsilon | delta | by | covers |", "|---|---|---|---|---|")
        yield from (f"| {' | '.join(in_markdown(cell) for cell in row)} |" for row in rows)
        yield from ("", f"{in_markdown(guarantee.status(report))}. {LOW_BOUND}")


def _evidence(report: AuditReport, verdict: Verdict) -> Iterator[str]:
    judged = {check.id for check in verdict.checks}
    rest = [evidence for evidence in report.evidence if evidence.id not in judged]
    if rest:
        yield from ("| described, not judged | measured |", "|---|---|")
        yield from (_row(evidence) for evidence in rest)


def _row(evidence: Evidence) -> str:
    return f"| {code(evidence.id)} | {metric(evidence.metric).full(evidence)} |"


def _classes(report: AuditReport, what: str, leaks: tuple[ClassLeak, ...]) -> Iterator[str]:
    known = [each for each in leaks if each.auc is not None]
    if not known:
        return
    known.sort(key=lambda each: -1.0 if each.auc is None else each.auc.low, reverse=True)
    yield from (f"| {what} | AUC of {in_markdown(report.classes_signal or 'the attack')} |", "|---|---|")
    for each in known[:_MOST]:
        assert each.auc is not None  # as of all that are known
        yield f"| {code(clip(each.label, 80))} | {range_of(each.auc)} |"
    if len(known) > _MOST:
        yield from ("", f"and {len(known) - _MOST:,} more in the saved report")


def _fairness(report: AuditReport) -> Iterator[str]:
    from redteam.formats.groups import HEADERS, tables  # which few reports have

    for title, rows, left in tables(report, verbose=False):
        yield from ("", f"{title}:", "", f"| {' | '.join(HEADERS)} |", "|---|---|---|---|")
        yield from (f"| {' | '.join(in_markdown(cell) for cell in row)} |" for row in rows)
        yield from left


def _notes(report: AuditReport, verdict: Verdict) -> Iterator[str]:
    yield from _bullets(verdict.notes)
    if (users := formats.user_line(report)) is not None:
        yield f"- users: {in_markdown(users)}"
    yield f"- grade {report.grade}: {in_markdown(formats.grade_words(report))}"
    yield f"- {in_markdown(formats.confidence(report))}"
    yield from (f"- {in_markdown(each)}" for each in report.attack_notes[:_MOST])
    if len(report.attack_notes) > _MOST:
        yield f"- and {len(report.attack_notes) - _MOST:,} more notes in the saved report"
    yield from (f"- {in_markdown(each)}" for each in formats.resolution(report, verdict))
    yield from (f"- not seen: {in_markdown(each)}" for each in formats.blind_spots(report))
