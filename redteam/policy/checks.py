"""Hold every limit against all the evidence there is for it, and say what stands in the way of judging it.

A metric is an interval. `low > limit` is a proven leak, `high <= limit` is proven within, all else is
inconclusive. Epsilon is the exception at the upper end: no attack bounds it from above, only a guarantee does; and two
epsilons compare only where the measured one's delta is no smaller. An AUC counts in both directions, since who knows
that it is below 1/2 need only turn the attack round: far below 1/2 is a leak where coins decided membership, and
elsewhere a sign that the sides are swapped or of two sources.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from redteam.policy.limits import Limit
from redteam.policy.verdict import NOT_JUDGED, Check, Outcome
from redteam.report.values import CANARY_METRICS, AuditReport, Budget, Evidence, Guarantee, Unit
from redteam.report.wording import LOW_BOUND, SYMBOLS, against, number, of_either, plural, range_of, some
from redteam.statistics.resolution import attainable_tpr, examples_needed, smallest_resolvable_fpr

GUARANTEE = "guarantee.epsilon"


@dataclass(frozen=True)
class Ruling:
    """What holding one limit against a report gave; `inconclusive` becomes notes, or problems under strict."""

    checks: tuple[Check, ...] = ()
    problems: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()


def rule_on(limit: Limit, report: AuditReport) -> Ruling:
    """Hold one limit against every piece of evidence it covers, and an epsilon against the guarantee too."""
    covered = tuple(evidence for evidence in report.evidence if limit.covers(evidence))
    outcomes = tuple((evidence, outcome(evidence, limit, report)) for evidence in covered)
    checks = tuple(Check(e.id, e.rule, limit.limit, e.interval, o) for e, o in outcomes)
    unjudged = [e for e, o in outcomes if o in NOT_JUDGED and admissible(e, report)]
    apart = [e for e in unjudged if not _compares(e, limit)]
    tiny = [e for e in unjudged if _compares(e, limit)]
    open_ = [e for e, o in outcomes if o == "inconclusive"]
    problems = _too_small(limit, tiny)
    inconclusive = (_inconclusive(limit, open_),) if open_ else ()
    if limit.metric == "epsilon":
        unbounded = _unbounded(limit, report, outcomes)
        return Ruling(
            (*checks, *_guarantee_checks(limit, report)),
            (*unbounded, *_other_deltas(limit, apart), *problems),
            () if unbounded else inconclusive,  # said already
        )
    planted = limit.metric in CANARY_METRICS and report.data.canaries > 0
    if not covered and (limit.required or planted) and not (report.grade == "C" and limit.metric in ("auc", "tpr")):
        problems = (_missing(limit, report),)
    if covered and planted:
        problems = (*problems, *_unasked(limit, report))
    return Ruling(checks, problems, inconclusive)


def outcome(evidence: Evidence, limit: Limit, report: AuditReport) -> Outcome:
    """Tell what one piece of evidence says about one limit."""
    if not admissible(evidence, report):
        return "inadmissible"
    if not _compares(evidence, limit):
        return "within" if _guaranteed(limit, report) else "inadmissible"
    if evidence.interval.low > limit.limit:
        return "exceeded"
    if below(evidence, report, limit):
        return "exceeded"
    if reversed_sides(evidence, report):
        return "reversed"
    if limit.metric == "epsilon" and _guaranteed(limit, report):
        return "within"
    if not limit.limit < evidence.attainable:
        return "underpowered"
    lowest = 1 - limit.limit if limit.metric == "auc" else 0.0
    if limit.metric != "epsilon" and evidence.interval.high <= limit.limit and evidence.interval.low >= lowest:
        return "within"
    return "inconclusive"


def below(evidence: Evidence, report: AuditReport, limit: Limit) -> bool:
    """Tell whether, under coins, an AUC is proven to be as far below 1/2 as its limit is above."""
    return limit.metric == "auc" and report.grade == "A" and evidence.interval.high < 1 - limit.limit


def reversed_sides(evidence: Evidence, report: AuditReport) -> bool:
    """Tell whether non-members are proven to look more like members than members do, where no coin chose them."""
    return evidence.metric == "auc" and report.grade != "A" and evidence.interval.high < 0.5


def admissible(evidence: Evidence, report: AuditReport) -> bool:
    """Tell whether the evidence grade lets this metric be judged at all."""
    if evidence.metric == "epsilon":
        return report.grade == "A"
    return report.grade != "C" or evidence.metric not in ("auc", "tpr")


def standing_guarantee(report: AuditReport) -> Guarantee | None:
    """Return the guarantee, unless an attack measured more than it accounts for: that settles nothing."""
    if report.guarantee is None:
        return None
    accounted = report.guarantee.accounted
    return None if any(refutes(e, accounted, report) for e in report.evidence) else report.guarantee


def refutes(evidence: Evidence, budget: Budget, report: AuditReport) -> bool:
    """Tell whether a measured epsilon proves a budget wrong: more was measured, at a delta that is no smaller.

    Only where both are about the same unit: what is measured of a user's rows together, no budget for single examples
    forbids, and a budget for users allows an exchange of one example more than the removal of a user.
    """
    if evidence.metric != "epsilon" or not admissible(evidence, report) or not budget.covers(evidence.unit):
        return False
    return speaks_of(evidence, budget.delta) and not evidence.interval.low <= budget.epsilon


def speaks_of(evidence: Evidence, delta: float | None) -> bool:
    """Tell whether a measured epsilon bounds that at `delta` too: a mechanism's epsilon falls as its delta grows."""
    return evidence.delta is not None and delta is not None and evidence.delta >= delta


