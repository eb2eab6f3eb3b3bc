"""The drill as one HTML page."""

from collections.abc import Iterator

from redteam.experiments.drill.figures import figures, ranked
from redteam.experiments.drill.report import DrillReport, DrillRow, too_few
from redteam.experiments.drill.table import TITLE, details_of, problems, sentences, table_of, tests_of
from redteam.experiments.page import Outcome, page_of
from redteam.formats.html.page import Number
from redteam.report import number
from redteam.training.recipes import NONE


def outcome(report: DrillReport) -> Outcome:
    """Return what the drill comes to: something proven to be extracted, something missing, or its numbers."""
    if any(row.proven for row in report.rows):
        return "leak"
    missing = bool(report.failures or report.broken) or any(row.untrained for row in report.rows)
    return "inconclusive" if missing or any(too_few(report.rows, report.each)) else "measured"


def render_page(report: DrillReport) -> str:
    """Return the report as a page of its own."""
    told = tuple(sentences(report))
    return page_of(
        report,
        TITLE,
        outcome(report),
        sentence=told[0],
        numbers=tuple(_numbers(report)),
        steps=tuple(_steps(report)),
        problems=tuple(problems(report)),
        figures=figures(report),
        told=told,
        tables={
            "The table": table_of(report),
            "Every measure of every attack": details_of(report),
            "Every comparison with held-out secrets": tests_of(report),
        },
        command=("redteam", "drill", "DATA", "-o", "FOLDER", *_options(report)),
    )


def _options(report: DrillReport) -> Iterator[str]:
    for template in dict.fromkeys(row.template for row in report.rows):
        yield from ("--pattern", template)
    yield from ("--repetitions", ",".join(dict.fromkeys(str(row.repetitions) for row in report.rows)))
    yield from ("--defense", ",".join(dict.fromkeys(row.defense for row in report.rows)))


def _numbers(report: DrillReport) -> Iterator[Number]:
    """Yield the rows from which most is extracted, what is proven first."""
    for row in sorted(report.rows, key=lambda row: _most(row, report.headline), reverse=True):
        shown = row.by(report.headline)
        success, exposure = shown.measure("success") if shown else None, ranked(row, "exposure")
        said = f"proven by {', '.join(row.proven)}" if row.proven else "not proven"
        kind = "leak" if row.proven else "inconclusive" if row.flagged else "plain"
        name = row.words
        beside = "" if exposure is None else f"exposure {number(exposure.planted.value, digits=1)} bits"
        if success is not None:
            value = f"{round(success.planted.value * row.canaries)} of {row.canaries} secrets"
            yield Number(name, value, beside, said, kind)
        elif exposure is not None:
            yield Number(name, beside.removeprefix("exposure "), "exposure, median", said, kind)


def _most(row: DrillRow, headline: str | None) -> tuple[bool, float, float]:
    shown = row.by(headline)
    success, exposure = shown.measure("success") if shown else None, ranked(row, "exposure")
    return (
        bool(row.proven),
        0.0 if success is None else success.planted.value,
        0.0 if exposure is None else exposure.planted.value,
    )


def _steps(report: DrillReport) -> Iterator[str]:
    """Yield what to do about it."""
    proven = [row for row in report.rows if row.proven]
    safe = dict.fromkeys(row.defense for row in report.rows if not row.flagged)
    for row in proven:
        safe.pop(row.defense, None)
    if proven:
        yield "look for what is repeated in your own texts, and keep one copy: repetition is what makes a secret stick"
        if {row.defense for row in report.rows} == {NONE}:
            yield "nothing was done against it here: drill again with defences, --defense none,all,dpsgd"
        elif safe:
            yield f"of {', '.join(safe)} nothing was proven here: train so, and drill again with more canaries"
        else:
            yield "every defence of this grid leaked: try a private one, --defense dpsgd"
    if any(row.flagged for row in report.rows):
        yield "read nothing into the rows that learned too little: train longer, or on more rows"
