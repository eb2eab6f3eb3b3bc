"""The kinds of picture a report needs: ranges on one scale, ranges each on its own, a ROC curve, two histograms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from redteam.formats.html.svg import (
    WIDTH,
    Scale,
    bottom_axis,
    line,
    marker,
    path,
    picture,
    rectangle,
    side_axis,
    words,
)
from redteam.report.pictures import Curve

LEFT, RIGHT = 12.0, WIDTH - 14.0
_ROW = 38.0
_HIGH = 230.0  # of a ROC curve


@dataclass(frozen=True)
class Mark:
    """A value with a name, drawn across a row or a whole picture; `kind` is a class of the page's colours."""

    name: str
    value: float
    kind: str


@dataclass(frozen=True)
class Range:
    """One row: its name, from where to where, a best guess, what is drawn besides, and its values in words."""

    name: str
    low: float
    high: float
    value: float | None
    said: str
    kind: str = "plain"
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Strip:
    """A range with the scale that it alone is on."""

    range: Range
    low: float
    high: float
    log: bool = False


def ranges(
    name: str, about: str, rows: Sequence[Range], lines: Sequence[Mark], *, axis: str, ends: tuple[float, float]
) -> Markup:
    """Draw rows on one linear scale, one below the other, and lines across all of them."""
    return _ranges(name, about, rows, lines, axis, Scale(*ends, LEFT, RIGHT))


def log_ranges(
    name: str, about: str, rows: Sequence[Range], lines: Sequence[Mark], *, axis: str, ends: tuple[float, float]
) -> Markup:
    """Draw the same on a logarithmic scale."""
    return _ranges(name, about, rows, lines, axis, Scale(*ends, LEFT, RIGHT, log=True))


def _ranges(name: str, about: str, rows: Sequence[Range], lines: Sequence[Mark], axis: str, scale: Scale) -> Markup:
    top = 8.0 + 15.0 * len(lines)
    bottom = top + _ROW * len(rows) + 4
    parts: list[Markup] = []
    for i, each in enumerate(sorted(lines, key=lambda mark: mark.value)):
        x = scale.at(each.value)
        parts.append(line(x, 4.0 + 15.0 * i + 10, x, bottom, f"line {each.kind}"))
        before = x > WIDTH / 2
        at, anchor = (x - 4, "end") if before else (x + 4, "start")
        room = x if before else WIDTH - x
        parts.append(words(at, 12 + 15.0 * i, each.name, f"small {each.kind}", anchor=anchor, room=room))
    for i, row in enumerate(rows):
        parts += _row(row, scale, top + _ROW * i)
    parts += bottom_axis(scale, bottom, axis)
    return picture(name, about, bottom + 40, parts)


def _row(row: Range, scale: Scale, top: float) -> Iterator[Markup]:
    y = top + 26
    taken = 6.2 * len(row.said) + 12
    yield words(LEFT, top + 14, row.name, room=RIGHT - LEFT - taken)
    yield words(RIGHT, top + 14, row.said, "small", anchor="end")
    low, high = scale.at(row.low), scale.at(row.high)
    yield line(scale.start, y, scale.end, y, "grid")
    yield rectangle(low, y - 4, max(high - low, 2.0), 8, f"bar {row.kind}")
    if row.value is not None:
        yield marker(scale.at(row.value), y, f"dot {row.kind}")
    for each in row.marks:
        yield marker(scale.at(each.value), y, f"dot {each.kind}", shape="diamond")