def _compares(evidence: Evidence, limit: Limit) -> bool:
    return limit.metric != "epsilon" or speaks_of(evidence, limit.delta)


def _guaranteed(limit: Limit, report: AuditReport) -> bool:
    guarantee = standing_guarantee(report)
    if guarantee is None or limit.delta is None or not _about(guarantee, report):
        return False
    return guarantee.accounted.epsilon <= limit.limit and guarantee.accounted.delta <= limit.delta


def _about(guarantee: Guarantee, report: AuditReport) -> bool:
    """Tell whether a guarantee can settle what a report is about: one for single examples settles nothing for users."""
    return report.unit == "example" or guarantee.accounted.covers(report.unit)


def _guarantee_checks(limit: Limit, report: AuditReport) -> tuple[Check, ...]:
    if standing_guarantee(report) is None:
        return ()
    settled: Outcome = "within" if _guaranteed(limit, report) else "inconclusive"
    return (Check(GUARANTEE, GUARANTEE, limit.limit, None, settled),)


def _unbounded(limit: Limit, report: AuditReport, outcomes: Sequence[tuple[Evidence, Outcome]]) -> tuple[str, ...]:
    """Say why nothing holds epsilon below its limit, unless a guarantee does or a finding says otherwise."""
    if _guaranteed(limit, report) or any(o == "exceeded" for _, o in outcomes):
        return ()
    guarantee = standing_guarantee(report)
    if guarantee is not None and not _about(guarantee, report):
        return (
            f"{limit.name} is not met for users: the guarantee is for each {guarantee.accounted.unit}, and says "
            "nothing about all rows of a user together: train with a guarantee for users, or audit single rows",
        )
    if guarantee is not None:
        return (
            f"{limit.name} is not met by the guarantee: the training accounts for epsilon "
            f"{guarantee.accounted.epsilon:g} at delta {guarantee.accounted.delta:g}, and no attack can bound it from "
            f"above: {_meet(limit, guarantee)}",
        )
    if not outcomes:
        return (
            f"{limit.name}: the report has neither an epsilon measured on randomised members nor a "
            "guarantee: train with DP-SGD, or put examples in and out by coin flips and audit again",
        )
    if report.grade != "A":
        return (
            f"{limit.name} cannot be judged on evidence of grade {report.grade}: an epsilon is only proven "
            "where every audited example was put in or left out by a coin flip: train with "
            "randomised members",
        )
    open_ = [evidence for evidence, o in outcomes if o == "inconclusive"]
    refuted = ", and the one that the report has is proven wrong" if report.guarantee is not None else ""
    return (f"{_inconclusive(limit, open_)} No guarantee meets the limit{refuted}: train with DP-SGD",) if open_ else ()


def _meet(limit: Limit, guarantee: Guarantee) -> str:
    if guarantee.accounted.epsilon <= limit.limit:
        return "account for it at the limit's delta, or raise max_delta"
    return "train with more noise or raise the limit"


