import json
import os
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import redteam
from redteam import core
from redteam.core import ReportError
from redteam.report.reading import load_report
from redteam.report.values import FORMAT, SCHEMA_ID, AuditReport, Evidence
from redteam.statistics import Interval

GOLDEN = Path(__file__).parent / "formats" / "golden"
SCHEMA = Path(redteam.__file__).parent / "report" / "report.schema.json"


@pytest.fixture
def text():
    return (GOLDEN / "private.json").read_text(encoding="utf-8")


def changed(text, **changes):
    return json.dumps(json.loads(text) | changes)


def test_the_schema_in_the_package_is_the_one_of_the_dataclasses():
    """REDTEAM_REGENERATE=1 writes it anew."""
    schema = core.schema(AuditReport, title="redteam audit report", identifier=SCHEMA_ID)
    drawn = json.dumps(schema, indent=2) + "\n"
    if os.environ.get("REDTEAM_REGENERATE"):
        SCHEMA.write_text(drawn, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == drawn


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_sample_report_keeps_the_schema(path):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_report_reads_back_as_it_was_written(path):
    report = load_report(path)
    assert AuditReport.from_json(report.to_json()) == report


def test_a_report_of_another_format_says_which(text):
    with pytest.raises(ReportError, match=f"format is 'redteam.report/9', this version reads '{FORMAT}'"):
        AuditReport.from_json(changed(text, format="redteam.report/9"))
    for other in ("[]", "3", "{}"):
        with pytest.raises(ReportError, match="format is None"):
            AuditReport.from_json(other)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_report_of_format_1_is_read_as_today_s(path):
    today = old = path.read_text(encoding="utf-8")
    for new, was in (("attainable", "ceiling"), ("nominal", "claimed"), ("accounted", "earned")):
        old = old.replace(f'"{new}"', f'"{was}"')
    unread = re.sub(r',\s*"reads_texts": (true|false)', "", old)  # which control did was known by its id
    assert AuditReport.from_json(unread.replace(FORMAT, "redteam.report/1")) == AuditReport.from_json(today)
    if old != today:
        with pytest.raises(ReportError, match=r"unknown key '(ceiling|claimed)'"):
            AuditReport.from_json(old)


@pytest.mark.parametrize("value", [3, [3], {"nominal": 1}])
def test_a_broken_report_of_format_1_is_one_line(text, value):
    for key in ("evidence", "guarantee"):
        with pytest.raises(ReportError, match=f"{key}"):
            AuditReport.from_json(changed(text, format="redteam.report/1", **{key: value}))


@pytest.mark.parametrize("broken", ["", "{", '{"format": ', "[" * 100_000])
def test_what_is_not_json_is_one_line(broken):
    with pytest.raises(ReportError) as caught:
        AuditReport.from_json(broken, source="r.json")
    assert str(caught.value).startswith("r.json: not")
    assert "\n" not in str(caught.value)


def test_a_broken_field_is_named_with_its_place(text):
    document = json.loads(text)
    document["evidence"][0]["interval"]["low"] = 0.99
    with pytest.raises(ReportError, match=r"report\.evidence\[0\]\.interval: not an interval: 0\.99 <="):
        AuditReport.from_json(json.dumps(document))
    with pytest.raises(ReportError, match="unknown key 'verdict'"):
        AuditReport.from_json(changed(text, verdict={}))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_no_number_beyond_all_bounds_comes_in(text, value):
    document = text.replace('"alpha": 0.05', f'"alpha": {value}')
    assert document != text
    with pytest.raises(ReportError, match="must be a finite number"):
        AuditReport.from_json(document)


def test_a_report_that_is_not_there_or_not_text_is_one_line(tmp_path):
    with pytest.raises(ReportError, match="cannot be read"):
        load_report(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ReportError, match="cannot be read"):
        load_report(tmp_path / "binary.json")


def test_nan_is_never_saved(text):
    report = AuditReport.from_json(text)
    odd = replace(report, evidence=(replace(report.evidence[0], attainable=float("nan")),))
    with pytest.raises(ValueError, match="cannot be saved"):
        odd.to_json()


@pytest.mark.parametrize("bounds", [(0.5, 0.6, 0.7), (0.8, 0.7, 0.6), (0.5, float("nan"), 0.7)])
def test_an_interval_contains_its_value(bounds):
    value, low, high = bounds
    with pytest.raises(ValueError, match="not an interval"):
        Interval(value, low, high, 0.05)


def test_evidence_has_a_stable_name():
    evidence = Evidence("RT102", "entropy", "tpr", Interval(0.1, 0.0, 0.2, 0.05), 9, 9, 1.0, 0.001)
    assert (evidence.rule, evidence.id) == ("RT102.tpr@0.001", "RT102.tpr@0.001:entropy")
