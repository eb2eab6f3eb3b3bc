import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from redteam.core import ReportError
from redteam.formats.changes import as_json, as_markdown, as_text
from redteam.policy.comparison import compare_reports
from redteam.report.reading import load_report
from redteam.report.values import ErrorShare, Evidence, Multiplicity
from redteam.statistics import Interval

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "formats" / "golden"


def load(name):
    return load_report(GOLDEN / f"{name}.json")


def with_auc(low, high, **changes):
    interval = Interval((low + high) / 2, low, high, 0.01)
    evidence = Evidence("RT101", changes.pop("signal", "loss"), "auc", interval, 500, 500, 0.99)
    by_itself = Multiplicity(0.05, 1, 0.05, "by hand")  # all that is there is judged
    return replace(load("safe"), evidence=(evidence,), multiplicity=by_itself, **changes)


def with_epsilon(low, high, accounted=None, grade="A"):
    evidence = Evidence("RT101", "loss", "epsilon", Interval(low, low, high, 0.01), 500, 500, 9.0, delta=1e-5)
    report = load("private")
    guarantee = report.guarantee
    if accounted is None:
        guarantee = None
    elif guarantee is not None:
        guarantee = replace(guarantee, accounted=replace(guarantee.accounted, epsilon=accounted))
    return replace(report, evidence=(evidence,), guarantee=guarantee, grade=grade)


def direction(old, new):
    return compare_reports(old, new).changes[0].direction


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((0.5, 0.6), (0.61, 0.7), "worse"),
        ((0.61, 0.7), (0.5, 0.6), "better"),
        ((0.5, 0.6), (0.6, 0.7), "no proven change"),  # they touch
        ((0.5, 0.7), (0.6, 0.9), "no proven change"),
    ],
)
def test_a_change_is_proven_where_the_intervals_do_not_meet(old, new, expected):
    assert direction(with_auc(*old), with_auc(*new)) == expected


def test_what_is_in_one_report_only_is_said_and_not_judged():
    found = compare_reports(with_auc(0.5, 0.6), with_auc(0.9, 0.95, signal="entropy"))
    assert [change.direction for change in found.changes] == ["only in old", "only in new"]
    assert found.worse == ()
    assert "the new report lacks 1 number of the old one" in found.gaps


def test_what_the_newer_report_only_describes_is_a_gap_where_it_judges_no_such_metric():
    old = replace(load("safe"), evidence=(*with_auc(0.5, 0.6).evidence, *with_auc(0.5, 0.6, signal="other").evidence))
    old = replace(old, multiplicity=Multiplicity(0.05, 2, 0.025, "by hand"))
    one = Multiplicity(0.05, 1, 0.05, "by hand", "RT101", (ErrorShare("RT101.auc:loss", 0.05),))
    none = Multiplicity(0.05, 0, 0.05, "by hand", "RT101")
    found = compare_reports(old, replace(old, multiplicity=one))
    assert found.gaps == ()
    assert "the new report only describes 1 number that the old one judged" in found.notes
    assert compare_reports(old, replace(old, multiplicity=none)).gaps == (
        "the new report judges no auc: audit again with a policy that limits it",
    )


def test_grade_c_proves_no_change_of_membership():
    old, new = with_auc(0.5, 0.6), with_auc(0.9, 0.95, grade="C")
    assert direction(old, new) == "no proven change"
    assert any("grade C" in note for note in compare_reports(old, new).notes)


def test_epsilon_is_bounded_from_above_by_a_guarantee_only():
    assert direction(with_epsilon(1, 2), with_epsilon(3, 4)) == "no proven change"
    assert direction(with_epsilon(1, 2, accounted=2.5), with_epsilon(3, 4)) == "worse"
    assert direction(with_epsilon(3, 4), with_epsilon(1, 2, accounted=2.5)) == "better"
    assert direction(with_epsilon(2.6, 3, accounted=2.5), with_epsilon(3.5, 4)) == "no proven change"
    assert direction(with_epsilon(1, 2, accounted=2.5, grade="B"), with_epsilon(3, 4)) == "no proven change"


def test_an_epsilon_is_only_held_against_a_guarantee_at_no_larger_delta():
    def at(report, delta):
        return replace(report, evidence=tuple(replace(each, delta=delta) for each in report.evidence))

    old, new = with_epsilon(1, 2, accounted=2.5), with_epsilon(3, 4)
    assert direction(old, at(new, 1e-3)) == "worse"
    assert direction(old, at(new, 1e-6)) == direction(old, at(new, None)) == "no proven change"
    assert direction(at(new, 1e-6), old) == "no proven change"
    assert "A low bound is not evidence of privacy." in compare_reports(old, new).notes


def test_notes_say_what_is_not_alike():
    old = with_auc(0.5, 0.6)
    new = with_auc(0.5, 0.6, grade="A", target=replace(old.target, name="other.pt"))
    new = replace(new, data=replace(new.data, members=7))
    notes = "\n".join(compare_reports(old, new).notes)
    assert "the targets differ: model.pt and other.pt" in notes
    assert "the evidence grades differ: B and A" in notes
    assert "2,000 members and 2,000 non-members, then 7 members and 2,000 non-members" in notes
    assert "very same model file" in compare_reports(old, old).notes[0]


def test_reports_of_different_formats_are_refused():
    with pytest.raises(ReportError, match="do not compare"):
        compare_reports(load("safe"), replace(load("safe"), format="redteam.report/0"))


def test_the_error_of_both_reports_adds_up():
    assert compare_reports(load("safe"), load("safe")).alpha == pytest.approx(0.1)
    assert "a confidence of 90%" in as_text(compare_reports(load("safe"), load("safe")), width=200)


@pytest.mark.parametrize("width", [80, 100])
def test_text_is_a_table_that_keeps_its_width(width):
    found = compare_reports(load("safe"), load("leaky"))
    drawn = as_text(found, width=width)
    assert max(map(len, drawn.splitlines())) <= width
    assert drawn.startswith(" WORSE  2 proven worse and 0 proven better of 6 numbers")
    assert "\x1b[" in as_text(found, color=True)


def test_json_and_markdown_hold_the_same_changes():
    found = compare_reports(load("safe"), load("leaky"))
    document = json.loads(as_json(found))
    assert document["format"] == "redteam.comparison/1"
    directions = [change["direction"] for change in document["changes"]]
    assert directions == [change.direction for change in found.changes]
    assert directions.count("worse") == len(found.worse) == 2
    assert as_markdown(found).count("**worse**") == len(found.worse)


def test_nothing_hostile_comes_out():
    found = compare_reports(load("hostile"), load("leaky"))
    for drawn in (as_text(found), as_json(found), as_markdown(found)):
        assert all(character == "\n" or character.isprintable() for character in drawn)
    assert "<script>" not in as_markdown(found)


@pytest.mark.parametrize(
    ("old", "new", "options", "code"),
    [
        ("safe", "safe", [], 0),
        ("safe", "leaky", [], 1),
        ("safe", "leaky", ["--exit-zero"], 0),
        ("leaky", "safe", [], 2),  # better, but it lacks one of the numbers
        ("safe", "none", ["--exit-zero"], 2),
    ],
)
def test_the_exit_code_says_whether_anything_is_worse(tmp_path, old, new, options, code):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "redteam",
            "compare",
            GOLDEN / f"{old}.json",
            GOLDEN / f"{new}.json",
            *options,
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == code
    assert result.stderr.count("\n") == 1
