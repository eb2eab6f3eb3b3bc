"""Draw docs/images/line-{light,dark}.svg from recorded outputs: `python docs/make/picture.py`.

Each bar is where the true epsilon of one training lies, between what attacks proved and what the training accounts for.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from redteam.experiments.gap.report import GapReport, GapRow
from redteam.report.metrics import metric

DOCS = Path(__file__).parents[1]
LIMIT = 8.0  # the policy's in this picture
LEFT, RIGHT, TOP, ROW, WIDTH = 250, 730, 74, 46, 760
SMALLEST, LARGEST = 0.3, 3000.0  # of the logarithmic axis; 0 stands at its left end
THEMES = {
    "light": {
        "ink": "#1f2328",
        "grey": "#656d76",
        "bar": "#b6c8e8",
        "low": "#1f5fbf",
        "high": "#1a7f37",
        "limit": "#cf222e",
    },
    "dark": {
        "ink": "#e6edf3",
        "grey": "#9198a1",
        "bar": "#2f4368",
        "low": "#6ea8fe",
        "high": "#3fb950",
        "limit": "#f85149",
    },
}


@dataclass(frozen=True)
class Training:
    """A training: epsilon as proven from below, as nominal and as accounted for; None where nothing is guaranteed."""

    name: str
    low: float
    nominal: float | None
    accounted: float | None

    @property
    def verdict(self) -> str:
        """What a policy with the limit makes of it."""
        if self.accounted is None:
            return "no guarantee: no limit on epsilon is met"
        within = self.accounted <= LIMIT
        return "within the limit" if within else f"nominal {self.nominal:.3g}, accounted {self.accounted:,.0f}: not met"


def trainings() -> tuple[Training, ...]:
    """Return the trainings of the recorded `redteam gap`, private ones at epsilon 8, and of `redteam verify`."""
    saved = GapReport.load(DOCS / "records" / "gap-snips.json")
    rows = {(row.trainer, row.epsilon): _training(row) for row in saved.rows}
    verify = (DOCS / "records" / "verify-rd102.txt").read_text(encoding="utf-8")
    (low, accounted) = re.findall(r"epsilon is at least ([\d.]+) at 99%.*?the ([\d.]+) that", verify, flags=re.DOTALL)[
        0
    ]
    return (
        Training("plain training", *rows["plain", None]),
        Training("micro-batches (Dupuy et al. 2022)", *rows["microbatch", 8.0]),
        Training("DP-SGD (RD101)", *rows["dpsgd", 8.0]),
        Training("eDP-SGD (RD102)", *rows["edpsgd", 8.0]),
        Training("eDP-SGD, by redteam verify", float(low), float(accounted), float(accounted)),
    )


def draw(theme: str) -> str:
    """Return the picture as SVG."""
    shown = trainings()
    bottom = TOP + ROW * len(shown)
    body = [*_axis(THEMES[theme], bottom)]
    for i, each in enumerate(shown):
        body += _bar(each, TOP + ROW * i + ROW // 2, THEMES[theme])
    title = (
        "Where the true epsilon of a training lies: at or above what attacks prove, at or below what it accounts for"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" role="img"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    return "\n".join([f"{head} {font}>", f"<title>{title}</title>", *body, "</svg>", ""])


def _bar(each: Training, y: int, theme: dict[str, str]) -> Iterator[str]:
    low, high = _x(each.low), _x(each.accounted or LARGEST)
    yield _text(LEFT - 14, y - 3, each.name, theme["ink"], "end")
    yield _text(LEFT - 14, y + 13, each.verdict, theme["grey"], "end", size=11)
    yield f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{theme["bar"]}" stroke-width="12"/>'
    yield _tick(low, y, theme["low"])
    proven = f"≥ {each.low:.2f}" if each.low else "≥ 0"
    yield _text(low, y - 14, proven, theme["low"], "end" if each.low else "start", size=11)
    if each.accounted is None:
        yield f'<path d="M{RIGHT} {y - 9}l12 9l-12 9z" fill="{theme["bar"]}"/>'
        return
    yield _tick(high, y, theme["high"])
    near = 0 <= _x(LIMIT) - high < 60  # the line of the limit would go through the number
    accounted = f"≤ {each.accounted:,.0f}" if each.accounted >= 100 else f"≤ {each.accounted:.2f}"
    yield _text(high - 6 if near else high, y - 14, accounted, theme["high"], "end" if near else "start", size=11)


def _tick(x: float, y: int, colour: str) -> str:
    return f'<path d="M{x:.1f} {y - 10}v20" stroke="{colour}" stroke-width="4"/>'


def _axis(theme: dict[str, str], bottom: int) -> Iterator[str]:
    legend = (("low", "measured lower bound"), ("high", "accounted guarantee"), ("limit", "policy limit"))
    for (colour, words), x in zip(legend, (LEFT - 60, LEFT + 120, LEFT + 320), strict=True):
        yield _text(x, 20, ("≤   " if x > LEFT else "") + words, theme[colour], "start", weight=600)
    limit = _x(LIMIT)
    dashes = f'stroke="{theme["limit"]}" stroke-width="2" stroke-dasharray="5 4"'
    yield f'<path d="M{limit:.1f} {TOP - 24}V{bottom}" {dashes}/>'
    yield _text(limit, TOP - 30, f"max_epsilon = {LIMIT:g}", theme["limit"], "middle", size=11)
    yield f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="{theme["grey"]}"/>'
    for value in (0.0, 1.0, 10.0, 100.0, 1000.0):
        yield f'<path d="M{_x(value):.1f} {bottom}v5" stroke="{theme["grey"]}"/>'
        yield _text(_x(value), bottom + 19, f"{value:,.0f}", theme["grey"], "middle", size=11)
    yield _text(RIGHT, bottom + 36, "epsilon (logarithmic)", theme["grey"], "end", size=11)


def _x(value: float) -> float:
    share = math.log(max(value, SMALLEST) / SMALLEST) / math.log(LARGEST / SMALLEST)
    return LEFT + share * (RIGHT - LEFT)


def _training(row: GapRow) -> tuple[float, float | None, float | None]:
    """Return the best bound from below, of users' rows and of canaries alike, and what is named and accounted for."""
    low = max((m.spread.mean for m in row.measures if metric(m.metric).guaranteed), default=0.0)
    nominal, accounted = (None if budget is None else budget.epsilon for budget in (row.nominal, row.accounted))
    return low, nominal, accounted


def _text(x: float, y: float, words: str, colour: str, anchor: str, *, size: int = 13, weight: int = 400) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(words)}</text>'


if __name__ == "__main__":
    for name in THEMES:
        (DOCS / "images" / f"line-{name}.svg").write_text(draw(name), encoding="utf-8")
