"""The drill's rows, findings, table and picture, from cells made by hand."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from redteam.canary.found import Found
from redteam.canary.measures import exposure_interval, measure
from redteam.core import ReportError
from redteam.experiments.drill.grid import DrillCell
from redteam.experiments.drill.picture import draw
from redteam.experiments.drill.report import DrillReport, DrillResult, drill_rows
from redteam.experiments.drill.table import render_markdown, render_text
from redteam.experiments.report import FailedCell
from redteam.report.values import Failure
from redteam.statistics.exposure import chance


def found(attack="RT299", *, right=4, heldout=0, bits=13.0, ahead=2.0, places=4, repetitions=1):
    return Found(attack, "C", repetitions, places, right, heldout, bits, 1.0, bits, 13.3, 13.3, "exact", ahead)


def cell(defense="none", repetitions=1, seed=0, *, finds=(), right=90, **changes):
    rest = {
        "canaries": len(finds),
        "crowded": 0,
        "sizes": (10,) * 4,
        "left": 9000,
        "found": tuple(finds),
        "exact": (),
        "failures": (),
        "tested": 100,
        "right_own": 900,
        "own": 1000,
        "commonest": 0.2,
    }
    template = changes.pop("template", "pin {digit:4}")
    rest |= changes
    rest.setdefault("fewest_left", rest["left"])
    return DrillResult(DrillCell("pin", template, repetitions, defense, seed, "existing"), right=right, **rest)


def sampled(count, *, at_least=9.8, alpha=0.05 / 15):
    """The median exposure and guesses of canaries whose secrets stand out of all samples of 10^10 candidates."""
    many = [
        Found("RT201", "C", 1, 10, 0, 0, 13.3, 1.0, at_least, 9.8, math.log2(1e10), "bounded", 2.0)
        for _ in range(count)
    ]
    measures = measure(many, [chance([10] * 10)] * count, alpha=alpha)
    guesses = next(each for each in measures if each.name == "guesses")
    return exposure_interval(many, alpha=alpha), guesses.planted


@pytest.mark.parametrize("canaries", [20, 300, 400, 2_000])
def test_more_canaries_never_prove_less_where_candidates_are_sampled(canaries):
    """At a level of 0.05 / 15 the samples of 400 canaries, each wrong once in 100,000, are wrong too often together."""
    exposure, guesses = sampled(canaries)
    assert exposure.low == 9.8
    assert guesses.high == pytest.approx(1e10 / 2**9.8)
    assert sampled(canaries, alpha=1e-9)[0].low == 0.0


def report_of(cells, *, tests=10, **parts):
    rows = drill_rows(cells, alpha=0.05, each=0.05 / tests)
    rest = {"failures": (), "broken": (), "skipped": (), "created": "2026-01-01", "tool_version": "0"} | parts
    return DrillReport(settings={"canaries": 10}, alpha=0.05, tests=tests, each=0.05 / tests, rows=rows, **rest)


OUT, IN = [found()] * 18 + [found(right=1, heldout=1)] * 2, [found(right=0, heldout=1, ahead=-1.0, bits=0.1)] * 20


class TestRows:
    def test_seeds_are_pooled(self):
        (row,) = drill_rows(
            [cell(seed=0, finds=OUT[:10]), cell(seed=1, finds=OUT[10:], right=80)], alpha=0.05, each=0.005
        )
        assert (row.seeds, row.canaries, row.accuracy) == ((0, 1), 20, 0.85)
        success = row.by("RT299").measure("success")
        assert success.planted.value == 0.9
        assert success.planted.low == pytest.approx(0.683, abs=1e-3)  # Clopper and Pearson, by any table
        assert success.planted.high == pytest.approx(0.988, abs=1e-3)
        assert (success.heldout, success.chance) == (0.0, pytest.approx(1e-4))
        assert row.by("RT299").measure("hamming").planted.value == pytest.approx(0.3)
        assert row.by("RT299").measure("exposure").planted.value == 13.0

    def test_a_row_that_learned_nothing_or_next_to_nothing_is_flagged(self):
        report = report_of(
            [
                cell(right=80, finds=IN),
                cell("all", right=9, finds=IN, right_own=300, kept=1, passes=20),
                cell("d", right=45, finds=IN, right_own=500),  # half as good, as far as can be told
                cell("es", right=20, finds=IN, right_own=200, kept=7, passes=20),
            ]
        )
        rows, shown = report.rows, render_text(report)
        assert [row.collapsed for row in rows] == [False, True, False, True]
        assert [row.untrained for row in rows] == [(), (), (), (0,)]
        assert [(row.kept, row.passes) for row in rows[1:4]] == [((1,), 20), ((), None), ((7,), 20)]
        assert "1 of 20" in shown
        assert "COLLAPSED!: pin {digit:4}, R 1, label existing, all" in " ".join(shown.split())
        assert "UNTRAINED!: pin {digit:4}, R 1, label existing, es" in " ".join(shown.split())
        assert "but 2 rows of 4 learned too little to tell" in " ".join(shown.split())

    def test_a_finding_is_more_than_held_out_secrets_at_the_level_of_the_whole_drill(self):
        out, kept = drill_rows([cell(finds=OUT), cell("all", finds=IN)], alpha=0.05, each=0.005)
        assert out.proven == ("RT299",)
        assert kept.proven == ()
        (strict,) = drill_rows([cell(finds=OUT)], alpha=0.05, each=2.0**-19)  # 18 wins of 18 have p = 2 ** -18
        (guess, whole, _) = strict.by("RT299").comparisons
        assert (guess.p_value, guess.proven) == (2.0**-18, False)
        assert (whole.wins, whole.proven) == (18, True)  # of ten thousand candidates each

    def test_an_attack_that_broke_on_a_seed_is_left_out_of_its_row(self):
        both = [found(), found("RT298")]
        (row,) = drill_rows([cell(finds=both), cell(seed=1, finds=[found()])], alpha=0.05, each=0.005)
        assert [each.attack for each in row.attacks] == ["RT299"]

    def test_an_attack_that_only_guesses_or_only_ranks_is_judged_by_that(self):
        finds = [found("RT298", bits=None, ahead=None), found("RT297", right=None, heldout=None, bits=None)]
        (row,) = drill_rows([cell(finds=finds)], alpha=0.05, each=0.005)
        assert [c.signal for c in row.by("RT298").comparisons] == ["guess", "whole"]
        assert [c.signal for c in row.by("RT297").comparisons] == ["rank"]
        assert row.by("RT297").measures == ()

    def test_one_attack_is_shown_for_all_rows(self):
        better = [found("RT298", right=4, bits=None, ahead=None)] * 20
        worse = [found("RT298", right=3, bits=None, ahead=None)] * 20
        report = report_of([cell(finds=[*OUT, *worse]), cell("all", finds=[*IN, *better])])
        assert report.headline == "RT298"  # 0 + 1 whole secrets, against 0.9 + 0

    def test_nothing_is_found_where_nothing_was_learned(self):
        """Over drills of models that depend on no secret, a finding comes at most as often as the level says."""
        rng, hits = np.random.default_rng(0), 0
        for _ in range(400):
            finds = [
                found(right=int(rng.binomial(4, 0.1)), heldout=int(rng.binomial(4, 0.1)), ahead=rng.normal())
                for _ in range(20)
            ]
            (row,) = drill_rows([cell(finds=finds)], alpha=0.05, each=0.05 / 2)
            hits += bool(row.proven)
        assert hits <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)


REPORT = report_of([cell(d, r, finds=OUT if d == "none" else IN) for r in (1, 10) for d in ("none", "all")])


class TestReport:
    def test_it_is_read_back(self, tmp_path):
        (tmp_path / "drill.json").write_text(REPORT.to_json())
        assert DrillReport.load(tmp_path / "drill.json") == REPORT
        (tmp_path / "drill.json").write_text('{"format": "redteam.drill/9"}')
        with pytest.raises(ReportError, match="drill/9"):
            DrillReport.load(tmp_path / "drill.json")

    def test_the_table_says_what_came_out(self):
        text = render_text(REPORT, width=80)
        lines = [line.split() for line in text.splitlines()]
        assert [line[2:5] for line in lines[2:6]] == [
            ["1", "existing", "none"], ["1", "existing", "all"], ["10", "existing", "none"], ["10", "existing", "all"]
        ]  # fmt: skip
        assert "18 of 20 [0.68, 0.99] (0)" in text
        assert "in 2 rows of 4, at up to 10 repetitions" in " ".join(text.split())
        assert "0.05 for the whole drill, shared over 10" in " ".join(text.split())

    def test_markdown_has_every_measure(self):
        text = render_markdown(REPORT)
        assert "| 1 | existing | none | RT299 | success | 0.900 | 0.683 | 0.988 | 0.000 | 0.0001 |" in text
        assert text.count("| guess |") == text.count("| rank |") == 4

    def test_what_failed_and_too_few_canaries_are_told(self):
        failed = FailedCell("pin {digit:4}, R 1, label existing, all, seed 0", "fell over")
        tiny = cell(finds=OUT[:3], left=8)
        skipped = tuple(f"attack RT204 does not apply on R {n}: needs --base" for n in (1, 10))
        report = report_of([tiny], failures=(failed,), broken=("attack RT298 broke on it: gone",), skipped=skipped)
        text = " ".join(render_text(report).split())
        assert "attack RT204 does not apply on R 1: needs --base (and on 1 other)" in text
        assert "FAILED: pin {digit:4}, R 1, label existing, all, seed 0: fell over" in text
        assert "FAILED: attack RT298 broke on it: gone" in text
        assert "3 canaries a row can prove nothing at the level 0.005" not in text  # three of ten each may
        few = report_of([cell(finds=OUT[:1], left=10)])
        assert "1 canaries a row can prove nothing at the level 0.005" in " ".join(render_text(few).split())

    def test_whole_secrets_prove_nothing_where_no_attack_guesses(self):
        ranked = found(right=None, heldout=None)
        few = report_of([cell(finds=[ranked] * 7)])
        assert "7 canaries a row can prove nothing at the level 0.005" in " ".join(render_text(few).split())
        assert "can prove nothing" not in render_text(report_of([cell(finds=[ranked] * 8)]))

    def test_crowded_canaries_are_told(self):
        assert "20 canaries share sentence and label" in render_text(
            report_of([cell(finds=OUT, crowded=20)]), width=160
        )

    def test_a_report_without_rows_is_words_alone(self):
        assert "nothing extracted is no evidence" in render_text(report_of([]))

    def test_failures_that_are_none_of_ours_are_not_told(self):
        quiet = cell(finds=OUT, failures=(Failure("RT204", "not_applicable", "no base"),))
        assert "RT204" not in render_text(report_of([quiet]))


class TestPicture:
    def test_success_stands_against_repetitions_with_intervals(self, tmp_path, monkeypatch):
        kept = []
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k)))
        draw(REPORT, tmp_path / "drill.png")
        (axes,) = kept[-1].axes
        assert axes.get_title() == "pin {digit:4}\nlabel: existing"
        drawn = {bars[0].get_marker(): bars[0].get_ydata().tolist() for bars in axes.containers}
        assert drawn == {"o": [0.9, 0.9], "s": [0.0, 0.0]}
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10"]
        xs = [bars[0].get_xdata()[0] for bars in axes.containers]
        assert xs[0] < 1 < xs[1]  # beside each other
        words = [text.get_text() for legend in kept[-1].legends for text in legend.get_texts()]
        assert words == ["none", "all", "guessing"]

    def test_a_panel_without_points_says_so(self, tmp_path):
        draw(report_of([cell(finds=[found(right=None, heldout=None)])]), tmp_path / "a.svg")
        assert "no attack gave a guess" in (tmp_path / "a.svg").read_text()

    def test_many_panels_and_the_same_file_every_time(self, tmp_path):
        cells = [cell(finds=OUT, template=f"{name} {{digit:4}}") for name in "abcd"]
        for name in ("a.svg", "b.svg"):
            draw(report_of(cells), tmp_path / name)
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
