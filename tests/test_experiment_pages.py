"""The pages of gap and drill: what comes first, their pictures, strings from outside, and reports that cannot be."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from conftest import ROOT
from gap_doubles import cell, report_of

from redteam.canary.label_evidence import ATTACK
from redteam.core import ReportError
from redteam.data.label_canaries import ACCESSES
from redteam.experiments.drill.page import outcome as drill_outcome
from redteam.experiments.drill.page import render_page as drill_page
from redteam.experiments.drill.report import DrillReport
from redteam.experiments.gap.page import outcome as gap_outcome
from redteam.experiments.gap.page import render_page as gap_page
from redteam.experiments.gap.report import BrokenClaim, GapReport
from redteam.report.values import Evidence
from redteam.statistics import Interval

HOSTILE = "<script>x</script> \x1b[31m\u202e"
RECORDS = ROOT / "docs" / "records"
DRILL = DrillReport.load(RECORDS / "drill-labels.json")


def planted(low, adversary):
    return Evidence(ATTACK, adversary, "canary_epsilon", Interval(low, low, 9.0, 0.05), 700, 700, 9.0, None, 1e-5)


def with_canaries(trainer, epsilon, lows, **how):
    one = cell(trainer, epsilon, **how)
    return replace(one, evidence=(*one.evidence, *map(planted, lows, ACCESSES)))


CELLS = (
    cell("plain", None, auc=0.8),
    with_canaries("noisy", 8.0, (4.0, 2.0, 0.0), accounted=7.9),
    with_canaries("noisy", 2.0, (1.0, 0.5, 0.0), accounted=1.9, low=0.4),
    cell("boaster", 8.0, accounted=900.0, nominal=8.0),
)
GAP = report_of(CELLS)


def pictures(page):
    return {
        title: ElementTree.fromstring(svg)
        for title, svg in re.findall(r"<figure.*?<h3>(.*?)</h3>\s*(<svg.*?</svg>)", page, flags=re.DOTALL)
    }


def test_a_gap_has_its_pictures_each_with_numbers_and_a_caption():
    page = gap_page(GAP)
    found = pictures(page)
    assert list(found) == [
        "Epsilon: nominal, accounted, measured, attainable",
        "noisy: theory against practice",
        "boaster: theory against practice",
        "Accuracy against leakage",
    ]
    assert page.count("<figcaption>") == page.count("The numbers<") == len(found)
    adversaries = found["noisy: theory against practice"].attrib["aria-label"]
    assert all(f"{name}: " in adversaries for name in (*ACCESSES, "users' rows"))
    assert "all updates: 1 at 1.9, 4 at 7.9" in adversaries
    assert "nan" not in page.lower().replace("nano", "")


def test_a_gap_says_first_what_is_nearest_to_its_guarantee_and_what_to_do():
    text = re.sub(r"<[^>]+>", " ", gap_page(GAP).partition("</style>")[2])
    first = " ".join(text.partition("What was found")[0].split())
    assert "no claim proven broken, 4 models trained and attacked; 1 row cost more" in first
    assert first.index("noisy at epsilon 2 at least 1.00 accounted 1.90") < first.index("boaster at epsilon 8")
    assert "of boaster at epsilon 8 publish the accounted epsilon, 900, not the nominal one" in first


def test_a_broken_claim_is_a_leak_on_top():
    one = with_canaries("liar", 2.0, (5.0, 1.0, 1.0), accounted=1.9)
    broken = (BrokenClaim(one.cell, 1.9, 5.0, proven=True),)
    report = report_of([cell("plain", None), one], broken=broken)
    assert gap_outcome(report) == "leak"
    page = gap_page(report)
    assert '<span class="badge leak">LEAK</span>' in page
    assert "claim broken" in page
    assert "at least 5.00: a broken claim" in page
    unproven = replace(report, broken=(replace(broken[0], proven=False),))
    assert gap_outcome(unproven) == "inconclusive"
    assert "not proven among so many" in gap_page(unproven)


def test_what_is_of_users_is_not_drawn_beside_a_guarantee_for_examples():
    per_user = [replace(one, evidence=tuple(replace(e, unit="user") for e in one.evidence)) for one in CELLS]
    assert list(pictures(gap_page(report_of(per_user)))) == ["Accuracy against leakage"]


def test_a_drill_has_pictures_of_secrets_and_of_exposure_beside_held_out_ones():
    page = drill_page(DRILL)
    found = pictures(page)
    assert len(found) == 2 * len({(row.template, row.label) for row in DRILL.rows})
    assert all("none, planted: " in each.attrib["aria-label"] for each in found.values())
    assert all("none, held-out: " in each.attrib["aria-label"] for each in found.values())
    assert page.count("<figcaption>") == page.count("The numbers<") == len(found)
    assert drill_outcome(DRILL) == "leak"
    assert "17 of 20 secrets" in page.partition("What was found")[0]


def test_a_drill_whose_rows_learned_nothing_is_inconclusive():
    rows = tuple(
        replace(row, untrained=row.seeds, attacks=tuple(replace(a, comparisons=()) for a in row.attacks))
        for row in DRILL.rows
    )
    assert drill_outcome(replace(DRILL, rows=rows)) == "inconclusive"


def test_strings_from_outside_are_text():
    rows = tuple(replace(row, template=HOSTILE, label=HOSTILE, defense=HOSTILE) for row in DRILL.rows)
    settings = {HOSTILE: {HOSTILE: [HOSTILE]}, "model": {"spec": HOSTILE}, "attacks": [HOSTILE]}
    hostile = [replace(one, cell=replace(one.cell, trainer=HOSTILE)) for one in CELLS]
    for page in (
        drill_page(replace(DRILL, rows=rows, settings=settings)),
        gap_page(report_of(hostile, settings=settings)),
    ):
        assert "<script>" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "&lt;script&gt;" in page


def test_a_page_of_thousands_of_rows_stays_small():
    many = report_of(
        [replace(one, cell=replace(one.cell, seed=0, trainer=f"t{i}")) for i in range(700) for one in CELLS[1:]]
    )
    assert len(many.rows) == 1400
    assert len(gap_page(many).encode()) < 1_000_000
    rows = tuple(replace(row, defense=f"d{i}") for i in range(700) for row in DRILL.rows)
    assert len(drill_page(replace(DRILL, rows=rows)).encode()) < 1_000_000


def changed(path, tmp_path, change):
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    (tmp_path / "saved.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path / "saved.json"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["rows"].pop(),
        lambda d: d["rows"][2]["accuracy"].update(mean=0.99, high=0.99),
        lambda d: d["rows"][2]["accounted"].update(epsilon=0.1),
        lambda d: d["cells"][2]["guarantee"]["accounted"].update(epsilon=0.1),
        lambda d: d["broken"].append(
            {"cell": d["cells"][1]["cell"], "accounted": 1.0, "measured": 2.0, "proven": True}
        ),
    ],
)
def test_a_gap_that_contradicts_itself_is_refused(tmp_path, change):
    with pytest.raises(ReportError, match="contradicts itself"):
        GapReport.load(changed(RECORDS / "gap-snips.json", tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["rows"][1]["attacks"][0]["comparisons"][0].update(proven=False),
        lambda d: d["rows"][1]["attacks"][0]["comparisons"][0].update(p_value=0.9),
        lambda d: d["rows"][1]["attacks"][0]["comparisons"][0].update(wins=900),
        lambda d: d["rows"][1]["attacks"][0]["comparisons"][0].update(level=1.0),
        lambda d: d["rows"][1].update(canaries=0),
        lambda d: d["rows"][1].update(repetitions=0),
        lambda d: d.update(tests=0),
        lambda d: d.update(each=0.05),
    ],
)
def test_a_drill_that_contradicts_itself_is_refused(tmp_path, change):
    with pytest.raises(ReportError, match="contradicts itself"):
        DrillReport.load(changed(RECORDS / "drill-labels.json", tmp_path, change))
