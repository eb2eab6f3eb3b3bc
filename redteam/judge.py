"""Hold a report against a policy: a pure function of the two, today's date and perhaps an older report.

Everything here fails closed. What is missing, refused, broken or too small to tell is a problem, and a report
with a problem is not passed; comparisons are written so that a NaN never passes one.
"""

from collections.abc import Iterator, Sequence
from datetime import date

from redteam.checks import Ruling, rule_on
from redteam.errors import PolicyError
from redteam.findings import as_findings, find_leaks, unused
from redteam.limits import Policy
from redteam.policy import expired
from redteam.report import BLIND_CONTROL, AuditReport
from redteam.verdict import LEAK, NOT_AUDITED, PASS, Check, Finding, Status, Verdict
from redteam.wording import plural


def judge(report: AuditReport, policy: Policy, *, today: date, baseline: AuditReport | None = None) -> Verdict:
    """Return what `policy` makes of `report`; leaks that `baseline` already proves do not fail it.

    Raises PolicyError where a waiver expired before `today`.
    """
    if outdated := expired(policy.waivers, today=today):
        raise PolicyError(f"{policy.source}: {outdated}")
    rulings = [rule_on(limit, report) for limit in policy.limits]
    checks = tuple(check for ruling in rulings for check in ruling.checks)
    leaks = find_leaks(report, policy.limits)
    findings = as_findings(leaks, report, policy, baseline)
    problems = tuple(_problems(report, policy, rulings, checks))
    notes = [*_notes(report, policy, rulings), *_baseline_notes(report, baseline, findings)]
    notes += [
        f"waiver {waiver.id!r} matches no finding: remove it from {policy.source}"
        for waiver in unused(policy.waivers, leaks)
    ]
    exit_code, status = _decide(findings, problems)
    return Verdict(exit_code, status, findings, checks, problems, tuple(notes), baseline is not None)


def _decide(findings: Sequence[Finding], problems: Sequence[str]) -> tuple[int, Status]:
    if any(finding.state == "proven" for finding in findings):  # first: no later failure undoes a proven leak
        return LEAK, "leak"
    return (NOT_AUDITED, "not_audited") if problems else (PASS, "pass")


def _problems(report: AuditReport, policy: Policy, rulings: Sequence[Ruling], checks: Sequence[Check]) -> Iterator[str]:
    if report.grade == "C":
        yield (
            f"evidence of grade C: {report.grade_reason}; membership would be read off the data, not the "
            "model: audit members and non-members that come from one source"
        )
    yield from _failures(report, policy, "failed")  # before the limits, whose problems may come from it
    for ruling in rulings:
        yield from ruling.problems
        if policy.strict:
            yield from (f"strict: {each}" for each in ruling.unsettled)
    yield from _missing(report, policy)
    yield from _failures(report, policy, "refused")
    if policy.strict and _taken_on_trust(report):
        yield f"strict: no control ran, so grade {report.grade} was taken on trust: audit again with RT901"
    if not any(check.interval is not None and check.outcome != "unjudgeable" for check in checks):
        yield "no attack's evidence was judged: a report without measurements is no audit"


def _failures(report: AuditReport, policy: Policy, kind: str) -> Iterator[str]:
    for failure in report.failures:
        if failure.kind == kind and failure.attack not in policy.require:
            yield f"{failure.attack} {failure.kind}: {failure.reason}"


def _missing(report: AuditReport, policy: Policy) -> Iterator[str]:
    """Say which required attacks and controls gave nothing, and why."""
    seen = {evidence.attack for evidence in report.evidence} | {each.control for each in report.controls}
    for attack in policy.require:
        reasons = [f"{each.kind}: {each.reason}" for each in report.failures if each.attack == attack]
        if attack not in seen or reasons:
            why = "; ".join(reasons) or "it is not in the report: audit again with it"
            gave = "did not give all of its evidence" if attack in seen else "gave no evidence"
            yield f"{attack} is required and {gave}: {why}"


def _notes(report: AuditReport, policy: Policy, rulings: Sequence[Ruling]) -> Iterator[str]:
    if not policy.strict:
        for ruling in rulings:
            yield from ruling.unsettled
        if _taken_on_trust(report) and report.grade == "B":
            yield "no control ran: that members and non-members come from one source was taken on trust"
    for failure in report.failures:
        if failure.kind == "not_applicable" and failure.attack not in policy.require:
            yield f"{failure.attack} does not apply: {failure.reason}"
    guarantee = report.guarantee
    if guarantee is not None and guarantee.earned.epsilon > guarantee.claimed.epsilon:
        yield (
            f"the training claims epsilon {guarantee.claimed.epsilon:g} but earned only "
            f"{guarantee.earned.epsilon:g}: quote the second"
        )


def _taken_on_trust(report: AuditReport) -> bool:
    return report.grade != "A" and all(each.control != BLIND_CONTROL for each in report.controls)


def _baseline_notes(report: AuditReport, baseline: AuditReport | None, findings: Sequence[Finding]) -> Iterator[str]:
    if baseline is None:
        return
    known = sum(finding.state == "baseline" for finding in findings)
    if known:
        yield f"{plural(known, 'finding')} in the baseline: a leak that is known is still a leak"
    if baseline.grade != report.grade:
        yield (
            f"the baseline is of grade {baseline.grade}, this report of grade {report.grade}: "
            "the baseline excuses nothing"
        )
    if baseline.target.name != report.target.name:
        yield f"the baseline is of {baseline.target.name}, this report of {report.target.name}"
