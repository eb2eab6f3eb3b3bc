"""The picture of the gap experiment: where its marks stand, zeros included, and that it is the same every time."""

import sys

import matplotlib as mpl
import pytest
from gap_doubles import cell, report_of
from matplotlib.figure import Figure

from redteam.core import UsageError
from redteam.experiments.gap.picture import draw
from redteam.experiments.picture import require_matplotlib

GRID = [
    cell("plain", None, auc=0.7, accuracy=0.95),
    cell("edpsgd", 8.0, accounted=8.0, low=0.3, auc=0.55),
    cell("edpsgd", 2.0, accounted=2.0, low=0.0, auc=0.5),
    cell("microbatch", 8.0, accounted=61.3, nominal=8.0, low=0.5),
]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a report and return the figure's two panels and its legend's words."""
    kept = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (kept.append(self), save(self, *a, **k)))

    def panels(cells):
        draw(report_of(cells), tmp_path / "gap.png")
        figure = kept[-1]
        words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        return *figure.axes, words

    return panels


def marks(axes):
    """The points of a panel that are drawn with a marker, and whether it is filled."""
    found = set()
    for line in axes.lines:
        if line.get_marker() in "os^D" and len(line.get_xdata()) == 1:
            found.add((float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_markerfacecolor() != "none"))
    return found


def test_accounted_stands_against_measured_and_a_claim_beside_it(drawn):
    theory, _, words = drawn(GRID)
    assert theory.get_xscale() == theory.get_yscale() == "log"
    floor = 0.05
    assert marks(theory) == {(8.0, 0.3, True), (2.0, floor, True), (61.3, 0.5, True), (8.0, 0.5, False)}
    assert words == ["plain", "edpsgd", "microbatch", "largest attainable", "nominal"]


def test_a_zero_stands_on_a_floor_that_is_marked_and_below_all_that_is_not_zero(drawn):
    theory, _, _ = drawn([*GRID, cell("edpsgd", 0.5, accounted=0.5, low=0.02)])
    heights = sorted({y for _, y, _ in marks(theory)})
    assert heights[0] == 0.02 / 4
    assert heights[1] == 0.02
    assert any("0 (nothing shown)" in text.get_text() for text in theory.texts)
    low, high = theory.get_ylim()
    assert low < heights[0]
    assert high > 5.1  # the attainable


def test_the_diagonal_is_where_measured_equals_accounted(drawn):
    theory, _, _ = drawn(GRID)
    (diagonal,) = [line for line in theory.lines if line.get_linestyle() == "-" and line.get_label() == "_"]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == list(theory.get_xlim())


def test_accuracy_stands_against_the_best_attack_with_its_epsilon(drawn):
    _, leakage, _ = drawn(GRID)
    assert {(0.7, 0.95, True), (0.55, 0.9, True), (0.5, 0.9, True), (0.6, 0.9, True)} == marks(leakage)
    assert sorted(text.get_text() for text in leakage.texts) == ["2", "8", "8", "∞"]


@pytest.mark.parametrize("cells", [[], GRID[:1]])
def test_a_panel_without_points_says_so(drawn, cells):
    theory, _, _ = drawn(cells)
    assert any("no trainer with a guarantee" in text.get_text() for text in theory.texts)


def test_the_same_report_gives_the_same_file(tmp_path):
    names = [tmp_path / name for name in ("a.svg", "b.svg", "a.png", "b.png")]
    for path in names:
        draw(report_of(GRID), path)
    files = [path.read_bytes() for path in names]
    assert files[0] == files[1]
    assert files[2] == files[3]
    assert b"epsilon accounted for" in files[0]  # text is text
    assert files[2].startswith(b"\x89PNG")


def test_settings_of_the_user_are_given_back(tmp_path):
    before = mpl.rcParams["svg.hashsalt"]
    draw(report_of(GRID), tmp_path / "a.svg")
    assert mpl.rcParams["svg.hashsalt"] == before


def test_without_matplotlib_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install '\.\[plot\]'"):
        require_matplotlib()