def _other_deltas(limit: Limit, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """Say that what was measured at a smaller delta, or at none, is no measure of the limit."""
    if not evidence:
        return ()
    deltas = " and ".join(dict.fromkeys("no" if e.delta is None else f"{e.delta:g}" for e in evidence))
    return (
        f"{limit.name} cannot be held against {some([e.id for e in evidence])}, measured at delta {deltas}: an epsilon "
        "says nothing about a larger delta: set max_delta to the delta of the guarantee",
    )


def _missing(limit: Limit, report: AuditReport) -> str:
    what = SYMBOLS[limit.metric]
    if limit.fpr is not None:
        return f"{limit.name}: the report has no TPR at FPR {limit.fpr:g}: audit again with --fpr {limit.fpr:g}"
    if limit.metric in CANARY_METRICS:
        if report.data.canaries:
            held = plural(report.data.canaries, "canary", "canaries")
            able = "RT201" if limit.metric == "exposure" else "RT201, RT202 or RT203"
            return f"{limit.name}: the data holds {held}, but no attack gave an {what}: audit with {able}"
        return f"{limit.name}: the report has no {what}: audit a model with canaries, or drop the limit"
    if report.target.access == "labels":
        needs = "an attack that needs no more than labels, which is all that the target shows"
        return f"{limit.name}: the report has no {what}: audit again without --attack, or with {needs}"
    return f"{limit.name}: the report has no {what}: audit again with a membership attack (RT1xx)"


def _unasked(limit: Limit, report: AuditReport) -> tuple[str, ...]:
    """Say that no attack applied to some of the canaries: what the others show is nothing about them."""
    asked: dict[str, int] = {}
    for evidence in report.evidence:
        if evidence.metric == limit.metric:
            asked[evidence.attack] = asked.get(evidence.attack, 0) + evidence.members
    held, most = report.data.canaries, max(asked.values())
    what = SYMBOLS[limit.metric]
    return () if most >= held else (f"{limit.name}: no attack gave an {what} for {held - most} of {held} canaries",)


def _too_small(limit: Limit, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """Say once per sample size that it could never fail the limit, and which size could."""
    sizes: dict[tuple[int, int, float, float, Unit], list[str]] = {}
    for e in evidence:
        sizes.setdefault((e.members, e.nonmembers, e.attainable, e.interval.alpha, e.unit), []).append(e.id)
    return tuple(
        f"{limit.name} cannot be judged on {_sample(limit, members, nonmembers, unit)}: {_most(attainable)} ("
        f"{some(ids)}); {_way_out(limit, attainable, alpha, unit, (members, nonmembers))}"
        for (members, nonmembers, attainable, alpha, unit), ids in sizes.items()
    )


def _most(attainable: float) -> str:
    if attainable > 0:
        return f"a perfect attack would prove no more than {number(attainable)}"
    return "not even a perfect attack would prove anything"


def _sample(limit: Limit, members: int, nonmembers: int, unit: Unit) -> str:
    if limit.metric in CANARY_METRICS:
        return plural(members, "canary", "canaries")
    return of_either(members, nonmembers, unit)


def _way_out(limit: Limit, attainable: float, alpha: float, unit: Unit, have: tuple[int, int]) -> str:
    if limit.metric == "epsilon":
        return f"audit more randomised {unit}s"
    if limit.metric in CANARY_METRICS:
        longer = limit.metric == "exposure" and attainable > 0
        return "plant longer secrets and train again" if longer else "plant more canaries and train again"
    needed = examples_needed(limit.metric, limit.limit, alpha=alpha, fpr=limit.fpr) if 0 < alpha < 1 else None
    if needed is None:
        return "no number of examples would do: lower the limit"
    return f"audit {_lacking(needed, have, unit)}{_other_fpr(limit, alpha, have)}"


def _other_fpr(limit: Limit, alpha: float, have: tuple[int, int]) -> str:
    """Offer the smallest FPR at which the same examples could break the same limit, where there is one."""
    if limit.metric != "tpr" or limit.fpr is None or have[1] < 1:
        return ""
    least = math.ceil(1000 * smallest_resolvable_fpr(have[1], alpha=alpha)) / 1000
    if not limit.fpr < least < 0.5 or attainable_tpr(*have, fpr=least, alpha=alpha) <= limit.limit:
        return ""
    return f", or limit the TPR at an FPR of {least:g} or more"


def _lacking(needed: tuple[int, int], have: tuple[int, int], unit: Unit) -> str:
    """Return how many it takes, of one side only where the other has enough."""
    short = [side for side in (0, 1) if have[side] < needed[side]]
    if len(short) != 1:
        return f"at least {of_either(*needed, unit)}"
    (side,) = short
    names = ("members", "non-members") if unit == "example" else ("users who are members", "users who are not")
    return f"at least {needed[side]:,} {names[side]}"


def _inconclusive(limit: Limit, evidence: Sequence[Evidence]) -> str:
    widest = max(evidence, key=lambda e: e.interval.high)
    if limit.metric in CANARY_METRICS and not limit.limit > 0:
        ids, value = some([e.id for e in evidence]), range_of(widest.interval)
        return (
            f"{limit.name}: nothing is proven to come out by {ids} ({value}), and no attack can prove that nothing does"
        )
    shown = against(widest.interval, limit.limit, ", limit ", widest.rule)
    more = "canaries" if limit.metric in CANARY_METRICS else f"{widest.unit}s"
    why = f"the interval reaches over the limit, more {more} would narrow it"
    if limit.metric == "epsilon":
        why = f"an attack never bounds epsilon from above, only a guarantee does. {LOW_BOUND}"
    return f"{limit.name} is not settled by {some([e.id for e in evidence])} ({shown}): {why}"
