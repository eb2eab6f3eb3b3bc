"""What is allowed: limits and waivers, the judge that compares them with a report, and reports with each other.

The values stand here: a policy is the limits that `judge` holds evidence against, and what else must be; a verdict is
what it makes of a report, checks made, leaks proven, and what could not be judged.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from redteam.report import Check, Limit
from redteam.report.metrics import known_metrics, metric
from redteam.report.values import AuditReport
from redteam.statistics import Interval

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
    `require_references`: how many reference models an audit must have used.
    """

    limits: tuple[Limit, ...] = ()
    require: tuple[str, ...] = ()
    strict: bool = False
    waivers: tuple[Waiver, ...] = ()
    source: str = BUILT_IN
    lines: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    allow_untrained: bool = False
    require_references: int = 0

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
    """Return the limits a report is judged by: those that are set, and those on canaries where it knows of some.

    A report of clients' updates is judged by limits on these alone; where none is set, nothing may leak at all.
    """
    if report.unit == "client":
        every = {limit.metric: limit for limit in policy.limits}
        own = [each for each in known_metrics() if getattr(each, "of_clients", False)]
        return tuple(
            every.get(each.name, Limit(each.name, getattr(each, "chance", 0.0), required=False)) for each in own
        )
    if report.data.canaries or any(metric(each.metric).of_canaries for each in report.evidence):
        return with_unset(policy.limits)
    return policy.limits


State = Literal["proven", "waived", "baseline"]
Status = Literal["pass", "leak", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """A limit proven exceeded; `excuse` says why one that is waived or in the baseline fails nothing."""

    id: str
    rule: str
    message: str
    interval: Interval
    limit: float
    state: State
    remedy: str
    fingerprint: str
    excuse: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The judgement of one report: `findings` worst first, `problems` stand in the way of a pass."""

    exit_code: int
    status: Status
    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    baseline: bool = False

    @property
    def proven(self) -> tuple[Finding, ...]:
        """The findings that fail the run."""
        return tuple(finding for finding in self.findings if finding.state == "proven")


def fingerprint(rule: str, signal: str, target: str) -> str:
    """Name a finding the same way in every run, whatever was measured: SHA-256 in hexadecimal digits."""
    return hashlib.sha256(json.dumps([rule, signal, target]).encode()).hexdigest()
