"""What a policy makes of a report, as plain values: checks made, leaks proven, what could not be judged."""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from redteam.report.judging import Check
from redteam.statistics.interval import Interval

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
