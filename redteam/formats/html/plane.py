"""A picture of points in a plane: two values of each with their intervals, on linear or logarithmic scales.

Series differ by shape as well as by colour, for those who do not tell the colours apart, and for paper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from redteam.formats.html.charts import RIGHT, Mark
from redteam.formats.html.svg import (
    WIDTH,
    Scale,
    bottom_axis,
    line,
    path,
    picture,
    rectangle,
    shaped,
    shown,
    side_axis,
    words,
)

_LEFT, _HIGH = 44.0, 230.0
_SMALLEST = 1e-300  # that a scale begins with: below it numbers lose their digits
_LOOKS = 7  # as many shapes and colours there are


@dataclass(frozen=True)
class Point:
    """Two values; the intervals of each where there are any, the most that `y` could have been, and words beside it."""

    x: float
    y: float
    across: tuple[float, float] | None = None
    up: tuple[float, float] | None = None
    most: float | None = None
    said: str = ""

    @property
    def xs(self) -> tuple[float, ...]:
        """All that has to fit across."""
        return (self.x, *(self.across or ()))

    @property
    def ys(self) -> tuple[float, ...]:
        """All that has to fit upwards."""
        return (self.y, *(self.up or ()), *(() if self.most is None else (self.most,)))


@dataclass(frozen=True)
class Series:
    """Points of one kind: `look` counts shapes and colours, hollow ones are outlines, joined ones have a line."""

    name: str
    points: Sequence[Point]
    look: int
    hollow: bool = False
    joined: bool = False


@dataclass(frozen=True)
class Axis:
    """A scale with its name; on a logarithmic one what is 0 stands at the lower end."""

    name: str
    low: float
    high: float
    log: bool = False
    marks: Sequence[Mark] = field(default=())
    ticks: Sequence[float] | None = None


def log_ends(values: Sequence[float], *, least: float = 0.05) -> tuple[float, float]:
    """Return the ends of a logarithmic scale that shows all values above 0; `least` where there are none."""
    above = [value for value in values if value > 0] or [least]
    return max(min(above) / 1.6, _SMALLEST), min(max(above) * 1.6, 1 / _SMALLEST)


def plane(name: str, about: str, series: Sequence[Series], x: Axis, y: Axis, *, equal: bool = False) -> Markup:
    """Draw series; `equal` adds the line on which both values are the same, and shades what lies above it."""
    named = [each for each in series if each.points]
    top = 10.0 + 17.0 * -(-len(named) // 2) + 14
    bottom = top + _HIGH
    across = Scale(x.low, x.high, _LEFT, RIGHT, log=x.log)
    up = Scale(y.low, y.high, bottom, top, log=y.log)
    parts = [*side_axis(up, _LEFT, RIGHT), *bottom_axis(across, bottom, x.name, ticks=x.ticks)]
    parts += _equal(across, up) if equal else []
    for mark in x.marks:
        at = across.at(mark.value)
        parts += [line(at, top, at, bottom, f"line {mark.kind}"), words(at + 4, bottom - 6, mark.name, "small")]
    for mark in y.marks:
        at = up.at(mark.value)
        parts += [
            line(_LEFT, at, RIGHT, at, f"line {mark.kind}"),
            words(RIGHT, at - 4, mark.name, "small", anchor="end"),
        ]
    for each in named:
        parts += _drawn(each, across, up)
    for i, each in enumerate(named):
        left, at = 10.0 + (WIDTH / 2 - 6) * (i % 2), 12.0 + 17 * (i // 2)
        parts += [shaped(left + 5, at, each.look, _style(each)), words(left + 15, at + 4, each.name, "small", room=148)]
    parts.append(words(_LEFT + 5, top - 6, y.name, "small", room=RIGHT - _LEFT))
    return picture(name, about, bottom + 40, parts)


def _style(each: Series) -> str:
    return f"look{each.look % _LOOKS}" + (" hollow" if each.hollow else "")


def _equal(across: Scale, up: Scale) -> Iterator[Markup]:
    """Yield the line of equal values, which two logarithmic scales of any ends show as a straight one."""
    low, high = max(across.low, up.low), min(across.high, up.high)
    if low >= high:
        return
    ends = [(across.at(low), up.at(low)), (across.at(high), up.at(high))]
    yield path(
        [(across.start, up.at(low)), *ends, (across.at(high), up.end), (across.start, up.end)], "beyond", closed=True
    )
    yield path(ends, "line chance")


def _drawn(each: Series, across: Scale, up: Scale) -> Iterator[Markup]:
    style = _style(each)
    if each.joined and len(each.points) > 1:
        yield path([(across.at(p.x), up.at(p.y)) for p in each.points], f"thread {style}")
    for p in each.points:
        x, y = across.at(p.x), up.at(p.y)
        if p.across is not None:
            yield line(across.at(p.across[0]), y, across.at(p.across[1]), y, f"thread {style}")
        if p.up is not None:
            yield line(x, up.at(p.up[0]), x, up.at(p.up[1]), f"thread {style}")
        if p.most is not None:
            yield line(x, y, x, up.at(p.most), "line reach")
            yield rectangle(x - 5, up.at(p.most) - 1, 10, 2, "dot attainable")
        yield shaped(x, y, each.look, style)
        if p.said:
            before = x > WIDTH - 60
            yield words(
                x - 7 if before else x + 7, y - 5, p.said, f"small {style}", anchor="end" if before else "start"
            )


def told(series: Sequence[Series]) -> str:
    """Return all points in words, for who cannot look at them."""
    return "; ".join(
        f"{each.name}: " + ", ".join(f"{shown(p.y)} at {shown(p.x)}" for p in each.points)
        for each in series
        if each.points
    )
