import ast
import inspect
import json
import pkgutil
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from lxml import etree
from sample_reports import HOSTILE, SAMPLES

from redteam import formats
from redteam.formats import FORMATS, clean, code, in_markdown, json_text, strongest
from redteam.policy.reading import BUILT_IN
from redteam.report.values import AuditReport, ClassLeak, Failure
from redteam.statistics import Interval

SCHEMAS = Path(__file__).parent / "schemas"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def render(name, format, **options):
    sample = SAMPLES[name]
    return FORMATS[format](sample.report, sample.judged(), policy=sample.policy, **options)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_in_a_hostile_report_reaches_a_terminal(format):
    drawn = render("hostile", format)
    assert all(character == "\n" or character.isprintable() for character in drawn)
    assert drawn.endswith("\n")


@pytest.mark.parametrize("format", FORMATS)
def test_lone_surrogates_can_be_written_in_every_format(format):
    sample = SAMPLES["leaky"]
    report = replace(sample.report, target=replace(sample.report.target, name="a\ud800b"))
    FORMATS[format](report, sample.judged(), policy=sample.policy).encode("utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_draws_the_same_twice(format):
    assert render("leaky", format) == render("leaky", format)


def test_of_what_is_only_described_the_meaning_is_that_of_the_attack_that_settles_limits():
    report = SAMPLES["safe"].report
    shared = report.multiplicity
    judged = replace(shared, shares=tuple(each for each in shared.shares if ".auc:" in each.id))
    high = tuple(
        replace(each, interval=replace(each.interval, value=0.5, low=0.4, high=0.6))
        if each.metric == "tpr" and each.attack != shared.primary
        else each
        for each in report.evidence
    )
    meant = {each.metric: each.attack for each in strongest(replace(report, multiplicity=judged, evidence=high))}
    assert meant["tpr"] == shared.primary
    assert {each.metric: each.attack for each in strongest(replace(report, evidence=high))}["tpr"] != shared.primary


# Text


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("width", [40, 80, 100])
def test_text_keeps_its_width(name, width):
    assert max(len(line) for line in render(name, "text", width=width).splitlines()) <= width


def test_a_narrow_table_leaves_its_limits_to_the_next():
    narrow, wide = (render("leaky", "text", width=width) for width in (60, 100))
    heads = [next(line.split() for line in drawn.splitlines() if " interval" in line) for drawn in (narrow, wide)]
    assert heads[0] == [each for each in heads[1] if each != "limit"]


@pytest.mark.parametrize("name", SAMPLES)
def test_colours_change_nothing_but_colours(name):
    colored = render(name, "text", color=True)
    assert "\x1b[" in colored
    plain = "\n".join(line.rstrip() for line in ANSI.sub("", colored).splitlines()) + "\n"
    assert plain == render(name, "text")


def test_text_does_not_ask_the_environment(monkeypatch):
    plain, colored = render("leaky", "text"), render("leaky", "text", color=True)
    for variable, value in {"COLUMNS": "40", "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(variable, value)
        assert render("leaky", "text") == plain
        assert render("leaky", "text", color=True) == colored


def test_text_says_what_a_number_means():
    drawn = " ".join(render("leaky", "text", verbose=True).split())
    assert "picks the right one 93 times in 100, and at least 91 times" in drawn
    assert "20 of 100 members are exposed at a price of 1 false accusation per 100" in drawn
    assert drawn.index("health 500") < drawn.index("sports 500") < drawn.index("rare 3")


def test_text_fits_one_screen_and_names_three_labels_unless_more_is_wanted():
    sample = SAMPLES["leaky"]
    many = tuple(
        ClassLeak(f"label {i}", 500, 500, Interval(0.9 - i / 1000, 0.8 - i / 1000, 0.99, 0.01)) for i in range(77)
    )
    report = replace(sample.report, classes=many, groups=many)
    drawn, whole = (
        FORMATS["text"](report, sample.judged(), policy=sample.policy, verbose=verbose) for verbose in (False, True)
    )
    assert drawn.count("\n") < 40
    assert drawn.count("label 2 ") == 1
    assert "label 3 " not in drawn
    assert whole.count("label 76 ") == 2


@pytest.mark.parametrize("name", SAMPLES)
def test_one_screen_says_the_verdict_every_limit_and_what_to_do(name):
    drawn, verdict = render(name, "text"), SAMPLES[name].judged()
    assert drawn.count("\n") < (50 if name == "hostile" else 40)
    assert drawn.split()[0] == {"pass": "PASS", "leak": "LEAK", "inconclusive": "INCONCLUSIVE"}[verdict.status]
    for title in ("Strongest signal of each attack", "Limits", "What to do next", "-v, or -f html"):
        assert title in drawn
    assert ("Problems" in drawn) == bool(verdict.problems)
    for limit in SAMPLES[name].policy.limits:
        assert limit.name in drawn


def test_text_says_once_what_an_attack_lacks():
    assert render("leaky", "text", verbose=True).count("needs reference models") == 1


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_training_text_is_shown_only_where_the_report_holds_it(format):
    sample = SAMPLES["leaky"]
    rows = tuple(replace(row, text="my secret") for row in sample.report.exposed)
    report = replace(sample.report, exposed=rows)
    drawn = FORMATS[format](report, sample.judged(), policy=sample.policy, verbose=True)
    assert ("my secret" in drawn) == (format == "text")  # a pull request has more readers
    assert "text" not in render("leaky", "text", verbose=True).split("salted hash")[1].split("\n")[0]


# JSON


@pytest.mark.parametrize("name", SAMPLES)
def test_json_is_the_report_and_nothing_else(name):
    assert AuditReport.from_json(render(name, "json")) == SAMPLES[name].report


# Markdown


def test_a_hostile_label_cannot_leave_its_table_cell():
    drawn = render("hostile", "markdown")
    assert "<script>" not in drawn
    assert "<code>" in drawn
    assert "`" not in drawn
    tables = [line for line in drawn.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {3, 5}


def test_markdown_breaks_mentions_and_links():
    assert in_markdown("@team https://x a@b 1|2") == "@<!-- -->team https:<!-- -->//x a@b 1&#124;2"
    assert code("a`b</code>") == "<code>a&#96;b&#60;/code&#62;</code>"


# SARIF


def sarif(name):
    document = json.loads(render(name, "sarif"))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    return run


@pytest.mark.parametrize("name", SAMPLES)
def test_sarif_has_the_structure_code_scanning_reads(name):
    run = sarif(name)
    driver = run["tool"]["driver"]
    assert driver["name"] == "redteam"
    assert driver["version"]
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(rules) == len(set(rules))
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
        assert rule["help"]["text"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] == "error"
        assert result["message"]["text"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["region"]["startLine"] >= 1
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", physical["artifactLocation"]["uri"])
        assert physical["artifactLocation"]["uriBaseId"] in run["originalUriBaseIds"]
        assert re.fullmatch(r"[0-9a-f]{64}", result["partialFingerprints"]["redteamFinding/v1"])
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] == (not SAMPLES[name].judged().problems)


@pytest.mark.parametrize("name", SAMPLES)
def test_sarif_is_valid_by_its_published_schema(name):
    schema = json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
    jsonschema.Draft4Validator(schema).validate(json.loads(render(name, "sarif")))


def test_sarif_says_what_standards_call_a_finding():
    run = sarif("leaky")
    taxa = {each["name"]: (each["version"], [taxon["id"] for taxon in each["taxa"]]) for each in run["taxonomies"]}
    assert taxa == {
        "MITRE ATLAS": ("5.6.1", ["AML.T0024.000"]),
        "NIST AI 100-2": ("2025", ["NISTAML.033"]),
        "OWASP Machine Learning Security Top 10": ("2023", ["ML04:2023"]),
    }
    known = {(name, taxon) for name, (_, ids) in taxa.items() for taxon in ids}
    for each in run["results"]:
        assert {(taxon["toolComponent"]["name"], taxon["id"]) for taxon in each["taxa"]} == known
    for rule in run["tool"]["driver"]["rules"]:
        assert [relation["target"] for relation in rule["relationships"]] == run["results"][0]["taxa"]
    assert [each["index"] for each in run["tool"]["driver"]["supportedTaxonomies"]] == [0, 1, 2]
    assert "taxonomies" not in sarif("waived")


def test_sarif_of_a_leak_beside_a_broken_attack_closes_no_alert():
    sample = SAMPLES["leaky"]
    broken = replace(sample, report=replace(sample.report, failures=(Failure("RT103", "failed", "MemoryError"),)))
    verdict = broken.judged()
    assert verdict.exit_code == 1
    (run,) = json.loads(FORMATS["sarif"](broken.report, verdict, policy=sample.policy))["runs"]
    assert run["results"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert sarif("leaky")["invocations"][0]["executionSuccessful"] is True


def test_sarif_points_at_the_line_of_the_limit():
    lines = {
        result["ruleId"]: result["locations"][0]["physicalLocation"]["region"]["startLine"]
        for result in sarif("leaky")["results"]
    }
    assert lines == {"RT101.auc": 3, "RT102.auc": 3, "RT101.tpr@0.01": 4}


def test_sarif_suppresses_what_is_waived_or_known():
    known, waived = sarif("waived")["results"]
    assert known["baselineState"] == "unchanged"
    assert waived["baselineState"] == "new"
    assert "already in the baseline" in known["suppressions"][0]["justification"]
    assert waived["suppressions"][0]["kind"] == "external"
    assert "ticket 12" in waived["suppressions"][0]["justification"]
    for result in sarif("leaky")["results"]:
        assert "baselineState" not in result
        assert "suppressions" not in result


def test_sarif_notifies_of_every_problem():
    (invocation,) = sarif("grade_c")["invocations"]
    errors = [each for each in invocation["toolExecutionNotifications"] if each["level"] == "error"]
    assert len(errors) == len(SAMPLES["grade_c"].judged().problems)


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        (BUILT_IN, {"uri": "redteam.toml", "uriBaseId": "%SRCROOT%"}),
        ("ci/red team.toml", {"uri": "ci/red%20team.toml", "uriBaseId": "%SRCROOT%"}),
        ("/etc/red team.toml", {"uri": "red%20team.toml", "uriBaseId": "%SRCROOT%"}),
        ("../ci/redteam.toml", {"uri": "redteam.toml", "uriBaseId": "%SRCROOT%"}),
        ("C:\\ci\\redteam.toml", {"uri": "redteam.toml", "uriBaseId": "%SRCROOT%"}),
    ],
)
def test_sarif_names_the_policy_file_as_a_uri(source, uri):
    sample = SAMPLES["leaky"]
    drawn = FORMATS["sarif"](sample.report, sample.judged(), policy=replace(sample.policy, source=source))
    location = json.loads(drawn)["runs"][0]["results"][0]["locations"][0]
    assert location["physicalLocation"]["artifactLocation"] == uri


# JUnit


@pytest.mark.parametrize("name", SAMPLES)
def test_junit_is_xml_whose_counts_are_right(name):
    root = ElementTree.fromstring(render(name, "junit"))
    (suite,) = root
    counts = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for attribute, tag in counts.items():
        assert int(suite.attrib[attribute]) == len(list(suite.iter(tag)))
        assert root.attrib.get(attribute) == (None if attribute == "skipped" else suite.attrib[attribute])
    verdict = SAMPLES[name].judged()
    assert int(suite.attrib["failures"]) == len(verdict.proven)
    assert int(suite.attrib["errors"]) >= len(verdict.problems)
    names = [case.attrib["name"] for case in suite.iter("testcase")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", SAMPLES)
def test_junit_is_valid_by_the_schema_of_the_jenkins_plugin(name):
    schema = etree.XMLSchema(etree.parse(SCHEMAS / "junit-10.xsd"))
    schema.assertValid(etree.fromstring(render(name, "junit").encode()))


def outcomes(name, **changes):
    sample = SAMPLES[name]
    policy = replace(sample.policy, **changes)
    suite = ElementTree.fromstring(FORMATS["junit"](sample.report, sample.judged(), policy=policy))[0]
    return {case.attrib["name"]: case[0].tag if len(case) else "passed" for case in suite}


def test_junit_tells_leaks_from_what_is_excused_or_open():
    assert outcomes("leaky") == {
        "RT101.auc:loss": "failure",
        "RT102.auc:entropy": "failure",
        "RT101.tpr@0.01:loss": "failure",
        "RT102.tpr@0.01:entropy": "skipped",
    }
    assert set(outcomes("waived").values()) == {"skipped", "passed"}
    assert outcomes("leaky", strict=True)["RT102.tpr@0.01:entropy"] == "error"
    assert outcomes("unresolvable")["RT101.tpr@0.01:loss"] == "error"
    assert outcomes("private")["claim:epsilon"] == "failure"


# Escapes


def test_no_function_has_the_name_of_a_format():
    """Importing a module of a package puts it in the place of what had its name there."""
    modules = {info.name for info in pkgutil.iter_modules(formats.__path__)}
    functions = ast.parse(inspect.getsource(formats)).body
    assert not modules & {each.name for each in functions if isinstance(each, ast.FunctionDef)}


def test_what_does_not_print_is_written_out():
    assert clean("a\nb\x1b[0m\u202e\x9b\ud800\U000e0001") == "a\\u000ab\\u001b[0m\\u202e\\u009b\\ud800\\U000e0001"
    assert clean("naïve 日本 é") == "naïve 日本 é"


def test_escaped_json_parses_to_the_same():
    document = json.dumps([HOSTILE, "\U000e0001", "日本"], ensure_ascii=False, indent=1)
    assert json.loads(json_text(document)) == json.loads(document)
    assert "日本" in json_text(document)
