"""A policy as plain values: the limits that `judge` holds evidence against, and what else must be."""

from dataclasses import dataclass, field
from datetime import date

from redteam.report.judging import Limit
from redteam.report.metrics import known_metrics, metric
from redteam.report.values import AuditReport

BUILT_IN = "built-in limits"


@dataclass(frozen=True)
class Waiver:
    """A finding somebody answers for, until the end of the day `expires`."""

    id: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Policy:
    """What a report is judged by; `lines` say where in `source` a key stands.

    `allow_untrained`: a target passes that is not right on its members more often than their commonest label.
    """

    limits: tuple[Limit, ...] = ()
    require: tuple[str, ...] = ()
    strict: bool = False
    waivers: tuple[Waiver, ...] = ()
    source: str = BUILT_IN
    lines: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    allow_untrained: bool = False

    def line_of(self, key: str) -> int:
        """Return the line of `source` that sets `key`, 1 where it is not known."""
        return dict(self.lines).get(key, 1)


DEFAULT = Policy((Limit("auc", 0.55), Limit("tpr", 0.05, fpr=0.01)))


def with_unset(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Return limits with those that hold where none is set: on canaries nothing may be proven to be extracted."""
    named = {limit.metric for limit in limits}
    unset = (each.unset() for each in known_metrics() if each.name not in named)
    every = (*limits, *(limit for limit in unset if limit is not None))
    return tuple(sorted(every, key=lambda limit: metric(limit.metric).order))


def applying(policy: Policy, report: AuditReport) -> tuple[Limit, ...]:
    """Return the limits a report is judged by: those that are set, and those on canaries where it knows of some."""
    if report.data.canaries or any(metric(each.metric).of_canaries for each in report.evidence):
        return with_unset(policy.limits)
    return policy.limits
