"""Recorded outputs are quoted as they are, and are what is printed today of the numbers that were saved with them."""

import re

import pytest
from conftest import ROOT
from excerpts import REGENERATE, check, renewed, replace
from gap_doubles import report_of, with_planted
from pages import blocks, steps

from redteam.experiments.drill.report import DrillReport
from redteam.experiments.drill.table import render_text as drill_text
from redteam.experiments.gap.report import GapReport
from redteam.experiments.gap.table import render_text as gap_text

RECORDS = ROOT / "docs" / "records"
TEXTS = sorted(RECORDS.glob("*.txt"))
SAVED = sorted(RECORDS.glob("*.json"))
PRINTERS = {"drill": (DrillReport, drill_text), "gap": (GapReport, gap_text)}
QUOTES = [block for block in blocks("text") if block.text.startswith("$ ")]


def recorded(path):
    """The command of a record, and the lines that it printed."""
    (step,) = steps(path.read_text(encoding="utf-8"))
    return step


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_saved_report_is_printed_as_recorded(path):
    kind, printer = PRINTERS[path.stem.partition("-")[0]]
    printed = printer(kind.load(path)).rstrip("\n")
    text, body = path.with_suffix(".txt"), "\n".join(recorded(path.with_suffix(".txt")).shown)
    if REGENERATE:
        text.write_text(text.read_text(encoding="utf-8").replace(body, printed), encoding="utf-8")
    else:
        assert body == printed


@pytest.mark.parametrize("name", ["gap-snips.txt", "gap-clinc.txt"])
def test_the_columns_of_the_gap_are_those_of_today(name):
    today = gap_text(report_of([with_planted("plain", None, (0.0, 0.0, 0.0))])).splitlines()[0].split()
    assert recorded(RECORDS / name).shown[0].split() == today


@pytest.mark.parametrize("block", QUOTES, ids=str)
def test_records_are_quoted_as_they_are(block):
    (step,) = steps(block.text)
    (record,) = [each for each in map(recorded, TEXTS) if each.command == step.command]
    if REGENERATE:
        replace(block, step.shown, renewed(step.shown, record.shown))
    else:
        check(step.shown, record.shown)


def test_every_record_is_quoted_and_listed():
    quoted = {step.command for block in QUOTES for step in steps(block.text)}
    assert {recorded(path).command for path in TEXTS} == quoted
    index = (RECORDS / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)`", index, flags=re.MULTILINE)) == {path.stem for path in TEXTS}
    assert {path.stem for path in SAVED} <= {path.stem for path in TEXTS}
