"""The picture of the gap experiment: theory against practice, and what accuracy costs in leakage."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam.experiments.figures import COLOURS, GREY, MARKERS, figure, say_empty
from redteam.experiments.gap.report import GapReport, Row
from redteam.experiments.gap.table import MARK

_SIZE = (11.0, 4.8)  # inches


def draw(report: GapReport, *paths: Path) -> None:
    """Write the picture to files, each of the kind its suffix names: .png, .svg or .pdf."""
    with figure(_SIZE, *paths) as drawn:
        theory, leakage = drawn.subplots(1, 2)
        styles = _styles(report)
        _theory_against_practice(theory, report.rows, styles)
        _utility_against_leakage(leakage, report.rows, styles)
        _legend(drawn, styles, claims=any(_overclaimed(row) for row in report.rows))
        if any(row.untrained for row in report.rows):
            drawn.supxlabel(f"{MARK} learned nothing: that nothing leaks there says nothing about privacy", fontsize=8)


@dataclass(frozen=True)
class _Style:
    colour: str
    marker: str
    size: float


def _styles(report: GapReport) -> dict[str, _Style]:
    """Give each trainer a look; the later ones are drawn smaller, so that marks in one place can all be seen."""
    trainers = dict.fromkeys(row.trainer for row in report.rows)
    return {
        name: _Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], max(3.5, 9.0 - 1.8 * i))
        for i, name in enumerate(trainers)
    }


def _theory_against_practice(axes: Any, rows: tuple[Row, ...], styles: dict[str, _Style]) -> None:
    """Earned epsilon against the measured lower bound, the attainable one above it; claims are hollow marks."""
    axes.set(xscale="log", yscale="log", title="Theory against practice")
    axes.set(xlabel="epsilon earned by training (hollow: claimed)", ylabel="epsilon measured, lower bound")
    points = list(_points(rows))
    if not points:
        say_empty(axes, "no trainer with a guarantee\nand a measured bound")
        return
    floor = _floor(points)
    for row, earned, bound in points:
        style, spread = styles[row.trainer], bound.spread
        look = {"color": style.colour, "marker": style.marker, "markersize": style.size, "linestyle": "none"}
        y, most = max(spread.mean, floor), max(bound.attainable, floor)
        ends = [[y - max(spread.low, floor)], [max(spread.high, floor) - y]]
        axes.plot([earned], [most], marker="_", color=GREY, markersize=11)
        axes.plot([earned] * 2, [y, most], color=GREY, linewidth=0.7, linestyle=":")
        axes.errorbar([earned], [y], yerr=ends, capsize=3, zorder=3, **look)
        if row.untrained:
            axes.annotate(MARK, (earned, y), xytext=(5, 5), textcoords="offset points", color=style.colour, fontsize=8)
        if _overclaimed(row) and row.claimed is not None:
            axes.plot([row.claimed.epsilon], [y], zorder=4, **look | {"markersize": 11, "markerfacecolor": "none"})
            axes.plot([row.claimed.epsilon, earned], [y, y], color=style.colour, linewidth=0.7, alpha=0.6)
    _diagonal(axes, points, floor)


def _points(rows: tuple[Row, ...]) -> Iterator[tuple[Row, float, Any]]:
    for row in rows:
        bound = row.best("epsilon")
        if row.earned is not None and row.earned.epsilon > 0 and bound is not None:
            yield row, row.earned.epsilon, bound


def _floor(points: list[tuple[Row, float, Any]]) -> float:
    """Return where a bound of zero is drawn on a log axis: a decade and more below all that is not zero."""
    shown = [v for _, earned, bound in points for v in (bound.spread.mean, bound.spread.low, earned) if v > 0]
    return float(min(min(shown) / 4, 0.05))


def _diagonal(axes: Any, points: list[tuple[Row, float, Any]], floor: float) -> None:
    """Draw the line that no honest training can be measured above, and mark where zeros stand."""
    claims = [row.claimed.epsilon for row, _, _ in points if row.claimed is not None]
    xs = [earned for _, earned, _ in points] + claims
    left, right = min(xs) / 2, max(xs) * 2
    top = max([right, *(bound.attainable for _, _, bound in points)]) * 1.5
    axes.set(xlim=(left, right), ylim=(floor / 2, top))
    axes.plot([left, right], [left, right], color=GREY, linewidth=1.0, label="_")
    axes.fill_between([left, right], [left, right], [top, top], color=GREY, alpha=0.12, linewidth=0, zorder=0)
    above = "above the line:\na broken claim"
    axes.text(0.03, 0.97, above, transform=axes.transAxes, color=GREY, verticalalignment="top")
    axes.axhline(floor, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    axes.text(
        0.98, floor * 0.85, "0 (nothing shown)", transform=axes.get_yaxis_transform(), color=GREY, ha="right", va="top"
    )


def _utility_against_leakage(axes: Any, rows: tuple[Row, ...], styles: dict[str, _Style]) -> None:
    """Held-out accuracy against the AUC of the best attack, both with intervals; each point with its epsilon."""
    axes.set(title="Utility against leakage")
    axes.set(xlabel="AUC of the best attack (0.5: chance)", ylabel="accuracy on held-out texts")
    found = [(row, best) for row in rows if (best := row.best("auc")) is not None]
    if not found:
        say_empty(axes, "no attack gave an AUC")
        return
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    for row, best in found:
        style, x, y = styles[row.trainer], best.spread, row.accuracy
        look = {"color": style.colour, "marker": style.marker, "markersize": style.size, "linestyle": "none"}
        ends = {"xerr": [[x.mean - x.low], [x.high - x.mean]], "yerr": [[y.mean - y.low], [y.high - y.mean]]}
        axes.errorbar([x.mean], [y.mean], elinewidth=0.8, capsize=2, **ends, **look)
        words = ("∞" if row.epsilon is None else f"{row.epsilon:g}") + (MARK if row.untrained else "")
        near = {"xytext": (5, 5), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(words, (x.mean, y.mean), color=style.colour, **near)


def _legend(figure: Any, styles: dict[str, _Style], *, claims: bool) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=style.colour, marker=style.marker, linestyle="none", label=name)
        for name, style in styles.items()
    ]
    marks.append(
        Line2D([], [], color=GREY, marker="_", markersize=11, linestyle=":", label="most this sample can show")
    )
    if claims:
        marks.append(Line2D([], [], color=GREY, marker="o", markerfacecolor="none", linestyle="none", label="claimed"))
    figure.legend(handles=marks, loc="outside lower center", ncols=min(6, len(marks)), frameon=False)


def _overclaimed(row: Row) -> bool:
    claimed, earned = row.claimed, row.earned
    return claimed is not None and earned is not None and earned.epsilon > 1.005 * claimed.epsilon
