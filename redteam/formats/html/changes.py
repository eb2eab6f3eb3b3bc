"""The page of a comparison: what changed from one report to the next, and which of it is proven."""

from collections.abc import Iterator, Sequence
from typing import Any

from redteam.formats.changes import cells, headline, how
from redteam.formats.html.charts import Mark, Range, ranges
from redteam.formats.html.page import Figure, HtmlTable, Number, Page, Section, draw
from redteam.formats.html.svg import spread
from redteam.policy.comparison import Change, Comparison
from redteam.report.reading import measure_of, measured_by
from redteam.statistics import Interval

_KINDS = {"WORSE": "leak", "BETTER": "pass", "NOT COMPARABLE": "inconclusive"}
_OUTCOMES = {"worse": "leak", "better": "pass"}
_HEADERS = ("number", "old", "new", "change", "outcome")
_MOST = 10  # rows of one picture, and pictures; the table has all


def changes_page(comparison: Comparison, **_: Any) -> str:
    """Return a comparison as a page of its own."""
    word, sentence = headline(comparison)
    ordered = sorted(comparison.changes, key=_first)
    rows = tuple((*cells(each), each.direction) for each in ordered)
    every = HtmlTable(_HEADERS, rows, _HEADERS[1:4])
    return draw(
        Page(
            title=f"What changed from {comparison.old} to {comparison.new}",
            kind=_KINDS.get(word, "plain"),
            word=word,
            sentence=sentence,
            about=(("Old", comparison.old), ("New", comparison.new)),
            numbers=tuple(map(_number, ordered))[:3],
            alarms=(("Why it cannot be said to be no worse", comparison.gaps),) if comparison.gaps else (),
            next=tuple(_steps(comparison)),
            figures=tuple(_figures(ordered)),
            sections=tuple(
                each
                for each in (
                    Section("Every number", tables=(("", every),) if rows else (), open=True),
                    Section(
                        "When a change is proven", (f"{how(comparison)[:1].upper()}{how(comparison)[1:]}.",), open=True
                    ),
                    Section("Notes", comparison.notes),
                    Section("Do it again", texts=(("", "redteam compare OLD.json NEW.json"),)),
                )
                if not each.empty
            ),
            foot="What is not proven to have changed may have changed all the same.",
        )
    )


def _first(change: Change) -> tuple[int, float]:
    """Put what is worse first, then what is better, the larger change before the smaller one."""
    order = ("worse", "better", "no proven change", "only in old", "only in new")
    return order.index(change.direction), -abs(change.difference or 0.0)


def _number(change: Change) -> Number:
    name, old, new, _ = cells(change)
    kind = _OUTCOMES.get(change.direction, "plain")
    said = change.direction if kind == "plain" else f"proven {change.direction}"
    return Number(name, new, f"before: {old}", said, kind)


def _steps(comparison: Comparison) -> Iterator[str]:
    if comparison.worse:
        yield "find what changed in data or training before the new model is released: people in its data lose more"
    if comparison.gaps:
        yield "audit the new model by everything that the old report measured, and compare again"
    if any(change.direction == "no proven change" for change in comparison.changes):
        yield "more members and non-members make smaller changes provable"


def _figures(changes: Sequence[Change]) -> Iterator[Figure]:
    """Yield for each kind of number what it was and what it is."""
    for measure in list(dict.fromkeys(measure_of(each.id) for each in changes))[:_MOST]:
        own = [each for each in changes if measure_of(each.id) == measure and each.old and each.new]
        if own:
            yield _figure(measure, own)


def _figure(measure: str, changes: Sequence[Change]) -> Figure:
    of = measured_by(changes[0].id)
    drawn: list[Range] = []
    for each in changes[:_MOST]:
        attack = each.id.partition(".")[0] + (f" {signal}" if (signal := each.id.partition(":")[2]) else "")
        for when, interval, kind in (("old", each.old, "outside"), ("new", each.new, "plain")):
            assert interval is not None
            drawn.append(_range(f"{attack}, {when}", interval, of.measured(interval), kind, bound=of.guaranteed))
    chance = 0.5 if of.measured_in == "probability" else 0.0
    most = 1.0 if of.measured_in in ("probability", "share") else 1e300
    ends = spread(
        [chance, *(v for row in drawn for v in (row.low, row.high))], least=min(0.0, *(r.low for r in drawn)), most=most
    )
    lines = [Mark("chance", chance, "chance")] if of.measured_in == "probability" else []
    worse, better = (sum(each.direction == way for each in changes) for way in ("worse", "better"))
    meaning = (
        f"Of {len(changes)} numbers {worse} {'is' if worse == 1 else 'are'} proven worse for the people in the data "
        f"and {better} better; where the bars of old and new overlap, no change is proven.",
        *((f"The {_MOST} largest changes; the table has all.",) if len(changes) > _MOST else ()),
    )
    title = f"{of.symbol}{measure.removeprefix(measure.partition('@')[0])}: before and after"
    rows = tuple((*cells(each), each.direction) for each in changes)
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    picture = ranges(title, about, drawn, lines, axis=f"{of.symbol} ({of.measured_in})", ends=ends)
    return Figure(title, picture, meaning, HtmlTable(_HEADERS, rows, _HEADERS[1:4]), wide=True)


def _range(name: str, interval: Interval, said: str, kind: str, *, bound: bool) -> Range:
    """Return a row; of what is bounded from below alone only that end says anything."""
    if bound:
        return Range(name, interval.low, interval.low, interval.low, said, kind)
    return Range(name, interval.low, interval.high, interval.value, said, kind)
