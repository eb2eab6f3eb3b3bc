"""The contract of formats: text that ends in a newline, the same twice, and safe to print whatever a report holds."""

from dataclasses import replace
from datetime import date
from functools import cache

from redteam.auditing.run import audit
from redteam.data import Split
from redteam.formats import Render
from redteam.policy import Policy, Verdict
from redteam.policy.judge import judge
from redteam.report import Limit
from redteam.report.values import AuditReport
from redteam.testing.examples import RuleTarget, must, sentences

_HOSTILE = "\x1b[2J<b>`|\x07\u202e]]>\r\n# not a heading"
_POLICY = Policy((Limit("auc", 0.6),), source="contract")


def check_format(render: Render) -> None:
    """Hold a format, its `render` function, to its contract; raise AssertionError with the line it breaks."""
    for report, verdict in judged_reports():
        drawn = render(report, verdict, policy=_POLICY)
        must(isinstance(drawn, str) and drawn.endswith("\n"), "must return text that ends in a newline")
        must(drawn == render(report, verdict, policy=_POLICY), "must return the same text for the same report")
        drawn.encode("utf-8")  # a lone surrogate cannot be
        bad = sorted({character for character in drawn if character != "\n" and not character.isprintable()})
        must(not bad, f"lets {bad} through to a terminal: clean what comes from a report (redteam.formats)")
    drawn = render(*judged_reports()[0], policy=_POLICY, width=80, color=False, unheard_of=1)
    must(drawn, "must take options of other formats, and ignore them (**_)")


@cache
def judged_reports() -> tuple[tuple[AuditReport, Verdict], ...]:
    """Return a leak, and one of a target with a hostile name and with a name that is no text."""
    members, others = sentences(120, seed=1), sentences(120, seed=2)
    report = audit(RuleTarget(members), Split.of(members, others))
    reports = [replace(report, target=replace(report.target, name=name)) for name in ("model.pt", _HOSTILE, "a\ud800b")]
    return tuple((each, judge(each, _POLICY, today=date(2026, 1, 1))) for each in reports)
