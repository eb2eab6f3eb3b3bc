"""The findings as SARIF 2.1.0 for code scanning: each points at the policy line that set its limit."""

import json
from collections.abc import Iterator
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
ATLAS, NIST, OWASP = "MITRE ATLAS", "NIST AI 100-2", "OWASP Machine Learning Security Top 10"
STANDARDS = {
    ATLAS: "https://atlas.mitre.org",
    NIST: "https://csrc.nist.gov/pubs/ai/100/2/e2025/final",
    OWASP: "https://owasp.org/www-project-machine-learning-security-top-10",
}


def render(report: AuditReport, verdict: Verdict, *, policy: Policy, **_: Any) -> str:
    """Return one SARIF run with a rule and a result per finding, and a notification per problem."""
    rules = list(dict.fromkeys(finding.rule for finding in verdict.findings))
    driver: dict[str, Any] = {"name": "redteam", "version": clean(report.tool_version)}
    driver["rules"] = _rules(rules, verdict, report)
    taxonomies = _taxonomies(rules, report)
    if taxonomies:
        names = [each["name"] for each in taxonomies]
        driver["supportedTaxonomies"] = [{"name": name, "index": i} for i, name in enumerate(names)]
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "where redteam was started"}}},
        "invocations": [_invocation(verdict)],
        "results": [_result(finding, verdict, policy, rules, report) for finding in verdict.findings],
        "columnKind": "unicodeCodePoints",
        **({"taxonomies": taxonomies} if taxonomies else {}),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _called(rule: str, report: AuditReport) -> Iterator[tuple[str, str, str]]:
    """Yield what the attack of a rule is called: the standard, its version and the id."""
    taxonomy = report.taxonomy.get(rule.partition(".")[0])
    if taxonomy is None:
        return
    yield from ((ATLAS, clean(taxonomy.atlas_version), clean(each)) for each in taxonomy.atlas)
    yield from ((NIST, "2025", clean(each)) for each in taxonomy.nist_aml)
    yield from ((OWASP, "2023", clean(each)) for each in taxonomy.owasp_ml)


def _taxonomies(rules: list[str], report: AuditReport) -> list[dict[str, Any]]:
    """Return the standards that have a name for what was found, each with these names."""
    found: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        for name, version, each in _called(rule, report):
            found.setdefault((name, version), []).append(each)
    return [
        {
            "name": name,
            "version": version,
            "informationUri": STANDARDS[name],
            "isComprehensive": False,
            "taxa": [{"id": each} for each in dict.fromkeys(ids)],
        }
        for (name, version), ids in found.items()
    ]


def _taxa(rule: str, report: AuditReport) -> list[dict[str, Any]]:
    return [{"id": each, "toolComponent": {"name": name}} for name, _, each in _called(rule, report)]


def _rules(rules: list[str], verdict: Verdict, report: AuditReport) -> list[dict[str, Any]]:
    remedies = {finding.rule: finding.remedy for finding in verdict.findings}
    return [
        {
            "id": clean(rule),
            "shortDescription": {"text": _description(rule)},
            "fullDescription": {"text": f"redteam proved that {_description(rule)}. {remedies[rule]}"},
            "help": {"text": remedies[rule]},
            "defaultConfiguration": {"level": "error"},
            "properties": {"tags": ["security", *measured_by(rule).tags]},
            **({"relationships": [{"target": each, "kinds": ["relevant"]} for each in taxa]} if taxa else {}),
        }
        for rule in rules
        for taxa in (_taxa(rule, report),)
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
    taxa = _taxa(finding.rule, report)
    if taxa:
        result["taxa"] = taxa
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
