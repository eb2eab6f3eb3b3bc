"""The contract of metrics: a limit that is read strictly, judged by its interval, and put into words."""

import math
from dataclasses import replace
from typing import Any

from redteam.report import Limit
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence
from redteam.statistics import Interval
from redteam.testing.examples import must
from redteam.testing.formats import judged_reports


def check_metric(metric: type[Metric] | Metric, setting: Any = 0.5) -> None:
    """Hold a metric to its contract; raise AssertionError with the line it breaks.

    `setting` is a value that its limit may have in a policy, such as 0.5 or `{"fpr": 0.01, "limit": 0.05}`.
    """
    it = metric() if isinstance(metric, type) else metric
    for what in ("name", "symbol", "description", "remedy", "measured_in"):
        said = getattr(it, what, None)
        must(isinstance(said, str) and said.strip(), f"{type(it).__name__}: {what} must be said")
    limits = it.read({it.key: setting})
    must(limits and all(limit.metric == it.name for limit in limits), f"{it.name}: its limit is on another metric")
    unfit: tuple[Any, ...] = (math.nan, math.inf, True, "much", None, [], {})
    for bad in unfit:
        _check_refused(it, bad)
    _check_judged(it, limits[0], replace(judged_reports()[0][0], grade="A"))


def _check_refused(metric: Metric, bad: Any) -> None:
    try:
        metric.read({metric.key: bad})
    except ValueError as error:
        must(metric.key in str(error), f"{metric.name}: what is wrong with {metric.key} = {bad!r} must name the key")
        return
    must(False, f"{metric.name}: {metric.key} = {bad!r} is taken for a limit")


def _check_judged(metric: Metric, limit: Limit, report: AuditReport) -> None:
    """Hold evidence beyond the limit, within it, across it, and too little of it against the limit."""
    step = min(0.05, limit.limit / 4 or 0.05)
    beyond, within, across = (_evidence(metric, limit, at * step, step) for at in (2, -2, 0))
    must(
        metric.outcome(beyond, limit, report) == "exceeded", f"{metric.name}: what is proven beyond a limit exceeds it"
    )
    must(metric.outcome(across, limit, report) == "inconclusive", f"{metric.name}: across its limit is inconclusive")
    if not metric.guaranteed:
        must(metric.outcome(within, limit, report) == "within", f"{metric.name}: what is proven within a limit is so")
    for little in (limit.limit, math.nan):
        seen = metric.outcome(replace(within, attainable=little), limit, report)
        must(seen == "underpowered", f"{metric.name}: a sample that could never break its limit must not pass")
    for said in (metric.finding(beyond, limit.limit), metric.meaning(beyond), metric.measured(beyond.interval)):
        must(said.strip() and said.isprintable(), f"{metric.name}: {said!r} is no line of text")


def _evidence(metric: Metric, limit: Limit, at: float, width: float) -> Evidence:
    """Return evidence so far beyond a limit that a perfect attack could have broken by far."""
    sign = 1 if metric.sense == "max" else -1
    value = limit.limit + sign * at
    interval = Interval(value, value - width, value + width, 0.01)
    return Evidence("attack", "one", metric.name, interval, 60, 60, sign * 1e3, limit.fpr, limit.delta)
