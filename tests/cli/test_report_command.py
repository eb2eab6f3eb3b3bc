"""`redteam report`: what was saved is drawn without the model, and what is wrong is said in one line."""

import json
import sys

import pytest
from conftest import ROOT
from forks import fast
from materials import error_line

sys.path.append(str(ROOT / "tests" / "verify"))
from saved_verifications import PRIVATISER, VIOLATED, document

GOLDEN = ROOT / "tests" / "formats" / "golden"
RECORDS = ROOT / "docs" / "records"


@pytest.mark.parametrize(
    ("saved", "options", "said"),
    [
        (GOLDEN / "leaky.json", (), "Privacy audit of model.pt"),
        (GOLDEN / "leaky.json", ("--card",), "model-index:"),
        (GOLDEN / "leaky.json", ("--dpia",), "# Annex"),
        (RECORDS / "gap-snips.json", (), "Theory against practice"),
        (RECORDS / "drill-clinc.json", (), "Canary drill"),
    ],
)
def test_what_was_saved_is_drawn(tmp_path, saved, options, said):
    result = fast("report", saved, *options, "-o", "page", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("wrote page; ")
    text = (tmp_path / "page").read_text()
    assert said in text
    assert len(text) < 1_000_000
    assert "<script" not in text


def test_a_comparison_is_drawn_at_once_and_from_what_was_saved(tmp_path):
    reports = GOLDEN / "safe.json", GOLDEN / "leaky.json"
    assert fast("compare", *reports, "-f", "html", "-o", "a.html", cwd=tmp_path).returncode == 1
    assert fast("compare", *reports, "-f", "json", "-o", "saved.json", cwd=tmp_path).returncode == 1
    assert fast("report", "saved.json", "-o", "b.html", cwd=tmp_path).returncode == 0
    drawn = (tmp_path / "a.html").read_text()
    assert drawn == (tmp_path / "b.html").read_text()
    assert '<span class="badge leak">WORSE</span>' in drawn
    assert "AUC: before and after" in drawn


def test_a_verification_is_drawn_from_what_was_saved(tmp_path):
    for name, found in (("VIOLATED", VIOLATED), ("CONSISTENT", PRIVATISER)):
        (tmp_path / "saved.json").write_text(json.dumps(document(found)))
        result = fast("report", "saved.json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f">{name}</span>" in result.stdout


CHANGES = [
    (lambda d: d["changes"][0].update(direction="no proven change"), "all of the new interval is worse"),
    (lambda d: d["changes"][0].update(direction="better"), "all of the new interval is worse"),
    (lambda d: d["changes"][0].update(direction="only in old"), "that is not where it stands"),
    (lambda d: d["changes"][0].update(difference=0.0), "is not that of its two values"),
    (lambda d: d["changes"][0].update(id="RT101.nonsense"), "unknown metric"),
    (lambda d: d["changes"][-1].update(direction="worse"), "that is not where it stands"),
    (lambda d: d.update(alpha=7.0), "its error is 7"),
    (lambda d: d["changes"].append(d["changes"][0]), "the same id"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_comparison_that_contradicts_itself_is_refused(tmp_path, change, said):
    reports = GOLDEN / "safe.json", GOLDEN / "leaky.json"
    found = json.loads(fast("compare", *reports, "-f", "json", cwd=tmp_path).stdout)
    found["changes"].sort(key=lambda each: -(each["difference"] or -9.0))  # what is worst first, what is alone last
    change(found)
    (tmp_path / "saved.json").write_text(json.dumps(found))
    assert said in error_line(fast("report", "saved.json", cwd=tmp_path))


def test_a_proven_leak_is_one_on_every_page(tmp_path):
    for saved in (GOLDEN / "leaky.json", RECORDS / "drill-clinc.json"):
        assert '<span class="badge leak">LEAK</span>' in fast("report", saved, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.json",), "none.json: cannot be read"),
        ((GOLDEN / "leaky.json", "--card", "--dpia"), "--card and --dpia: each is a document of its own"),
        ((RECORDS / "gap-snips.json", "--card"), "--card: is made of the report of an audit"),
        (
            (RECORDS / "gap-snips.json", "--policy", ROOT / "Makefile"),
            "judge the report of an audit, not redteam.gap",
        ),
        ((GOLDEN / "leaky.json", "-o", "nowhere/page.html"), "the folder nowhere does not exist"),
        ((GOLDEN / "leaky.txt",), "not JSON"),
        ((ROOT / "fixtures" / "leaky" / "model.ledger.json",), "format is"),
    ],
)
def test_bad_use_is_one_line(tmp_path, arguments, said):
    assert said in error_line(fast("report", *arguments, cwd=tmp_path))
