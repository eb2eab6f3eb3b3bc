"""The picture of the drill: whole secrets that are extracted against how often they were repeated, for each defence.

One panel for each sentence and label; intervals are those of the table, and the dashed line is what guessing gives.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redteam.canary.measures import CanaryMeasure
from redteam.experiments.drill.report import DrillReport, DrillRow
from redteam.experiments.picture import GREY, figure, legend, looks, say_empty
from redteam.experiments.table import MARK

Looks = dict[str, dict[str, Any]]

_PANEL = (4.6, 3.6)  # inches
_COLUMNS = 3
_APART = 1.06  # factor between the marks of defences at one R, so that none hides another


def draw(report: DrillReport, *paths: Path) -> None:
    """Write the picture to files, each of the kind its suffix names: .png, .svg or .pdf."""
    places = list(dict.fromkeys((row.template, row.label) for row in report.rows)) or [("", "")]
    columns = min(_COLUMNS, len(places))
    lines = -(-len(places) // columns)
    with figure((max(6.0, _PANEL[0] * columns), _PANEL[1] * lines + 0.6), *paths) as drawn:
        panels = drawn.subplots(lines, columns, squeeze=False).flatten().tolist()
        styles = {name: look | {"markersize": 5.0} for name, look in looks(row.defense for row in report.rows).items()}
        for place, axes in zip(places, panels, strict=False):
            _panel(axes, place, report, styles)
        for axes in panels[len(places) :]:
            axes.set_axis_off()
        guessing = {"color": GREY, "linestyle": "--", "linewidth": 0.8, "label": "guessing"}
        legend(drawn, [*({"label": name, **look} for name, look in styles.items()), guessing], columns=5)
        if any(row.flagged for row in report.rows):
            drawn.supxlabel(
                f"{MARK} learned nothing, or less than half of what it learns without a defence", fontsize=8
            )


def _panel(axes: Any, place: tuple[str, str], report: DrillReport, styles: Looks) -> None:
    title = f"{place[0]}\nlabel: {place[1]}" if place[1] else ""
    axes.set(title=title.replace("$", r"\$"), xscale="log", ylim=(-0.04, 1.04))
    axes.set(xlabel="repetitions R", ylabel=f"whole secrets extracted by {report.headline or 'no attack'}")
    points = list(_points(report, place))
    if not points:
        say_empty(axes, "no attack gave a guess")
        return
    counts = sorted({row.repetitions for row, _ in points})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlim(counts[0] / 1.8, counts[-1] * 1.8)
    axes.axhline(points[0][1].chance, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    middle = (len(styles) - 1) / 2
    for rank, (name, look) in enumerate(styles.items()):
        own = sorted(((row.repetitions, m) for row, m in points if row.defense == name), key=lambda pair: pair[0])
        if not own:
            continue
        xs = [count * _APART ** (rank - middle) for count, _ in own]
        ys = [m.planted.value for _, m in own]
        ends = [[m.planted.value - m.planted.low for _, m in own], [m.planted.high - m.planted.value for _, m in own]]
        for x, y, count in zip(xs, ys, (count for count, _ in own), strict=True):
            if any(r.flagged for r, _ in points if (r.repetitions, r.defense) == (count, name)):
                axes.annotate(MARK, (x, y), xytext=(4, 4), textcoords="offset points", color=look["color"])
        axes.errorbar(xs, ys, yerr=ends, capsize=2, elinewidth=0.8, linewidth=0.9, **look)


def _points(report: DrillReport, place: tuple[str, str]) -> Iterator[tuple[DrillRow, CanaryMeasure]]:
    for row in report.rows:
        shown = row.by(report.headline)
        success = shown.measure("success") if shown else None
        if (row.template, row.label) == place and success is not None:
            yield row, success
