"""Cells become rows, rows a table, and all of it a file that can be read again."""

import math
from dataclasses import replace

import pytest
from gap_doubles import budget, cell, evidence, report_of, with_planted

from redteam.core import ReportError
from redteam.experiments.gap.figures import figures
from redteam.experiments.gap.page import outcome
from redteam.experiments.gap.picture import COLORS, draw
from redteam.experiments.gap.report import GapReport, gap_rows
from redteam.experiments.gap.table import render_markdown, render_text
from redteam.experiments.report import FailedCell
from redteam.report import LOW_BOUND
from redteam.report.values import Failure


def test_a_row_is_the_mean_and_the_ends_over_its_seeds():
    one, two = cell("x", 8.0, 0, accounted=7.0, auc=0.6, low=0.5), cell("x", 8.0, 1, accounted=8.0, auc=0.7, low=1.5)
    (row,) = gap_rows([one, two])
    auc, bound = row.best("auc"), row.best("epsilon")
    assert (auc.spread.mean, auc.spread.low, auc.spread.high) == pytest.approx((0.65, 0.55, 0.75))
    assert (bound.spread.mean, bound.spread.low, bound.spread.high, bound.attainable) == (1.0, 0.5, 1.5, 5.1)
    assert (row.accounted.epsilon, row.seeds) == (8.0, (0, 1))


def test_time_is_compared_with_plain_of_the_same_seed():
    cells = [cell("plain", None, 0, seconds=10.0), cell("plain", None, 1, seconds=20.0)]
    cells += [cell("x", 8.0, 0, accounted=8.0, seconds=15.0), cell("x", 8.0, 1, accounted=8.0, seconds=22.0)]
    plain, x = gap_rows(cells)
    assert (x.time_ratio.mean, x.time_ratio.low, x.time_ratio.high) == pytest.approx((1.3, 1.1, 1.5))
    assert plain.time_ratio.mean == 1.0
    assert gap_rows(cells[2:])[0].time_ratio is None
    slower = replace(cells[2], passes=10)  # the same time for twice as many passes
    assert gap_rows([cells[0], slower])[1].time_ratio.mean == pytest.approx(0.75)


def test_a_row_whose_model_learned_nothing_is_flagged():
    cells = [cell("plain", None), *(cell("edpsgd", 0.5, seed=s, accounted=0.5) for s in (0, 1))]
    cells[2] = replace(cells[2], accuracy_members=0.41)  # 287 of 700, where always one label is right on 280
    made = report_of(cells)
    assert [row.untrained for row in made.rows] == [(), (1,)]
    assert "UNTRAINED!: edpsgd at epsilon 0.5, seed 1: not right" in " ".join(render_text(made).split())
    assert render_text(made).count("90.0%!") == 1


def test_a_seed_without_a_guarantee_or_a_signal_leaves_the_row_without():
    one, two = cell("x", 8.0, 0, accounted=7.0), cell("x", 8.0, 1)
    (row,) = gap_rows([one, two])
    assert row.accounted is None
    assert row.best("epsilon") is None
    assert row.best("auc") is not None


def test_reports_survive_saving(tmp_path):
    failed = FailedCell("x at epsilon inf, seed 3", "fell over")
    report = report_of([cell("plain", None), cell("x", 8.0, accounted=7.0, low=0.1)], failures=(failed,))
    path = tmp_path / "gap.json"
    path.write_text(report.to_json())
    assert GapReport.load(path) == report
    path.write_text(report.to_json().replace('"trainer"', '"trainor"', 1))
    with pytest.raises(ReportError, match="unknown key"):
        GapReport.load(path)


def test_an_accounted_epsilon_that_is_no_number_is_exceeded():
    assert not cell("x", 8.0, accounted=8.0, low=8.0).exceeds
    assert cell("x", 8.0, accounted=8.0, low=8.01).exceeds
    other = replace(evidence("epsilon", 9, 9, 9), delta=1e-7)  # says nothing about a delta of 1e-5
    assert not replace(cell("x", 8.0, accounted=8.0), evidence=(other,)).exceeds
    nan = cell("x", 8.0, accounted=8.0)
    nan = replace(nan, guarantee=replace(nan.guarantee, accounted=budget(math.nan)))
    assert nan.exceeds


def test_the_table_says_what_was_nominal_accounted_and_measured():
    cells = [cell("plain", None), cell("edpsgd", 8.0, accounted=7.99, low=0.31)]
    cells += [cell("microbatch", 8.0, nominal=8.0, accounted=61.34)]
    text, markdown = render_text(report_of(cells)), render_markdown(report_of(cells))
    lines = [line.split() for line in text.splitlines()[2:5]]
    assert lines[0][:6] == ["plain", "inf", "90.0%", "1.00", "none", "none"]
    assert lines[1][4:9] == ["7.99", "7.99", "0.31", "of", "5.10"]
    assert "microbatch at epsilon 8: nominal 8.00, accounted 61.3, measured at least 0\n" in text
    assert "one nominal epsilon is not one guarantee" in text
    assert "not one guarantee" not in render_text(report_of(cells[:2]))
    assert "edpsgd at epsilon 8: nominal" not in text
    for shown in (text, markdown):
        assert LOW_BOUND in shown
    assert "| RT101 loss | auc | 0.600 | 0.550 | 0.650 | 5.100 |" in markdown


