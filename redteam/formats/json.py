"""The report itself, as `gate` and `--baseline` read it: no verdict, because the policy may change."""

from typing import Any

from redteam.formats import json_text
from redteam.policy import Policy, Verdict
from redteam.report.values import AuditReport


def render(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return the JSON of the report, safe to print: only the form of its strings differs from `to_json`."""
    return json_text(report.to_json())
