"""The leaks a report proves, and which of them somebody already answers for.

A leak is evidence whose lower bound is above a limit of the policy, or above the guarantee the training gave
itself: the second needs no policy, because a broken claim is wrong under every policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from redteam.policy.limits import Policy, Waiver, applying
from redteam.policy.verdict import Finding, State, fingerprint
from redteam.report.guarantee import CLAIM_ID, CLAIM_REMEDY, CLAIM_RULE, broken_claim
from redteam.report.judging import Limit
from redteam.report.metrics import metric
from redteam.report.values import AuditReport, Evidence


@dataclass(frozen=True)
class Leak:
    """Evidence proven to be above `limit`, before anyone asks whether it is excused."""

    id: str
    rule: str
    signal: str
    evidence: Evidence
    limit: float
    message: str
    remedy: str


def find_leaks(report: AuditReport, limits: Sequence[Limit]) -> tuple[Leak, ...]:
    """Return every leak the report proves, the broken claim first and then the farthest above its limit."""
    above = [
        _leak(evidence, report, limit)
        for limit in limits
        for evidence in report.evidence
        if limit.covers(evidence) and metric(limit.metric).outcome(evidence, limit, report) == "exceeded"
    ]
    return (*_broken_claim(report), *sorted(above, key=_severity, reverse=True))


def as_findings(
    leaks: Sequence[Leak], report: AuditReport, policy: Policy, baseline: AuditReport | None
) -> tuple[Finding, ...]:
    """Turn leaks into findings: proven ones first, then those in the baseline, then those waived."""
    known = {} if baseline is None else {leak.id: leak for leak in find_leaks(baseline, applying(policy, baseline))}
    found = []
    for leak in leaks:
        state, excuse = _standing(leak, report, policy.waivers, known.get(leak.id), baseline)
        key = fingerprint(leak.rule, leak.signal, report.target.name)
        interval = leak.evidence.interval
        found.append(Finding(leak.id, leak.rule, leak.message, interval, leak.limit, state, leak.remedy, key, excuse))
    order: list[State] = ["proven", "baseline", "waived"]
    return tuple(sorted(found, key=lambda finding: order.index(finding.state)))


def unused(waivers: Sequence[Waiver], leaks: Sequence[Leak]) -> tuple[Waiver, ...]:
    """Return the waivers that no leak of this report needs."""
    return tuple(waiver for waiver in waivers if not any(_waives(waiver, leak) for leak in leaks))


def _leak(evidence: Evidence, report: AuditReport, limit: Limit) -> Leak:
    of = metric(evidence.metric)
    read, message = of.leak(evidence, limit, report)
    return Leak(evidence.id, evidence.rule, evidence.signal, read, limit.limit, message, of.remedy)


def _severity(leak: Leak) -> float:
    return metric(leak.evidence.metric).severity(leak.evidence, leak.limit)


def _broken_claim(report: AuditReport) -> tuple[Leak, ...]:
    """Find the strongest proof that more was leaked than the guarantee admits: one claim, so one finding."""
    broken = broken_claim(report)
    if broken is None:
        return ()
    evidence, admitted, message = broken
    # Which signal is the strongest may change between runs, so the signal is no part of a claim's identity.
    return (Leak(CLAIM_ID, CLAIM_RULE, evidence.metric, evidence, admitted, message, CLAIM_REMEDY),)


def _standing(
    leak: Leak,
    report: AuditReport,
    waivers: Sequence[Waiver],
    known: Leak | None,
    baseline: AuditReport | None,
) -> tuple[State, str | None]:
    for waiver in waivers:
        if _waives(waiver, leak):
            return "waived", f"waived until {waiver.expires}: {waiver.reason}"
    # Evidence of another grade is worth another thing: it cannot say that this leak was there before.
    if known is None or baseline is None or baseline.grade != report.grade or known.limit != leak.limit:
        return "proven", None
    of, shown = metric(leak.evidence.metric), known.evidence.interval
    before, now = of.turned(shown), of.turned(leak.evidence.interval)
    # Known only if as likely as not no worse: a baseline from few examples, all width, must not excuse anything.
    if not (now.value <= before.high and now.low <= before.value):
        return "proven", None
    return "baseline", f"already in the baseline, {of.measured(shown)} then: known, and still a leak"


def _waives(waiver: Waiver, leak: Leak) -> bool:
    return waiver.id in (leak.id, leak.rule)
