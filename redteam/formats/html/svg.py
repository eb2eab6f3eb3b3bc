"""Pictures as inline SVG, without a library: scales, marks and words, styled by the classes of the page around them.

All are 360 units wide, so that a phone shows letters at the size at which they were set.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from redteam.formats import clean, clip

WIDTH = 360.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_PER_LETTER = 6.1  # units, of the font at its usual size


@dataclass(frozen=True)
class Scale:
    """From values to units, linear or logarithmic; what lies outside stands at the nearer end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value stands."""
        value = min(max(value, self.low), self.high)
        if self.high <= self.low:
            return self.start
        if self.log:
            low = math.log(self.low)  # not of the ratio, which may be beyond all numbers
            share = (math.log(value) - low) / (math.log(self.high) - low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> tuple[float, ...]:
        """Return round values between the ends: on a logarithmic scale powers of ten, and more where those are few."""
        if self.log:
            least, most = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if most - least < 2:  # too few powers of ten to read a value by
                each = (m * 10.0**power for power in range(least - 1, most + 1) for m in (1, 2, 5))
                return tuple(v for v in each if self.low * 0.999 <= v <= self.high * 1.001)
            return tuple(10.0**power for power in range(least, most + 1, max(1, (most - least + 1) // 5)))
        rough = (self.high - self.low) / about
        if not rough > 0:
            return (self.low,)
        tenfold = 10.0 ** math.floor(math.log10(rough))
        step = next(each * tenfold for each in _STEPS if each * tenfold >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return tuple(round(k * step, 12) for k in range(first, math.floor(self.high / step + 1e-9) + 1))


def element(name: str, *content: str, **attributes: float | str | None) -> Markup:
    """Return one element; `class_` is `class`, `_` becomes `-`, every string that is no markup is escaped."""
    written = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup().join(each if isinstance(each, Markup) else escape(clean(each)) for each in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def words(x: float, y: float, text: str, class_: str = "", *, anchor: str = "start", room: float = WIDTH) -> Markup:
    """Return words on one line, cut to `room` units; a middle or end anchor puts them about or before `x`."""
    shown = clip(text, max(3, int(room / _PER_LETTER)))
    return element("text", shown, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def path(points: Iterable[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """Return a line through points, or the area within them."""
    drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{drawn}{'Z' if closed else ''}", class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """Return a filled rectangle."""
    return element("rect", x=x, y=y, width=max(width, 0.0), height=height, class_=class_, rx=2)


def marker(x: float, y: float, class_: str, *, shape: str = "circle") -> Markup:
    """Return a mark at a value: a circle, or a diamond, which colours need not tell from it."""
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=4, class_=class_)
    return path(((x, y - 5.5), (x + 5.5, y), (x, y + 5.5), (x - 5.5, y)), class_, closed=True)


_TURNS = {1: (4, 45), 2: (3, -90), 3: (4, 0), 4: (3, 90), 5: (5, -90), 6: (6, 0)}  # corners, and where the first is


def shaped(x: float, y: float, look: int, class_: str) -> Markup:
    """Return the mark of a series: a circle, a square, triangles, a diamond and so on, as `look` counts."""
    corners, first = _TURNS.get(look % (len(_TURNS) + 1), (0, 0))
    if not corners:
        return element("circle", cx=x, cy=y, r=4, class_=class_)
    angles = [math.radians(first + 360 * k / corners) for k in range(corners)]
    return path([(x + 5.2 * math.cos(a), y + 5.2 * math.sin(a)) for a in angles], class_, closed=True)


def picture(name: str, description: str, height: float, parts: Iterable[Markup]) -> Markup:
    """Return the whole drawing; who cannot look at it hears its name and description."""
    told = f"{name}. {description}"
    return element(
        "svg",
        Markup("\n").join(parts),
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_label=told,
        xmlns="http://www.w3.org/2000/svg",
    )


def bottom_axis(scale: Scale, y: float, name: str, *, ticks: Sequence[float] | None = None) -> Iterator[Markup]:
    """Yield the line of values below a drawing, with its name under it; `ticks` where round values would not do."""
    yield line(scale.start, y, scale.end, y, "axis")
    for value in scale.ticks() if ticks is None else ticks:
        x = scale.at(value)
        yield line(x, y, x, y + 4, "axis")
        yield words(x, y + 16, shown(value), "small", anchor="middle")
    if name:
        yield words((scale.start + scale.end) / 2, y + 32, name, "small", anchor="middle")


def side_axis(scale: Scale, x: float, end: float) -> Iterator[Markup]:
    """Yield the line of values to the left of a drawing, and a faint line across it, up to `end`, at each."""
    for value in scale.ticks():
        y = scale.at(value)
        yield line(x, y, end, y, "grid")
        yield words(x - 5, y + 4, shown(value), "small", anchor="end")
    yield line(x, scale.start, x, scale.end, "axis")


def shown(value: float) -> str:
    """Write a value of an axis."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.6g}"


def spread(values: Sequence[float], *, least: float, most: float) -> tuple[float, float]:
    """Return the ends of a linear scale that shows all values with some room, within `least` and `most`."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low or 1.0)
    return max(least, low - room), min(most, high + room)


def _written(value: float | str) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else clean(str(value))
