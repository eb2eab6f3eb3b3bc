"""What pages of experiments share: the verdict and the numbers that matter first, pictures, tables, settings."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from redteam.core import INCONCLUSIVE, LEAK, PASS
from redteam.experiments.report import ExperimentReport
from redteam.experiments.table import ReportTable
from redteam.formats.html.page import Figure, HtmlTable, Number, Page, Section, draw

Outcome = Literal["leak", "inconclusive", "measured"]
CODES: dict[Outcome, int] = {"leak": LEAK, "inconclusive": INCONCLUSIVE, "measured": PASS}  # that a command exits with

_KINDS = {"leak": "leak", "inconclusive": "inconclusive", "measured": "plain"}
_DEEPEST = 4
_MOST_NUMBERS, _MOST_LINES = 3, 40


def page_of(
    report: ExperimentReport,
    title: str,
    outcome: Outcome,
    *,
    sentence: str,
    numbers: Sequence[Number],
    steps: Sequence[str],
    problems: Sequence[str],
    figures: Iterable[Figure],
    told: Sequence[str],
    tables: Mapping[str, ReportTable],
    command: Sequence[str],
) -> str:
    """Return an experiment as one HTML page; the first of `tables` stands open, the others are to unfold."""
    (first, whole), *others = tables.items()
    unfold = (
        Section(first, tables=(("", _html(whole)),), open=True),
        Section("What the numbers are, and what they are not", _first(told), open=True),
        *(Section(name, tables=(("", _html(each)),)) for name, each in others),
        _again(report, command),
    )
    return draw(
        Page(
            title,
            _KINDS[outcome],
            outcome.upper(),
            sentence,
            tuple(_about(report)),
            numbers=tuple(numbers[:_MOST_NUMBERS]),
            alarms=(("What went wrong, or stands in the way", _first(problems)),) if problems else (),
            next=_first(steps),
            figures=tuple(figures),
            sections=tuple(each for each in unfold if not each.empty),
            foot=f"redteam {report.tool_version}, {report.created}. Its models are measurements, not for release.",
        )
    )


def _first(lines: Sequence[str]) -> tuple[str, ...]:
    """Return lines that a page has room for, and how many more there are."""
    more = len(lines) - _MOST_LINES
    return (*lines[:_MOST_LINES], *((f"and {more:,} more, in the saved report",) if more > 0 else ()))


def _html(table: ReportTable) -> HtmlTable:
    numbers = tuple(each for each in table.right if each != table.headers[0])  # which names its row
    return HtmlTable(tuple(table.headers), tuple(tuple(line) for line in table.lines), numbers)


def _about(report: ExperimentReport) -> Iterator[tuple[str, str]]:
    model, settings = report.settings.get("model"), report.settings
    if isinstance(model, dict):
        yield "Model", str(model.get("spec", "-"))
    for name, key in (("Rows", "rows"), ("Attacks", "attacks")):
        if key in settings:
            yield name, _said(settings[key])
    yield "Date", report.created


def _again(report: ExperimentReport, command: Sequence[str]) -> Section:
    note = (
        "With the same data, version and seeds, on the same kind of machine, the numbers are the same; options for "
        "files, columns and training are those of the first run."
    )
    rows = tuple(_flat(report.settings))
    settings = (("Settings", HtmlTable(("setting", "value"), rows)),) if rows else ()
    return Section("Do it again", (note,), settings, (("", " ".join(map(shlex.quote, command))),))


def _flat(settings: Mapping[str, Any], before: str = "", deep: int = 1) -> Iterator[tuple[str, str]]:
    """Yield every setting with the names that lead to it."""
    for name, value in settings.items():
        if isinstance(value, dict) and deep < _DEEPEST:
            yield from _flat(value, f"{before}{name}.", deep + 1)
        else:
            yield f"{before}{name}", _said(value)


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | dict) else str(value)
