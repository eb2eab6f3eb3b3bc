"""The report as one HTML file to look at: verdict, pictures with their numbers, and everything else to unfold.

It holds no script and nothing from elsewhere. Training text is never on it, not even where the report holds some: a
page is passed on more easily than a report.
"""

from typing import Any

from redteam.formats.html.audit import audit_page
from redteam.formats.html.page import draw
from redteam.policy import Policy, Verdict
from redteam.report.values import AuditReport


def render(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return the report as a page of its own."""
    return draw(audit_page(report, verdict, policy))
