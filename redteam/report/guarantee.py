"""What a guarantee is worth next to what was measured: no attack bounds epsilon from above, only a guarantee does.

A mechanism's epsilon falls as its delta grows. So what is measured at delta d bounds the epsilon at every smaller delta
too, and says nothing about one at a larger delta; and it is held against a guarantee for the same unit only.
"""

from collections.abc import Iterator, Sequence

from redteam.report import at_delta, number, some, speaks_of
from redteam.report.metrics import Metric, metric
from redteam.report.values import AuditReport, Budget, Evidence, Guarantee

CLAIM_ID, CLAIM_RULE = "claim:epsilon", "claim.epsilon"
CLAIM_HELP = "the training does not give the guarantee it claims"
CLAIM_REMEDY = (
    "the training does not give the guarantee it claims: check per-example clipping, Poisson sampling, the "
    "noise scale and the accountant, and publish no epsilon until the audit agrees with it"
)


def refutes(evidence: Evidence, budget: Budget, report: AuditReport) -> bool:
    """Tell whether a measured epsilon proves a budget wrong: more was measured, at a delta that is no smaller.

    Only where both are about the same unit: what is measured of a user's rows together, no budget for single examples
    forbids, and a budget for users allows an exchange of one example more than the removal of a user.
    """
    of = metric(evidence.metric)
    if not of.guaranteed or not of.admits(report.grade) or not budget.covers(evidence.unit):
        return False
    return speaks_of(evidence, budget.delta) and not evidence.interval.low <= budget.epsilon


def standing_guarantee(report: AuditReport) -> Guarantee | None:
    """Return the guarantee, unless an attack measured more than it accounts for: that settles nothing."""
    if report.guarantee is None:
        return None
    accounted = report.guarantee.accounted
    return None if any(refutes(e, accounted, report) for e in report.judged) else report.guarantee


def broken_claim(report: AuditReport) -> tuple[Evidence, float, str] | None:
    """Return the strongest proof that more was leaked than the guarantee admits, that epsilon, and it in words."""
    guarantee = report.guarantee
    if guarantee is None:
        return None
    budgets = (guarantee.nominal, guarantee.accounted)
    above = [e for e in report.judged if any(refutes(e, budget, report) for budget in budgets)]
    if not above:
        return None
    worst = max(above, key=lambda e: e.interval.low)
    admitted = min((b for b in budgets if refutes(worst, b, report)), key=lambda budget: budget.epsilon)
    which = "claims a nominal" if admitted == guarantee.nominal else "accounts for"
    message = (
        f"the training {which} epsilon {admitted.epsilon:g}, but an outsider who thresholds {worst.signal} proves "
        f"{metric(worst.metric).full(worst)}{at_delta(worst)}: the guarantee does not hold"
    )
    return worst, admitted.epsilon, message


def incomparable(evidence: Sequence[Evidence], of: Metric, report: AuditReport) -> Iterator[str]:
    """Say that more was measured than a guarantee admits, at a delta or for a unit at which the two do not compare."""
    if report.guarantee is None:
        return
    for budget, which in ((report.guarantee.nominal, "nominal"), (report.guarantee.accounted, "accounted")):
        above = [e for e in evidence if of.admits(report.grade) and not e.interval.low <= budget.epsilon]
        others = [e.id for e in above if not budget.covers(e.unit) and e.unit == "example"]
        if others:
            yield (
                f"{some(others)}: more than the {which} epsilon {budget.epsilon:g} for each {budget.unit} was "
                "measured, but for single examples, which does not compare: audit users of random inclusion"
            )
        apart = [e for e in above if budget.covers(e.unit) and not speaks_of(e, budget.delta)]
        if apart:
            deltas = " and ".join(dict.fromkeys("no" if e.delta is None else f"{e.delta:g}" for e in apart))
            yield (
                f"{some([e.id for e in apart])}: more than the {which} epsilon {budget.epsilon:g} at delta "
                f"{budget.delta:g} was measured, but at {deltas} delta, which does not compare: account for the "
                "training at the delta of the audit, and audit again"
            )


def rows(report: AuditReport, strongest: Sequence[Evidence]) -> Iterator[tuple[str, str, str, str, str]]:
    """Return the nominal, accounted and measured epsilon: name, epsilon, delta, by what, what it covers."""
    if report.guarantee is None:
        return
    for name, budget in (("nominal", report.guarantee.nominal), ("accounted", report.guarantee.accounted)):
        covers = f"one {budget.unit} ({budget.neighbouring})"
        yield name, number(budget.epsilon), f"{budget.delta:.0e}", budget.accountant, covers
    best = [each for each in strongest if metric(each.metric).guaranteed]
    for each in best:
        delta = "-" if each.delta is None else f"{each.delta:.0e}"
        of = "" if report.guarantee.accounted.covers(each.unit) else f"one {each.unit}, which does not compare; "
        most = f"{of}this sample could have shown up to {number(each.attainable)}"
        yield "measured", metric(each.metric).shown(each), delta, f"{each.attack} {each.signal}", most
    if not best:
        yield "measured", "-", "-", "-", "no epsilon was measured: that takes random inclusion"


def status(report: AuditReport) -> str:
    """Say what the guarantee is worth next to what was measured."""
    if report.guarantee is None:
        return "the training gives no guarantee"
    if standing_guarantee(report) is None:
        return "refuted: an attack measured more than the training accounts for"
    found = [each for each in report.evidence if metric(each.metric).guaranteed]
    unit = report.guarantee.accounted.unit
    if found and not any(report.guarantee.accounted.covers(each.unit) for each in found):
        return f"not tested: it is for each {unit}, what was measured is for each {report.unit}"
    return "not refuted: no attack measured more than the training accounts for"
