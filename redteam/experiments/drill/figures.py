"""The pictures of the drill's page: secrets extracted, and how far they stand out, against their repetitions."""

from collections.abc import Callable, Iterator, Sequence

from redteam.canary.measures import CanaryMeasure, Measured
from redteam.experiments.drill.report import DrillReport, DrillRow
from redteam.experiments.table import MARK
from redteam.formats import clip
from redteam.formats.html.charts import Mark
from redteam.formats.html.page import Figure, HtmlTable
from redteam.formats.html.plane import Axis, Point, Series, log_ends, plane, told
from redteam.formats.html.svg import spread
from redteam.training.recipes import NONE

_MOST_PLACES, _MOST = 12, 60  # pictures of each kind, and rows in one; the table has all
_ROOM = 64  # letters of a title
Of = Callable[[DrillRow], CanaryMeasure | None]


def figures(report: DrillReport) -> Iterator[Figure]:
    """Yield for each sentence and label how many whole secrets were extracted, and the exposure of canaries."""
    places = list(dict.fromkeys((row.template, row.label) for row in report.rows))
    for place in places[:_MOST_PLACES]:
        rows = [row for row in report.rows if (row.template, row.label) == place][:_MOST]
        named = clip(f"{place[0]!r}, label {place[1]}" if place[1] else repr(place[0]), _ROOM)
        yield from _whole(named, rows, report)
        yield from _exposure(named, rows)


def _whole(named: str, rows: Sequence[DrillRow], report: DrillReport) -> Iterator[Figure]:
    found = [(row, m) for row in rows if (m := _headline(row, report.headline)) is not None]
    if not found:
        return
    most = max(found, key=lambda pair: pair[1].planted.value)
    row, measure = most
    out = round(measure.planted.value * row.canaries)
    meaning = (
        f"Of {row.canaries} secrets that stood {row.repetitions} times in the texts, {report.headline} reads {out} out "
        f"of the model whole ({_defended(row)}); of secrets that were never there, "
        f"{round(measure.heldout * row.canaries)}. A person whose secret is repeated so often can expect the same.",
        *_flagged(rows),
    )
    chance = found[0][1].chance
    y = Axis("share of whole secrets extracted", -0.02, 1.02, marks=(Mark("guessing", chance, "chance"),))
    yield _figure(f"Whole secrets extracted: {named}", found, y, meaning, digits=2)


def _exposure(named: str, rows: Sequence[DrillRow]) -> Iterator[Figure]:
    found = [(row, m) for row in rows if (m := ranked(row, "exposure")) is not None]
    if not found:
        return
    row, measure = max(found, key=lambda pair: pair[1].planted.value)
    bits = measure.planted.value
    meaning = (
        f"At {row.repetitions} repetitions ({_defended(row)}) half of the secrets stand out by {bits:.1f} bits or "
        f"more: each bit halves the guesses that it takes to get one. Held-out secrets, of which the model knows "
        f"nothing, have {measure.heldout:.1f}; by chance it is about 1.",
        *_flagged(rows),
    )
    values = [v for _, m in found for v in (m.planted.low, m.planted.high, m.heldout)]
    y = Axis("exposure (bits), median", *spread([0.0, 1.0, *values], least=0.0, most=1e300))
    yield _figure(f"Exposure against held-out canaries: {named}", found, y, meaning, digits=1)


def _figure(
    title: str, found: Sequence[tuple[DrillRow, CanaryMeasure]], y: Axis, meaning: tuple[str, ...], *, digits: int
) -> Figure:
    series = [
        each
        for look, defense in enumerate(dict.fromkeys(row.defense for row, _ in found))
        for each in _series(defense, look, sorted((p for p in found if p[0].defense == defense), key=_repetitions))
    ]
    counts = sorted({row.repetitions for row, _ in found})
    low, high = log_ends(counts)
    x = Axis("repetitions R (logarithmic)", low, high, log=True, ticks=_apart(counts, low, high))
    headers = ("defence", "R", "planted", "interval", "held-out", "canaries")
    lines = tuple(
        (
            row.defense + (MARK if row.flagged else ""),
            f"{row.repetitions:,}",
            f"{m.planted.value:.{digits}f}",
            f"[{m.planted.low:.{digits}f}, {m.planted.high:.{digits}f}]",
            f"{m.heldout:.{digits}f}",
            f"{row.canaries:,}",
        )
        for row, m in found
    )
    return Figure(title, plane(title, told(series), series, x, y), meaning, HtmlTable(headers, lines, headers[1:]))


def _series(defense: str, look: int, found: Sequence[tuple[DrillRow, CanaryMeasure]]) -> Iterator[Series]:
    planted = [
        Point(
            row.repetitions,
            m.planted.value,
            None,
            (m.planted.low, m.planted.high),
            said=MARK if row.flagged else "",
        )
        for row, m in found
    ]
    yield Series(f"{defense}, planted", planted, look, joined=True)
    yield Series(f"{defense}, held-out", [Point(row.repetitions, m.heldout) for row, m in found], look, hollow=True)


def _apart(counts: Sequence[int], low: float, high: float) -> tuple[float, ...]:
    """Return the numbers of repetitions that have room for their digits below the axis."""
    kept: list[float] = []
    for count in counts:
        if not kept or count / kept[-1] > (high / low) ** 0.09:
            kept.append(count)
    return tuple(kept)


def _headline(row: DrillRow, attack: str | None) -> CanaryMeasure | None:
    shown = row.by(attack)
    return None if shown is None else shown.measure("success")


def ranked(row: DrillRow, name: Measured) -> CanaryMeasure | None:
    """Return a median by the first attack that ranks."""
    return next((m for each in row.attacks if (m := each.measure(name)) is not None), None)


def _defended(row: DrillRow) -> str:
    return "no defence" if row.defense == NONE else f"defence {row.defense}"


def _flagged(rows: Sequence[DrillRow]) -> tuple[str, ...]:
    flagged = any(row.flagged for row in rows)
    return (f"{MARK} learned nothing, or too little to tell.",) if flagged else ()


def _repetitions(pair: tuple[DrillRow, CanaryMeasure]) -> int:
    return pair[0].repetitions
