"""A report that was edited or cut is found out where it no longer agrees with itself."""

import json

import pytest
from conftest import ROOT

from redteam.errors import ReportError
from redteam.report import AuditReport

LEAKY = (ROOT / "fixtures" / "leaky" / "report.json").read_text(encoding="utf-8")


def edited(tmp_path, change):
    document = json.loads(LEAKY)
    change(document)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_report_as_it_was_written_is_read(tmp_path):
    assert AuditReport.load(edited(tmp_path, lambda d: None)).to_json() == LEAKY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["multiplicity"].update(alpha=0.9), "do not share 0.9"),
        (lambda d: [d["multiplicity"].update(alpha=13.5, each=0.9)], "has level 0.0033"),
        (lambda d: d["evidence"][0]["interval"].update(alpha=0.9), "has level 0.9"),
        (lambda d: d["evidence"][0]["interval"].update(low=-7.0, value=-6.0, high=-5.0), "is not between 0 and 1"),
        (lambda d: d["evidence"][0].update(members=3), "is of another number of examples"),
        (lambda d: d["evidence"][0].update(ceiling=0.1), "has ceiling 0.1"),
        (lambda d: d["evidence"].append(d["evidence"][0]), "two numbers have the same id"),
        (lambda d: d["multiplicity"].update(intervals=2, each=0.025), "15 numbers share the error of 2"),
        (lambda d: d["controls"][0]["auc"].update(low=0.8, value=0.9, high=0.95), "RT901 tells the sides apart"),
        (lambda d: d["controls"][0]["auc"].update(low=0.2, value=0.3, high=0.4), "RT901 tells the sides apart"),
    ],
)
def test_an_edited_report_is_refused(tmp_path, change, said):
    with pytest.raises(ReportError, match="contradicts itself") as error:
        AuditReport.load(edited(tmp_path, change))
    assert said in str(error.value)
