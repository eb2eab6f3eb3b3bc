"""The findings as SARIF 2.1.0 for code scanning: each points at the policy line that set its limit."""

import json
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

from redteam.core import INCONCLUSIVE
from redteam.formats import clean, summary
from redteam.policy import BUILT_IN, Finding, Policy, Verdict
from redteam.report.guarantee import CLAIM_HELP, CLAIM_RULE
from redteam.report.reading import measured_by
from redteam.report.values import AuditReport

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return one SARIF run with a rule and a result per finding, and a notification per problem."""
    rules = list(dict.fromkeys(finding.rule for finding in verdict.findings))
    driver = {"name": "redteam", "version": clean(report.tool_version), "rules": _rules(rules, verdict)}
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "where redteam was started"}}},
        "invocations": [_invocation(verdict)],
        "results": [_result(finding, verdict, policy, rules, report) for finding in verdict.findings],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rules(rules: list[str], verdict: Verdict) -> list[dict[str, Any]]:
    remedies = {finding.rule: finding.remedy for finding in verdict.findings}
    return [
        {
            "id": clean(rule),
            "shortDescription": {"text": _description(rule)},
            "fullDescription": {"text": f"redteam proved that {_description(rule)}. {remedies[rule]}"},
            "help": {"text": remedies[rule]},
            "defaultConfiguration": {"level": "error"},
            "properties": {"tags": ["security", *measured_by(rule).tags]},
        }
        for rule in rules
    ]


def _description(rule: str) -> str:
    if rule == CLAIM_RULE:
        return CLAIM_HELP
    return measured_by(rule).description


def _invocation(verdict: Verdict) -> dict[str, Any]:
    return {
        # A leak beside an attack that broke is no success either: code scanning would close, as mended, every alert
        # of which this run holds no result.
        "executionSuccessful": not verdict.problems and verdict.exit_code != INCONCLUSIVE,
        "properties": {"verdict": clean(summary(verdict))},
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": clean(problem)}} for problem in verdict.problems
        ]
        + [{"level": "note", "message": {"text": clean(note)}} for note in verdict.notes],
    }


def _result(
    finding: Finding, verdict: Verdict, policy: Policy, rules: list[str], report: AuditReport
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": clean(finding.rule),
        "ruleIndex": rules.index(finding.rule),
        "kind": "fail",
        "level": "error",
        "message": {"text": clean(f"{finding.message} ({report.target.name})")},
        "locations": [_location(finding, policy)],
        "partialFingerprints": {"redteamFinding/v1": finding.fingerprint},
    }
    if verdict.baseline:  # without a baseline nothing is known to be new
        result["baselineState"] = "unchanged" if finding.state == "baseline" else "new"
    if finding.state != "proven":
        excuse = clean(finding.excuse or finding.state)
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": excuse}]
    return result


def _location(finding: Finding, policy: Policy) -> dict[str, Any]:
    line = policy.line_of(measured_by(finding.rule).key)
    return {"physicalLocation": {"artifactLocation": _artifact(policy.source), "region": {"startLine": line}}}


def _artifact(source: str) -> dict[str, str]:
    if source == BUILT_IN:  # there is no file, but code scanning wants one: the file that would change the limit
        source = "redteam.toml"
    for path in (PurePosixPath(source), PureWindowsPath(source)):
        if path.is_absolute() or ".." in path.parts:  # code scanning shows the repository's files
            source = path.name
    return {"uri": quote(PurePosixPath(source).as_posix()), "uriBaseId": "%SRCROOT%"}
