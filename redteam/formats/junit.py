"""The checks as JUnit XML: a leak is a failure, a problem an error, an excused leak is skipped."""

from typing import Any
from xml.etree import ElementTree

from redteam.formats import clean
from redteam.policy import Finding, Policy, Verdict
from redteam.report import LOW_BOUND, NOT_JUDGED, Check
from redteam.report.guarantee import CLAIM_ID
from redteam.report.reading import measured_by
from redteam.report.values import AuditReport


def render(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return one test suite: a case per check, one for a broken claim, one per problem."""
    findings = {finding.id: finding for finding in verdict.findings}
    suite = ElementTree.Element("testsuite", name=f"redteam {clean(report.target.name)}")
    for check in verdict.checks:
        _case(suite, check, findings.get(check.id), strict=policy.strict)
    if CLAIM_ID in findings:
        _finding(_element(suite, CLAIM_ID, "claim.epsilon"), findings[CLAIM_ID])
    for index, problem in enumerate(verdict.problems, start=1):
        case = _element(suite, f"problem {index}", "redteam.problems")
        ElementTree.SubElement(case, "error", message=clean(problem), type="problem")
    _count(suite)
    counts = {name: count for name, count in suite.attrib.items() if name != "skipped"}  # not in the root's schema
    root = ElementTree.Element("testsuites", counts | {"name": "redteam"})
    root.append(suite)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(suite: ElementTree.Element, check: Check, finding: Finding | None, *, strict: bool) -> None:
    case = _element(suite, check.id, check.rule)
    if finding is not None:
        _finding(case, finding)
    elif check.outcome in NOT_JUDGED:
        _say(case, "error", "cannot be judged on this report: see the problems", check.outcome)
    elif check.outcome == "reversed":
        _say(case, "error", "non-members look more like members than members do: see the problems", "reversed")
    elif check.outcome == "inconclusive":
        shown = "the guarantee does not meet the limit"
        if check.interval is not None:
            of = measured_by(check.rule)
            shown = f"inconclusive: {of.against(check.interval, check.limit, ', limit ')}"
            shown += f". {LOW_BOUND}" if of.guaranteed else ""
        _say(case, "error" if strict else "skipped", shown, "inconclusive")


def _finding(case: ElementTree.Element, finding: Finding) -> None:
    if finding.state == "proven":
        _say(case, "failure", finding.message, finding.rule)
        case[-1].text = f"{measured_by(finding.rule).measured(finding.interval)}; what to do: {clean(finding.remedy)}"
    else:
        _say(case, "skipped", finding.excuse or finding.state, finding.state)


def _say(case: ElementTree.Element, tag: str, message: str, kind: str) -> None:
    ElementTree.SubElement(case, tag, message=clean(message), type=clean(kind))


def _element(suite: ElementTree.Element, name: str, classname: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", name=clean(name), classname=clean(classname), time="0")


def _count(suite: ElementTree.Element) -> None:
    counts = {"tests": "testcase", "failures": ".//failure", "errors": ".//error", "skipped": ".//skipped"}
    for attribute, path in counts.items():
        suite.set(attribute, str(len(suite.findall(path))))
    suite.set("time", "0")
