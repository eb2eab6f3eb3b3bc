"""Hold a report against a policy: a pure function of the two, today's date and perhaps an older report.

Everything here fails closed. What is missing, refused, broken or too small to tell is a problem, and a report
with a problem is not passed; comparisons are written so that a NaN never passes one.

A leak is evidence whose bound is beyond a limit of the policy, or beyond the guarantee the training gave itself: the
second needs no policy, because a broken claim is wrong under every policy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from redteam.core import INCONCLUSIVE, LEAK, PASS, PolicyError
from redteam.policy import Finding, Policy, State, Status, Verdict, Waiver, applying, fingerprint
from redteam.policy.reading import expired
from redteam.report import SETTLE_NOTHING, Check, Limit, Ruling, plural
from redteam.report.metrics import metric
from redteam.report.reading import measured, only_fairness
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import same_share, surely_worse

_TOO_WEAK = "no limit is settled: what ran is too weak to keep one by finding less"
_SURE = 0.01  # the level at which refusals differ, as that of the controls
_UNLESS = "; allow_untrained = true in the policy accepts a target that is meant to know so little"


def judge(report: AuditReport, policy: Policy, *, today: date, baseline: AuditReport | None = None) -> Verdict:
    """Return what `policy` makes of `report`; leaks that `baseline` already proves do not fail it.

    Raises PolicyError where a waiver expired before `today`.
    """
    if outdated := expired(policy.waivers, today=today):
        raise PolicyError(f"{policy.source}: {outdated}")
    limits = applying(policy, report)
    rulings = [metric(limit.metric).rule_on(limit, report) for limit in limits]
    checks = tuple(check for ruling in rulings for check in ruling.checks)
    leaks = find_leaks(report, limits)
    findings = as_findings(leaks, report, policy, baseline)
    problems = tuple(_problems(report, policy, rulings, checks))
    notes = [*_notes(report, policy, rulings), *_baseline_notes(report, baseline, findings)]
    stale = unused(policy.waivers, leaks)
    notes += [f"waiver {each.id!r} matches no finding: remove it from {policy.source}" for each in stale]
    exit_code, status = _decide(findings, problems)
    return Verdict(exit_code, status, findings, checks, problems, tuple(notes), baseline is not None)


def _decide(findings: Sequence[Finding], problems: Sequence[str]) -> tuple[int, Status]:
    if any(finding.state == "proven" for finding in findings):  # first: no later failure undoes a proven leak
        return LEAK, "leak"
    return (INCONCLUSIVE, "inconclusive") if problems else (PASS, "pass")


def _problems(report: AuditReport, policy: Policy, rulings: Sequence[Ruling], checks: Sequence[Check]) -> Iterator[str]:
    if report.grade == "C":
        yield (
            f"evidence of grade C: {report.grade_reason}; membership would be read off the data, not the "
            "model: audit members and non-members that come from one source"
        )
    for each in measured(report):
        yield from each.problems(report)
    yield from _refusals_differ(report)
    yield from _failures(report, policy, "failed")  # before the limits, whose problems may come from it
    for ruling in rulings:
        yield from ruling.problems
        if policy.strict:
            yield from (f"strict: {each}" for each in ruling.inconclusive)
    if policy.strict:
        yield from (f"strict: {each}" for ruling in rulings for each in ruling.aside)
    yield from _missing(report, policy)
    if report.references < policy.require_references:
        yield (
            f"require_references = {policy.require_references}: the audit used {report.references}: audit again with "
            f"--references {policy.require_references}"
        )
    untrained = _untrained(report)
    if untrained is not None and not policy.allow_untrained:
        yield untrained
    yield from _failures(report, policy, "refused")
    if policy.strict and _taken_on_trust(report):
        yield f"strict: no control read the texts, so grade {report.grade} was taken on trust: audit again with one"
    if not any(check.interval is not None and check.outcome not in SETTLE_NOTHING for check in checks):
        weak = any(check.outcome == "weaker" for check in checks)
        yield _TOO_WEAK if weak else "no attack's evidence was judged: a report without measurements is no audit"


def _untrained(report: AuditReport) -> str | None:
    """Say where the target is not shown to have learned anything, or None: what it fails to leak then shows nothing."""
    seen, of = report.accuracy, max(1, report.data.members)
    if seen is None or seen.shows_learning(of):
        return None
    right, commonest, of_whom = (
        seen.members,
        seen.commonest,
        f"{plural(of, 'row' if only_fairness(report) else 'member')} of its own",
    )
    if seen.by_user is not None:
        right, commonest = seen.by_user.right, seen.by_user.commonest
        of_whom = f"the rows of each of {plural(seen.by_user.users, 'member user')} on average"
    if seen.commonest >= 1:
        return (
            "all members have one label, so that no accuracy shows that the target has learned anything: audit members "
            f"of several labels{_UNLESS}"
        )
    if surely_worse(seen.members * of, of, seen.commonest):
        return (
            f"the target is right on {seen.members:.1%} of its own members, where always answering the commonest label "
            f"would be right on {seen.commonest:.1%}: the labels of model and data do not mean the same, its texts are "
            f"cut into other tokens than in training, or it is another model{_UNLESS}"
        )
    return (
        f"the target is right on {right:.1%} of {of_whom}, not significantly more than the {commonest:.1%} of always "
        "answering their commonest label: the labels of model and data do not mean the same, its texts are cut into "
        "other tokens than in training, it is another model, or its training failed (or the members are too few to "
        f"tell){_UNLESS}"
    )


def _refusals_differ(report: AuditReport) -> Iterator[str]:
    """Say that a target refuses texts of one side more often: what is left out may be what leaks."""
    data, by_user = report.data, None if report.users is None else report.users.refusals
    skipped = data.skipped_members, data.skipped_nonmembers
    sizes = data.members + skipped[0], data.nonmembers + skipped[1]
    differ = same_share(*skipped, *sizes) < _SURE if by_user is None else not by_user.low <= 0.5 <= by_user.high
    if differ:
        yield (
            f"the target refuses {skipped[0]:,} of {plural(sizes[0], 'member')} and {skipped[1]:,} of "
            f"{plural(sizes[1], 'non-member')}, which is no chance: that itself tells members from non-members, and "
            "what was left out may be what leaks: audit texts that it answers, or see why it refuses them"
        )


def _answers(report: AuditReport) -> Iterator[str]:
    """Say what was made of the target's answers, and which texts it refused."""
    yield from (f"{report.target.name}: {note}" for note in report.target.notes)
    members, others = report.data.skipped_members, report.data.skipped_nonmembers
    if members or others:
        yield (
            f"{report.target.name}: refused {plural(members, 'member')} and {plural(others, 'non-member')}, which are "
            "left out"
        )


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
    yield from (*_answers(report), *(each for ruling in rulings for each in ruling.told))
    untrained = _untrained(report)
    if untrained is not None and policy.allow_untrained:
        yield f"allow_untrained = true lets a target pass of which this is true: {untrained.removesuffix(_UNLESS)}"
    if not policy.strict:
        yield from (each for ruling in rulings for each in ruling.aside)
        for ruling in rulings:
            yield from ruling.inconclusive
        if _taken_on_trust(report) and report.grade == "B":
            yield "no control ran: that members and non-members come from one source was taken on trust"
    if report.unit == "example" and report.users is not None and report.users.both:
        yield (
            f"{plural(report.users.both, 'user')} with rows on both sides: single rows were judged, and nothing for a "
            "user: train with --user-column to measure users"
        )
    for failure in report.failures:
        if failure.kind == "not_applicable" and failure.attack not in policy.require:
            yield f"{failure.attack} does not apply: {failure.reason}"
    guarantee = report.guarantee
    if guarantee is not None and guarantee.accounted.epsilon > guarantee.nominal.epsilon:
        yield (
            f"the nominal epsilon is {guarantee.nominal.epsilon:g}, but the training accounts for no less than "
            f"{guarantee.accounted.epsilon:g}: quote the second"
        )


def _taken_on_trust(report: AuditReport) -> bool:
    if only_fairness(report):
        return False
    return report.grade != "A" and not any(each.reads_texts for each in report.controls)


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
        for evidence in report.judged
        if limit.covers(evidence) and metric(limit.metric).outcome(evidence, limit, report) == "exceeded"
    ]
    return (*_broken_claim(report), *sorted(above, key=_severity, reverse=True))


def as_findings(
    leaks: Sequence[Leak], report: AuditReport, policy: Policy, baseline: AuditReport | None
) -> tuple[Finding, ...]:
    """Turn `leaks` of `report` to findings: proven ones first, then those in `baseline`, those that `policy` waives."""
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
    if report.guarantee is None:
        return ()
    from redteam.report.guarantee import CLAIM_ID, CLAIM_REMEDY, CLAIM_RULE, broken_claim

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
