"""The picture of the gap experiment: theory against practice, and what accuracy costs in leakage."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redteam.data.label_canaries import ACCESSES
from redteam.experiments.gap.report import GapReport, GapRow, SeedsMeasure
from redteam.experiments.gap.table import overclaimed, with_canaries
from redteam.experiments.picture import GREY, figure, legend, looks, say_empty
from redteam.experiments.table import MARK

Looks = dict[str, dict[str, Any]]
Point = tuple[GapRow, float, SeedsMeasure]  # with the epsilon that is accounted for, and the measured bound

_SIZE = (11.0, 4.8)  # inches
_ROWS = "users' rows, best attack"
COLORS = ("#000000", "#6a3d9a", "#b15928", "#9e9e9e")  # of the three adversaries, and of attacks on users' rows
_BESIDE = 1.03  # times the epsilon of the trainer before: not so far that a point crosses the line


def draw(report: GapReport, *paths: Path) -> None:
    """Write the picture to files, each of the kind its suffix names: .png, .svg or .pdf."""
    with figure(_SIZE, *paths) as drawn:
        theory, leakage = drawn.subplots(1, 2)
        styles = _styles(report)
        _theory_against_practice(theory, report.rows, styles)
        _utility_against_leakage(leakage, report.rows, styles)
        marks = [{"label": name, **look, "markersize": 6.0} for name, look in styles.items()]
        most = {"color": GREY, "marker": "_", "markersize": 11, "linestyle": "none", "label": "largest attainable"}
        if with_canaries(report):
            names = (*ACCESSES, _ROWS)
            marks += [{"label": name, "color": color} for name, color in zip(names, COLORS, strict=True)]
        hollow = {"color": GREY, "marker": "o", "markerfacecolor": "none", "linestyle": "none", "label": "nominal"}
        claims = any(map(overclaimed, report.rows))
        legend(drawn, [*marks, most, *([hollow] if claims else [])], columns=5)
        if any(row.untrained for row in report.rows):
            drawn.supxlabel(f"{MARK} learned nothing: that nothing leaks there says nothing about privacy", fontsize=8)


def _styles(report: GapReport) -> Looks:
    """Give each trainer a look; the later ones are drawn smaller, so that marks in one place can all be seen."""
    return {
        name: look | {"markersize": max(3.5, 9.0 - 1.8 * i), "linestyle": "none"}
        for i, (name, look) in enumerate(looks(row.trainer for row in report.rows).items())
    }


def _theory_against_practice(axes: Any, rows: tuple[GapRow, ...], styles: Looks) -> None:
    """Accounted epsilon against the measured lower bound, with the largest attainable one; nominal ones are hollow."""
    axes.set(xscale="log", yscale="log", title="Theory against practice")
    axes.set(xlabel="epsilon accounted for (hollow: nominal)", ylabel="epsilon measured, lower bound")
    points = list(_points(rows))
    lines = {name: [*_points(rows, name)] for name in ACCESSES}
    if any(lines.values()):
        _by_adversary(axes, lines | {_ROWS: points}, styles)
        return
    if not points:
        say_empty(axes, "no trainer with a guarantee\nand a measured bound")
        return
    floor = _floor(points)
    for row, accounted, bound in points:
        look, spread = styles[row.trainer], bound.spread
        y, most = max(spread.mean, floor), max(bound.attainable, floor)
        ends = [[y - max(spread.low, floor)], [max(spread.high, floor) - y]]
        axes.plot([accounted], [most], marker="_", color=GREY, markersize=11)
        axes.plot([accounted] * 2, [y, most], color=GREY, linewidth=0.7, linestyle=":")
        axes.errorbar([accounted], [y], yerr=ends, capsize=3, zorder=3, **look)
        if row.untrained:
            axes.annotate(
                MARK, (accounted, y), xytext=(5, 5), textcoords="offset points", color=look["color"], fontsize=8
            )
        if overclaimed(row) and row.nominal is not None:
            axes.plot([row.nominal.epsilon], [y], zorder=4, **look | {"markersize": 11, "markerfacecolor": "none"})
            axes.plot([row.nominal.epsilon, accounted], [y, y], color=look["color"], linewidth=0.7, alpha=0.6)
    _diagonal(axes, points, floor)


def _by_adversary(axes: Any, lines: dict[str, list[Point]], styles: Looks) -> None:
    """Draw a line for each adversary and trainer: its colour says who observes, its mark which trainer it is.

    Trainers stand a little beside each other, or those that account for the same would hide each other.
    """
    points = [point for each in lines.values() for point in each]
    floor = _floor(points)
    for (name, some), color in zip(lines.items(), COLORS, strict=True):
        for place, (trainer, look) in enumerate(styles.items()):
            own = sorted((p for p in some if p[0].trainer == trainer), key=lambda point: point[1])
            beside = _BESIDE ** (place - (len(styles) - 1) / 2)
            drawn = look | {"color": color, "linestyle": "-", "linewidth": 0.9, "markersize": 4.5}
            _line(axes, own, drawn, floor=floor, beside=beside)
            for row, accounted, bound in own if name == ACCESSES[0] else ():
                y = max(bound.spread.mean, floor)
                if overclaimed(row) and row.nominal is not None:
                    hollow = drawn | {"markersize": 9, "markerfacecolor": "none"}
                    axes.plot([row.nominal.epsilon * beside], [y], zorder=4, **hollow)
                    ends = [row.nominal.epsilon * beside, accounted * beside]
                    axes.plot(ends, [y, y], color=color, linewidth=0.7, linestyle=":")
                if row.untrained:
                    near = {"xytext": (5, 5), "textcoords": "offset points"}
                    axes.annotate(MARK, (accounted * beside, y), **near)
    _diagonal(axes, points, floor)


def _line(axes: Any, points: list[Point], look: dict[str, Any], *, floor: float, beside: float) -> None:
    """Draw the bounds of one adversary on one trainer over the accounted epsilons, with the largest attainable ones."""
    if not points:
        return
    xs = [accounted * beside for _, accounted, _ in points]
    ends = [(b.spread.mean, b.spread.low, b.spread.high) for _, _, b in points]
    ys, lows, highs = ([max(value, floor) for value in values] for values in zip(*ends, strict=True))
    reach = [[y - low for y, low in zip(ys, lows, strict=True)], [h - y for y, h in zip(ys, highs, strict=True)]]
    axes.errorbar(xs, ys, yerr=reach, capsize=3, zorder=3, **look)
    most = [max(bound.attainable, floor) for _, _, bound in points]
    axes.plot(xs, most, marker="_", color=look["color"], linestyle="none", markersize=8, alpha=0.6)


def _points(rows: tuple[GapRow, ...], adversary: str | None = None) -> Iterator[Point]:
    """Yield the rows with a guarantee and a bound, by label canaries where an adversary is named."""
    for row in rows:
        bound = row.best("epsilon") if adversary is None else row.by_canaries(adversary)
        if row.accounted is not None and 0 < row.accounted.epsilon < math.inf and bound is not None:
            yield row, row.accounted.epsilon, bound


def _floor(points: list[Point]) -> float:
    """Return where a bound of zero is drawn on a log axis: a decade and more below all that is not zero."""
    shown = [v for _, accounted, bound in points for v in (bound.spread.mean, bound.spread.low, accounted) if v > 0]
    return float(min(min(shown) / 4, 0.05))


def _diagonal(axes: Any, points: list[Point], floor: float) -> None:
    """Draw the line that no honest training can be measured above, and mark where zeros stand."""
    xs = [accounted for _, accounted, _ in points] + [row.nominal.epsilon for row, _, _ in points if row.nominal]
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


def _utility_against_leakage(axes: Any, rows: tuple[GapRow, ...], styles: Looks) -> None:
    """Held-out accuracy against the AUC of the best attack, both with intervals; each point with its epsilon."""
    axes.set(title="Utility against leakage")
    axes.set(xlabel="AUC of the best attack (0.5: chance)", ylabel="accuracy on held-out texts")
    found = [(row, best) for row in rows if (best := row.best("auc")) is not None]
    if not found:
        say_empty(axes, "no attack gave an AUC")
        return
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    for row, best in found:
        look, x, y = styles[row.trainer], best.spread, row.accuracy
        ends = {"xerr": [[x.mean - x.low], [x.high - x.mean]], "yerr": [[y.mean - y.low], [y.high - y.mean]]}
        axes.errorbar([x.mean], [y.mean], elinewidth=0.8, capsize=2, **ends, **look)
        words = ("∞" if row.epsilon is None else f"{row.epsilon:g}") + (MARK if row.untrained else "")
        near = {"xytext": (5, 5), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(words, (x.mean, y.mean), color=look["color"], **near)
