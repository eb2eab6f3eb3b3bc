"""The pictures of the gap experiment's page: theory against practice, what accuracy costs in leakage, and canaries."""

import math
from collections.abc import Iterator, Sequence

from redteam.data.label_canaries import ACCESSES
from redteam.experiments.gap.grid import epsilon_words
from redteam.experiments.gap.report import GapReport, GapRow, SeedsMeasure, Spread
from redteam.experiments.gap.table import overclaimed, short
from redteam.experiments.table import MARK
from redteam.formats.html.charts import Mark, Range, log_ranges, ranges
from redteam.formats.html.page import Figure, HtmlTable
from redteam.formats.html.plane import Axis, Point, Series, log_ends, plane, told
from redteam.formats.html.svg import spread

_ROWS = "users' rows"  # by the best attack
_MOST, _MOST_TRAINERS = 60, 12  # rows in a picture, and pictures of trainers; the table has all
_FLOOR = 0.1  # where a bound of 0 stands on a logarithmic axis
_BY = {**dict.fromkeys(ACCESSES, "label canaries"), _ROWS: "all attacks"}


def figures(report: GapReport) -> Iterator[Figure]:
    """Yield every picture that the report has numbers for."""
    finite = [row for row in report.rows if row.accounted is not None and math.isfinite(row.accounted.epsilon)]
    guaranteed = [row for row in finite if _best(row) is not None]
    if not _comparable(report):
        guaranteed = []
    yield from _line(guaranteed[:_MOST])
    for trainer in list(dict.fromkeys(row.trainer for row in guaranteed))[:_MOST_TRAINERS]:
        yield from _theory(trainer, [row for row in guaranteed if row.trainer == trainer])
    yield from _leakage(report.rows[:_MOST])
    yield from _exposure(report.rows[:_MOST])


def _comparable(report: GapReport) -> bool:
    """Tell whether guarantees are of what was measured: one of single examples bounds nothing of a user."""
    told = ((cell.guarantee, each.unit) for cell in report.cells for each in cell.evidence)
    return all(guarantee is None or guarantee.accounted.covers(unit) for guarantee, unit in told)


def _by(row: GapRow, name: str) -> SeedsMeasure | None:
    return row.best("epsilon") if name == _ROWS else row.by_canaries(name)


def _best(row: GapRow) -> tuple[str, SeedsMeasure] | None:
    """Return who proves most about a row, and what."""
    found = [(name, bound) for name in _BY if (bound := _by(row, name)) is not None]
    return max(found, key=lambda pair: pair[1].spread.mean, default=None)


def _line(rows: Sequence[GapRow]) -> Iterator[Figure]:
    """Yield where the true epsilon of each training lies: between what is proven and what is accounted for."""
    drawn, lines = [], []
    for row in rows:
        best, accounted, nominal = _best(row), row.accounted, row.nominal
        assert best is not None
        assert accounted is not None
        (by, bound), top = best, accounted.epsilon
        low, most = bound.spread.mean, bound.attainable
        marks = (
            Mark("accounted", top, "guarantee"),
            *((Mark("nominal", nominal.epsilon, "limit"),) if nominal is not None and overclaimed(row) else ()),
            Mark("attainable", most, "attainable"),
        )
        name = f"{row.words}{MARK if row.untrained else ''}"
        said = f"{short(low)} to {short(top)}" if low <= top else f"at least {short(low)}: a broken claim"
        drawn.append(Range(name, min(low, top), max(low, top), None, said, "plain" if low <= top else "broken", marks))
        nominal_words = "-" if nominal is None else short(nominal.epsilon)
        lines.append((name, nominal_words, short(top), short(low), by, short(most)))
    if not drawn:
        return
    title = "Epsilon: nominal, accounted, measured, attainable"
    values = [v for row in drawn for v in (row.low, row.high, *(mark.value for mark in row.marks))]
    low, high = log_ends(values)
    headers = ("training", "nominal", "accounted", "measured", "by", "attainable")
    over = [row for row in rows if overclaimed(row)]
    meaning = (
        "The true epsilon of a training lies on its bar: attacks prove that it is no smaller than the left end, the "
        "accounting that it is no larger than the right one. But for delta, one person's example changes the odds of "
        "anything seen by a factor of 2.7 at most at an epsilon of 1, of 3,000 at one of 8.",
        "Green: accounted. Purple: the most that so large a sample could have shown; a bar far to the left of it is "
        "an attack that found little, not a training that leaks little.",
        *(f"Red: what {row.words} is published with; its people have {_worse(row)}." for row in over[:3]),
    )
    picture = log_ranges(title, told_of(lines), drawn, [], axis="epsilon (logarithmic)", ends=(low, high))
    yield Figure(
        title, picture, meaning, HtmlTable(headers, tuple(lines), ("nominal", "accounted", "measured", "attainable"))
    )


def told_of(lines: Sequence[Sequence[str]]) -> str:
    """Return the rows of a table in words."""
    return "; ".join(" ".join(line) for line in lines)


def _worse(row: GapRow) -> str:
    assert row.accounted is not None
    return f"an epsilon of {short(row.accounted.epsilon)} accounted for"


