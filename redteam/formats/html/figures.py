"""The pictures of an audit's report: the line of the project, curves, scores, labels, epsilons, canaries, costs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from redteam.formats import clip, metric_name, strongest
from redteam.formats.html.attackers import canaries, costs
from redteam.formats.html.charts import Mark, Range, Strip, histograms, log_ranges, ranges, roc, strips
from redteam.formats.html.page import Figure, HtmlTable
from redteam.formats.html.svg import spread
from redteam.policy import Policy, applying
from redteam.report import LOW_BOUND, LUCK, Limit, number, plural, range_of, share
from redteam.report.guarantee import rows as guarantee_rows
from redteam.report.guarantee import status
from redteam.report.metrics import Metric, metric
from redteam.report.pictures import Curve, Pictures
from redteam.report.values import AuditReport, ClassLeak, Evidence

_TOP = 10


def figures(report: AuditReport, policy: Policy, drawn: Pictures) -> Iterator[Figure]:
    """Yield the pictures at the top of a report, those of the signal that settles limits first."""
    limits = applying(policy, report)
    yield from the_line(report, limits)
    first = signals(report, drawn)[:1]
    for curve in first:
        yield from of_signal(curve, report, limits)
    yield from leaks("label", report.classes, report, limits)
    yield from leaks("group", report.groups, report, limits)
    yield from _users(report)
    yield from _risks(report)
    yield from _epsilon(report, limits)
    yield from canaries(report, limits)
    yield from costs(report, drawn.methods)


def signals(report: AuditReport, drawn: Pictures) -> list[Curve]:
    """Return the curves, that of the attack that settles limits first."""
    return sorted(drawn.curves, key=lambda each: each.attack != report.multiplicity.primary)


def limit_of(evidence: Evidence, limits: Sequence[Limit]) -> Limit | None:
    """Return the limit that a number is held against."""
    return next((each for each in limits if each.covers(evidence)), None)


def the_line(report: AuditReport, limits: Sequence[Limit]) -> Iterator[Figure]:
    """Yield what was measured, what is guaranteed and what is allowed, each metric on a scale of its own."""
    shown = [(each, metric(each.metric), limit_of(each, limits)) for each in strongest(report)]
    if not shown:
        return
    made = [_strip(each, of, limit, report) for each, of, limit in shown]
    headers = ("metric", "attack and signal", "measured", "guarantee", "limit")
    rows = tuple(
        (
            metric_name(each),
            f"{each.attack} {each.signal}",
            of.full(each),
            _accounted_words(of, report),
            "none" if limit is None else f"{limit.limit:g}",
        )
        for each, of, limit in shown
    )
    meaning = (
        "For each metric the strongest number of all attacks. What is proven about the people in the data begins at "
        "the thick end of a bar; where that end is beyond the dashed limit, a leak is proven.",
        *((LOW_BOUND,) if any(of.guaranteed for _, of, _ in shown) else ()),
    )
    title = "Measured lower bound, guarantee, policy limit"
    about = "; ".join(f"{name} {said}, limit {limit}" for name, _, said, _, limit in rows)
    yield Figure(title, strips(title, about, made), meaning, HtmlTable(headers, rows, ("measured", "limit")), wide=True)


def _strip(each: Evidence, of: Metric, limit: Limit | None, report: AuditReport) -> Strip:
    low, high = each.interval.low, each.interval.high
    accounted = report.guarantee.accounted.epsilon if of.guaranteed and report.guarantee is not None else None
    marks = [] if limit is None else [Mark(f"{limit.key} {limit.limit:g}", limit.limit, "limit")]
    if accounted is not None:
        marks.append(Mark(f"accounted {number(accounted)}", accounted, "guarantee"))
        high = max(low, accounted)
    values = [low, high, each.interval.value, *(mark.value for mark in marks)]
    whole = of.measured_in in ("share", "probability")
    values.append(0.5 if of.measured_in == "probability" else 0.0)  # chance
    name = f"{metric_name(each)} · {each.attack} {each.signal}"
    made = Range(name, low, high, None if of.guaranteed else each.interval.value, "", "plain", tuple(marks))
    if of.guaranteed and max(values) > 50 * max(low, 0.2):
        return Strip(replace(made, said=of.shown(each)), min(0.1, low or 0.1), max(values) * 1.3, log=True)
    ends = spread(values, least=0.0 if min(values) >= 0 else -1e300, most=1.0 if whole else 1e300)
    return Strip(replace(made, said=of.shown(each) if of.guaranteed else of.full(each)), *ends)


def _accounted_words(of: Metric, report: AuditReport) -> str:
    if not of.guaranteed:
        return "bounds epsilon only"
    return "none" if report.guarantee is None else number(report.guarantee.accounted.epsilon)


def of_signal(curve: Curve, report: AuditReport, limits: Sequence[Limit]) -> Iterator[Figure]:
    """Yield the ROC curve and the scores of one signal."""
    named = f"{curve.attack} {curve.signal}"
    own = [each for each in report.evidence if (each.attack, each.signal) == (curve.attack, curve.signal)]
    meanings = tuple(metric(each.metric).meaning(each) for each in own if each.fpr is not None)
    fprs = [each.fpr for each in limits if each.fpr is not None]
    rows = tuple(
        (f"{each.fpr:.3g}", f"{each.tpr:.3f}", f"[{each.low:.3f}, {each.high:.3f}]", share(each.tpr))
        for each in curve.points
    )
    band = (
        f"Above the dotted line of chance an outsider does better than guessing; far to the left he hardly accuses "
        f"anybody wrongly. The band holds at each single point with a confidence of {100 * (1 - curve.alpha):g}%."
    )
    headers = ("FPR", "TPR", "interval", "members found")
    title, about = f"ROC curve of {named}", f"{len(rows)} points from FPR {rows[0][0]} to {rows[-1][0]}" if rows else ""
    if rows:
        picture = roc(title, about, curve, fprs)
        yield Figure(title, picture, (*meanings, band), HtmlTable(headers, rows, ("FPR", "TPR", "interval")))
    yield _scores(curve, named, report)


def _scores(curve: Curve, named: str, report: AuditReport) -> Figure:
    alike = sum(map(min, curve.members, curve.nonmembers))
    unit = "members" if report.unit == "example" else "users who are members"
    pairs = zip(curve.edges, curve.edges[1:], curve.members, curve.nonmembers, strict=False)
    rows = tuple((f"{low:.4g} to {high:.4g}", f"{m:.1%}", f"{n:.1%}") for low, high, m, n in pairs)
    meaning = (
        f"Of the two shapes {alike:.0%} lie on each other: the more they do, the less a score tells who was in the "
        "data. "
        f"What stands out to the right are {unit} whom the model treats as seen before.",
    )
    title = f"Scores of {named}"
    about = f"Shares of members and non-members in {len(rows)} bins; {alike:.0%} of the two lie on each other"
    headers = ("score", "members", "non-members")
    return Figure(title, histograms(title, about, curve), meaning, HtmlTable(headers, rows, headers[1:]))


def leaks(what: str, found: Sequence[ClassLeak], report: AuditReport, limits: Sequence[Limit]) -> Iterator[Figure]:
    """Yield which labels or groups leak most: ten of them, surest first, and all that have a number in the table."""
    known = sorted(
        ((each, each.auc) for each in found if each.auc is not None), key=lambda pair: pair[1].low, reverse=True
    )
    if not known:
        return
    few = len(found) - len(known)
    top = known[:_TOP]
    drawn = [Range(each.label, auc.low, auc.high, auc.value, range_of(auc)) for each, auc in top]
    lines = [Mark("chance", 0.5, "chance")]
    lines += [
        Mark(f"{each.key} {each.limit:g}", each.limit, "limit")
        for each in limits
        if metric(each.metric).measured_in == "probability"
    ]
    ends = spread([v for row in drawn for v in (row.low, row.high)] + [m.value for m in lines], least=0.0, most=1.0)
    worst, most = top[0]
    sure = f"and at least {most.low * 100:.0f} times on the cautious reading" if most.low > 0.5 else LUCK
    meaning = (
        f"Of the people under {clip(worst.label, 60)!r} an outsider picks the one who was in the data "
        f"{most.value * 100:.0f} times in 100, {sure}; guessing gets 50. Intervals hold for all {what}s together."
        + (f" {plural(few, what)} had too few examples for a number." if few else ""),
    )
    rows = tuple((each.label, f"{each.members:,}", f"{each.nonmembers:,}", range_of(auc)) for each, auc in known)
    shown = f", the first {_TOP} of {len(known)}" if len(known) > _TOP else ""
    title = f"Which {what}s leak most{shown}"
    headers = (what, "members", "non-members", "AUC")
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    axis = f"AUC of {clip(report.classes_signal or 'the first signal', 40)}"
    yield Figure(
        title, ranges(title, about, drawn, lines, axis=axis, ends=ends), meaning, HtmlTable(headers, rows, headers[1:])
    )


def _users(report: AuditReport) -> Iterator[Figure]:
    users = report.users
    own = [each for each in report.evidence if each.unit == "user" and metric(each.metric).measured_in == "probability"]
    if users is None or users.rows_auc is None or not own:
        return
    best = max(own, key=lambda each: each.interval.low)
    drawn = [
        Range(
            "all rows of a user together",
            best.interval.low,
            best.interval.high,
            best.interval.value,
            range_of(best.interval),
        ),
        Range("row by row, not judged", users.rows_auc, users.rows_auc, users.rows_auc, number(users.rows_auc)),
    ]
    lines = [Mark("chance", 0.5, "chance")]
    ends = spread([0.5, best.interval.low, best.interval.high, users.rows_auc], least=0.0, most=1.0)
    title = "What a user leaks by all rows together"
    rows = tuple((row.name, row.said) for row in drawn)
    counts = f"{plural(users.members, 'user')} are members, {users.nonmembers:,} are not"
    meaning = (
        f"{metric(best.metric).meaning(best)} ({best.attack} {best.signal}).",
        f"{counts}, up to {plural(users.most, 'row')} each.",
    )
    about = "; ".join(f"{name} {said}" for name, said in rows)
    yield Figure(
        title,
        ranges(title, about, drawn, lines, axis="AUC", ends=ends),
        meaning,
        HtmlTable(("how", "AUC"), rows, ("AUC",)),
    )


def _risks(report: AuditReport) -> Iterator[Figure]:
    risky = [(each, each.risk) for each in report.exposed if each.risk is not None][:_TOP]
    if not risky:
        return
    drawn = [Range(each.id, risk.low, risk.high, risk.value, range_of(risk)) for each, risk in risky]
    ends = spread([v for row in drawn for v in (row.low, row.high)], least=0.0, most=1.0)
    title = "Which rows are told best"
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    rows = tuple((row.name, row.said) for row in drawn)
    meaning = ("Each is one row of one person: look at these first, they are what an outsider would name.",)
    yield Figure(
        title,
        ranges(title, about, drawn, [], axis="risk", ends=ends),
        meaning,
        HtmlTable(("row", "risk"), rows, ("risk",)),
    )


def _epsilon(report: AuditReport, limits: Sequence[Limit]) -> Iterator[Figure]:
    found = [each for each in strongest(report) if metric(each.metric).guaranteed]
    guarantee = report.guarantee
    if guarantee is None and not found:
        return
    drawn = []
    if guarantee is not None:
        for name, budget in (("nominal", guarantee.nominal), ("accounted", guarantee.accounted)):
            said = f"{number(budget.epsilon)} at delta {budget.delta:g}"
            drawn.append(Range(name, budget.epsilon, budget.epsilon, budget.epsilon, said, "guarantee"))
    for each in found:
        said, low = metric(each.metric).shown(each), each.interval.low
        name = f"measured: {each.attack} {each.signal}"
        drawn.append(Range(name, low, low, low, said))
        top = each.attainable
        drawn.append(Range("attainable: a perfect attack", top, top, top, f"up to {number(top)}", "attainable"))
    lines = [
        Mark(f"{each.key} {each.limit:g}", each.limit, "limit") for each in limits if metric(each.metric).guaranteed
    ]
    values = [v for row in drawn for v in (row.low,) if v > 0] + [line.value for line in lines if line.value > 0]
    low, high = min([0.1, *values]), max([10.0, *values])
    title = "Epsilon: nominal, accounted, measured, attainable"
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    picture = log_ranges(title, about, drawn, lines, axis="epsilon (logarithmic)", ends=(low / 1.3, high * 1.3))
    rows = tuple(guarantee_rows(report, found)) or tuple((row.name, row.said, "-", "-", "-") for row in drawn)
    meaning = tuple(metric(each.metric).meaning(each) for each in found)
    headers = ("epsilon", "value", "delta", "by", "covers")
    told = (*meaning, *((f"The guarantee: {status(report)}.",) if guarantee is not None else ()))
    yield Figure(title, picture, told, HtmlTable(headers, rows, ("value", "delta")))