def test_a_table_without_any_cell_lists_the_failures():
    report = report_of([], failures=(FailedCell("x at epsilon 8, seed 0", "fell | over"),))
    assert "FAILED: x at epsilon 8, seed 0: fell | over" in render_text(report)
    assert "fell &#124; over" in render_markdown(report)


def test_an_attack_that_broke_is_listed_and_one_that_does_not_apply_is_not():
    failures = (Failure("RT105", "failed", "ran dry"), Failure("RT106", "not_applicable", "needs weights"))
    text = render_text(report_of([replace(cell("plain", None), failures=failures)]))
    assert "attack RT105 on plain at epsilon inf: ran dry" in text
    assert "RT106" not in text


def test_what_the_guarantees_do_not_cover_is_said():
    report = report_of([cell("edpsgd", 8.0, accounted=8.0)])
    learned = replace(report, settings={"alpha": 0.05, "model": {"spec": "tiny"}})
    assert "no guarantee covers the vocabulary" in render_text(learned)
    assert "vocabulary" not in render_text(replace(learned, settings={"model": {"spec": "minilm"}}))


def test_exposure_has_a_column_where_canaries_were_planted():
    one = cell("plain", None)
    planted = replace(one, evidence=(*one.evidence, evidence("exposure", 7.5, 6.0, 9.0)))
    assert "exposure" not in render_text(report_of([one]))
    assert "7.5 [6.0, 9.0]" in render_text(report_of([planted]))


class TestLabelCanaries:
    def test_the_table_has_a_column_for_each_adversary(self):
        private = with_planted("x", 8.0, (5.5, 2.5, 2.25), accounted=7.9)
        lines = render_text(report_of([cell("plain", None), private]))
        rows = [line.split() for line in lines.splitlines() if line.strip()]
        header, plain, private = (row for row in rows if row[0] in ("trainer", "plain", "x"))
        at = header.index("updates")
        assert header[at : at + 4] == ["updates", "final", "box", "rows"]
        assert private[at : at + 4] == ["5.50", "2.50", "2.25", "0"]
        assert plain[at : at + 3] == ["-", "-", "-"]
        assert "for an adversary of all updates" in " ".join(lines.split())

    def test_without_any_the_table_is_as_it_was(self):
        lines = render_text(report_of([cell("x", 8.0, accounted=7.9)]))
        assert "measured" in lines
        assert "updates" not in lines
        assert "TPR@0.01" in lines

    def test_more_than_is_accounted_for_is_a_broken_claim(self):
        assert with_planted("x", 8.0, (9.0, 1.0, 1.0), accounted=7.9).exceeds
        assert not with_planted("x", 8.0, (7.5, 1.0, 1.0), accounted=7.9).exceeds

    def test_canaries_that_hardly_move_are_said_and_no_failed_attack(self):
        one = with_planted("x", 8.0, (0.0, 0.0, 0.0), accounted=7.9)
        one = replace(
            one, failures=(Failure("label-canaries", "failed", "canaries moved the updates 0.20 times as far"),)
        )
        text = " ".join(render_text(report_of([one])).split())
        assert "INCONCLUSIVE: x at epsilon 8, seed 0: canaries moved the updates 0.20 times as far" in text
        assert "FAILED" not in text

    def test_canaries_that_are_no_evidence_where_nothing_hides_them_make_it_inconclusive(self):
        trouble = (Failure("label-canaries", "failed", "canaries moved the updates 1.50 times as far"),)
        one = with_planted("x", 8.0, (1.0, 0.5, 0.5), accounted=8.0)
        assert outcome(report_of([one])) == "measured"
        assert outcome(report_of([replace(one, failures=trouble)])) == "inconclusive"
        hiding = with_planted("x", 8.0, (1.0, 0.5, 0.5), accounted=900.0, nominal=8.0)
        assert outcome(report_of([replace(hiding, failures=trouble)])) == "measured"

    def test_what_accounts_for_no_finite_epsilon_has_no_place_in_a_picture(self, tmp_path):
        endless = with_planted("x", 8.0, (1.0, 0.5, 0.2), accounted=math.inf, nominal=8.0)
        draw(report_of([endless]), tmp_path / "gap.svg")
        assert "no trainer with a guarantee" in (tmp_path / "gap.svg").read_text()
        assert not any("accounted" in figure.title for figure in figures(report_of([endless])))

    def test_the_picture_has_a_line_for_each_adversary(self, tmp_path):
        cells = [with_planted("x", e, (0.8 * e, 0.3 * e, 0.25 * e), accounted=e) for e in (8.0, 2.0)]
        draw(report_of(cells), tmp_path / "gap.svg")
        drawn = (tmp_path / "gap.svg").read_text()
        assert all(color in drawn for color in COLORS)
