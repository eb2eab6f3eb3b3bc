"""What can be measured and limited: one class per metric, in the file of this package that bears the metric's name.

A metric holds all that is known of it: the policy key and how its limit is read, what it is measured in, which way is
worse, which evidence grade admits it, the largest attainable bound, how evidence is judged, its words in findings,
tables and prose, and its rule and tags in SARIF. Nothing else asks which metric it has before it. A package brings its
own under the entry point group `redteam.metrics`, by its name. Only metrics that are named are imported.

`low > limit` is proven, `high <= limit` is proven within, all else is inconclusive; the other way round for a metric
that a policy bounds from below (`min_...`). A metric may be stricter, never laxer: NaN never passes.
"""

import functools
import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from redteam.core.errors import ReportError
from redteam.report.metric import Metric
from redteam.report.values import AuditReport

GROUP = "redteam.metrics"


@functools.cache
def metric(name: str) -> Metric:
    """Return the metric of that name; raise ReportError where nothing that is installed brings it."""
    if name in _own():
        module = importlib.import_module(f"{__name__}.{name}")
        found = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
        classes = [each for each in found if issubclass(each, Metric)]
    else:
        classes = [_load(entry) for entry in entry_points(group=GROUP, name=name)]
    if len(classes) != 1 or getattr(classes[0], "name", None) != name:
        known = ", ".join(names())
        raise ReportError(f"unknown metric {name!r}: known are {known}; install the package that measures it")
    made: Metric = classes[0]()
    return made


def names() -> tuple[str, ...]:
    """Return the name of every metric that there is, without importing any."""
    return tuple(sorted({*_own(), *(entry.name for entry in entry_points(group=GROUP))}))


def known_metrics() -> tuple[Metric, ...]:
    """Return every metric, in the order of policies."""
    return tuple(sorted(map(metric, names()), key=lambda each: (each.order, each.name)))


def measured(report: AuditReport) -> tuple[Metric, ...]:
    """Return the metrics of a report's evidence, in the order of policies."""
    found = {metric(each.metric) for each in report.evidence}
    return tuple(sorted(found, key=lambda each: (each.order, each.name)))


def measured_by(rule: str) -> Metric:
    """Return the metric of a rule or an id, such as `RT102.user.tpr@0.01:entropy`."""
    return metric(rule.partition(":")[0].partition("@")[0].rpartition(".")[2])


def _own() -> frozenset[str]:
    return frozenset(each.name for each in pkgutil.iter_modules(__path__))


def _load(entry: EntryPoint) -> Any:
    from redteam.core.discovery import load  # only where a package brings one

    return load(entry)