def _theory(trainer: str, rows: Sequence[GapRow]) -> Iterator[Figure]:
    """Yield what each adversary proves of one trainer against what it accounts for, both on logarithmic axes."""
    series, lines = [], []
    for look, name in enumerate(_BY):
        points = []
        for row in sorted(rows[:_MOST], key=lambda each: each.accounted.epsilon if each.accounted else 0.0):
            bound = _by(row, name)
            if bound is None or row.accounted is None:
                continue
            s, mark = bound.spread, MARK if row.untrained else ""
            points.append(Point(row.accounted.epsilon, s.mean, None, (s.low, s.high), bound.attainable, mark))
            lines.append(
                (epsilon_words(row.epsilon) + mark, name, short(row.accounted.epsilon), _of(s), short(bound.attainable))
            )
        series.append(Series(name, points, look, joined=True))
    hollow = [
        Point(row.nominal.epsilon, bound.spread.mean)
        for row in rows
        if overclaimed(row) and row.nominal is not None and (bound := _by(row, _ROWS)) is not None
    ]
    series.append(Series("the same at its nominal epsilon", hollow, len(_BY) - 1, hollow=True))
    every = [point for each in series for point in each.points]
    if not every:
        return
    x = Axis("epsilon accounted for (logarithmic)", *log_ends([point.x for point in every]), log=True)
    low, high = log_ends([value for point in every for value in point.ys])
    zero = any(not min(point.ys) > 0 for point in every)
    y = Axis("epsilon measured, lower bound (log)", min(low, _FLOOR) if zero else low, high, log=True)
    title = f"{trainer}: theory against practice"
    meaning = (
        "In the shaded part more is measured than is accounted for: a broken claim. The further below the line, the "
        "less these attacks got of what people were told they might. Dashes: the most that could have been shown.",
        *(("Marks on the lower edge stand for 0: nothing was shown.",) if zero else ()),
        *((f"{MARK} learned nothing, so that nothing leaks.",) if any(row.untrained for row in rows) else ()),
    )
    headers = ("epsilon", "adversary", "accounted", "measured", "attainable")
    picture = plane(title, told(series), series, x, y, equal=True)
    yield Figure(title, picture, meaning, HtmlTable(headers, tuple(lines), headers[2:]))


def _of(s: Spread) -> str:
    low, high = short(s.low), short(s.high)
    return short(s.mean) if low == high else f"{short(s.mean)} [{low}, {high}]"


def _leakage(rows: Sequence[GapRow]) -> Iterator[Figure]:
    """Yield accuracy against the AUC of the best attack, a series for each trainer."""
    found = [(row, best) for row in rows if (best := row.best("auc")) is not None]
    if not found:
        return
    series, lines = [], []
    for look, trainer in enumerate(dict.fromkeys(row.trainer for row, _ in found)):
        points = []
        for row, best in found:
            a, s = row.accuracy, best.spread
            said = ("∞" if row.epsilon is None else f"{row.epsilon:g}") + (MARK if row.untrained else "")
            if row.trainer == trainer:
                points.append(Point(s.mean, a.mean, (s.low, s.high), (a.low, a.high), said=said))
                by, auc = f"{best.attack} {best.signal}", f"{s.mean:.3f} [{s.low:.3f}, {s.high:.3f}]"
                right = f"{a.mean:.1%} [{a.low:.1%}, {a.high:.1%}]"
                lines.append((trainer, epsilon_words(row.epsilon), right, auc, by))
        series.append(Series(trainer, points, look))
    every = [point for each in series for point in each.points]
    across = spread([0.5, *(v for p in every for v in p.xs)], least=0.0, most=1.0)
    up = spread([v for p in every for v in p.ys], least=0.0, most=1.0)
    x = Axis("AUC of the best attack", *across, marks=(Mark("chance", 0.5, "chance"),))
    title, headers = "Accuracy against leakage", ("trainer", "epsilon", "accuracy", "AUC", "attack")
    least = min(found, key=lambda pair: pair[1].spread.mean)
    most = max(found, key=lambda pair: pair[1].spread.mean)
    meaning = (
        "The further to the right, the more often an outsider picks who was in the data: "
        f"{100 * most[1].spread.mean:.0f} times in 100 from {most[0].words}, {100 * least[1].spread.mean:.0f} from "
        f"{least[0].words}; guessing gets 50. The further up, the more useful the model. Beside each mark its epsilon.",
    )
    picture = plane(title, told(series), series, x, Axis("accuracy on held-out texts", *up))
    yield Figure(title, picture, meaning, HtmlTable(headers, tuple(lines), ("accuracy", "AUC")))


def _exposure(rows: Sequence[GapRow]) -> Iterator[Figure]:
    """Yield the exposure of planted canaries, beside what a held-out one has by chance."""
    found = [(row, best) for row in rows if (best := row.best("exposure")) is not None]
    if not found:
        return
    drawn = [
        Range(row.words, b.spread.low, b.spread.high, b.spread.mean, f"{b.spread.mean:.1f} bits") for row, b in found
    ]
    lines = [Mark("a held-out canary: 1 bit, by chance", 1.0, "chance")]
    ends = spread([0.0, 1.0, *(v for row in drawn for v in (row.low, row.high))], least=0.0, most=1e300)
    rows_of = tuple((r.name, r.said, f"[{r.low:.1f}, {r.high:.1f}]") for r in drawn)
    title, headers = "Exposure of planted canaries", ("training", "exposure", "interval")
    meaning = ("Each bit halves the number of guesses that it takes to get a secret out of the model.",)
    picture = ranges(title, told_of(rows_of), drawn, lines, axis="exposure (bits)", ends=ends)
    yield Figure(title, picture, meaning, HtmlTable(headers, rows_of, headers[1:]))