def strips(name: str, about: str, rows: Sequence[Strip]) -> Markup:
    """Draw ranges that do not share a unit, each over a scale of its own, with its lines."""
    parts: list[Markup] = []
    height = 96.0
    for i, each in enumerate(rows):
        top = height * i
        scale = Scale(each.low, each.high, LEFT, RIGHT, log=each.log)
        row, y = each.range, top + 48
        parts.append(words(LEFT, top + 15, row.name, "strong", room=RIGHT - LEFT - 6.4 * len(row.said) - 10))
        parts.append(words(RIGHT, top + 15, row.said, "small", anchor="end"))
        for k, mark in enumerate(row.marks):
            parts += _across(mark, scale, y, above=k == 0)
        low, high = scale.at(row.low), scale.at(row.high)
        parts.append(rectangle(low, y - 6, max(high - low, 2.0), 12, f"bar {row.kind}"))
        parts.append(line(low, y - 9, low, y + 9, f"end {row.kind}"))
        if row.value is not None:
            parts.append(marker(scale.at(row.value), y, f"dot {row.kind}"))
        parts += bottom_axis(scale, top + 66, "")
    return picture(name, about, height * len(rows), parts)


def _across(mark: Mark, scale: Scale, y: float, *, above: bool) -> Iterator[Markup]:
    x = scale.at(mark.value)
    yield line(x, y - 16, x, y + 18, f"line {mark.kind}")
    before = x > WIDTH / 2
    at, anchor = (x - 4, "end") if before else (x + 4, "start")
    yield words(at, y - 10 if above else y + 16, mark.name, f"small {mark.kind}", anchor=anchor, room=240)


def roc(name: str, about: str, curve: Curve, at: Sequence[float]) -> Markup:
    """Draw a ROC curve, both scales logarithmic, with its band, the line of chance and the FPRs that limits are at."""
    least = min(point.fpr for point in curve.points)
    least = 10.0 ** -next(k for k in range(1, 12) if 10.0**-k <= least * 1.0001)
    left, bottom = 44.0, 12 + _HIGH
    across = Scale(least, 1.0, left, RIGHT, log=True)
    up = Scale(least, 1.0, bottom, 12.0, log=True)
    parts = [*side_axis(up, left, RIGHT), *bottom_axis(across, bottom, "false-positive rate (logarithmic)")]
    band = [(across.at(each.fpr), up.at(each.high)) for each in curve.points]
    band += [(across.at(each.fpr), up.at(each.low)) for each in reversed(curve.points)]
    parts.append(path(band, "band", closed=True))
    parts.append(path([(left, bottom), (RIGHT, 12.0)], "line chance"))
    parts.append(words(across.at(0.35), up.at(0.35) + 26, "chance", "small chance", anchor="start"))
    for fpr in at:
        if least < fpr < 1:
            parts.append(line(across.at(fpr), 12.0, across.at(fpr), bottom, "line limit"))
            parts.append(words(across.at(fpr) + 4, bottom - 6, f"limit at {fpr:g}", "small limit"))
    parts.append(path([(across.at(each.fpr), up.at(each.tpr)) for each in curve.points], "curve"))
    parts.append(words(left + 6, 24, "true-positive rate", "small"))
    return picture(name, about, bottom + 40, parts)


def histograms(name: str, about: str, curve: Curve) -> Markup:
    """Draw the shares of members and of non-members in bins of the score, one over the other."""
    left, top, bottom = 44.0, 34.0, 190.0
    across = Scale(curve.edges[0], curve.edges[-1], left, RIGHT)
    most = max(0.01, *curve.members, *curve.nonmembers)
    up = Scale(0.0, most * 1.05, bottom, top)
    parts = [*side_axis(up, left, RIGHT), *bottom_axis(across, bottom, 'score: higher says "was trained on"')]
    for shares, kind in ((curve.nonmembers, "outside"), (curve.members, "inside")):
        steps = [(across.at(curve.edges[0]), bottom)]
        for share, low, high in zip(shares, curve.edges, curve.edges[1:], strict=False):
            steps += [(across.at(low), up.at(share)), (across.at(high), up.at(share))]
        steps.append((across.at(curve.edges[-1]), bottom))
        parts += [path(steps, f"area {kind}", closed=True), path(steps, f"outline {kind}")]
    for x, kind, said in ((left, "inside", "members"), (left + 110, "outside", "non-members (dashed)")):
        parts += [rectangle(x, 8, 12, 12, f"area {kind}"), words(x + 18, 18, said, "small")]
    return picture(name, about, bottom + 40, parts)
