"""`redteam report`: what was saved is drawn without the model, and what is wrong is said in one line."""

import pytest
from conftest import ROOT
from forks import fast
from materials import error_line

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


def test_a_proven_leak_is_one_on_every_page(tmp_path):
    for saved in (GOLDEN / "leaky.json", RECORDS / "drill-clinc.json"):
        assert '<span class="badge leak">LEAK</span>' in fast("report", saved, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.json",), "none.json: cannot be read"),
        ((GOLDEN / "leaky.json", "--card", "--dpia"), "--card and --dpia: each is a document of its own"),
        ((RECORDS / "gap-snips.json", "--card"), "--card: is made of the report of an audit"),
        ((GOLDEN / "leaky.json", "-o", "nowhere/page.html"), "the folder nowhere does not exist"),
        ((GOLDEN / "leaky.txt",), "not JSON"),
        ((ROOT / "fixtures" / "leaky" / "model.ledger.json",), "format is"),
    ],
)
def test_bad_use_is_one_line(tmp_path, arguments, said):
    assert said in error_line(fast("report", *arguments, cwd=tmp_path))
