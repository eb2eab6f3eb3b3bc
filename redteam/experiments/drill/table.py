"""The table of the drill, for a terminal and as Markdown, with the sentences that go with it."""

from collections.abc import Iterator

from redteam.canary.draw import EXISTING, FRESH, PER_CANARY
from redteam.canary.measures import CanaryMeasure, Measured
from redteam.experiments.drill.grid import ONE_PER_MODEL
from redteam.experiments.drill.report import DrillReport, DrillRow, Extracted, too_few
from redteam.experiments.table import MARK, ReportTable, markdown_of, text_of, untrained
from redteam.report import plural

TITLE = "Canary drill"
_NUMBERS = ("R", "accuracy", "pass", "exposure", "whole secrets", "guesses needed")
_HEADERS = ("pattern", "R", "label", "defence", *_NUMBERS[1:], "proven by")
_PLACE = ("pattern", "R", "label", "defence", "attack")
_DETAILS = (*_PLACE, "measure", "planted", "lowest", "highest", "held-out", "chance")
_TESTS = (*_PLACE, "by", "ahead", "behind", "level", "p", "proven")
_LABELS = {
    EXISTING: "one of the data's for each canary, dealt out",
    PER_CANARY: "a new one for each canary, so that the model has to tell the secrets apart",
    FRESH: "one new one for all canaries, which says no more than that a text is one",
    ONE_PER_MODEL: "a new one, and each canary alone in a model of its own, all of which a row pools",
}


def render_text(report: DrillReport, *, width: int = 100, color: bool = False) -> str:
    """Return table and sentences as lines of at most `width` columns."""
    return text_of(table_of(report), (*sentences(report), *problems(report)), width=width, color=color)


def render_markdown(report: DrillReport) -> str:
    """Return table, sentences, and every measure of every attack as GitHub-flavoured Markdown."""
    told = (*sentences(report), *problems(report))
    details = [details_of(report), tests_of(report)]
    return markdown_of(TITLE, table_of(report), told, "Every measure of every attack", details)


def details_of(report: DrillReport) -> ReportTable:
    """Return every measure of every attack."""
    pairs = [(row, each) for row in report.rows for each in row.attacks]
    return ReportTable(_DETAILS, [line for row, each in pairs for line in _measures(row, each)])


def tests_of(report: DrillReport) -> ReportTable:
    """Return every comparison with held-out secrets."""
    pairs = [(row, each) for row in report.rows for each in row.attacks]
    return ReportTable(_TESTS, [line for row, each in pairs for line in _comparisons(row, each)])


def table_of(report: DrillReport) -> ReportTable:
    """Return a line for each row."""
    return ReportTable(_HEADERS, [_cells(row, report.headline) for row in report.rows], right=_NUMBERS)


def problems(report: DrillReport) -> Iterator[str]:
    """Yield what went wrong, or stands in the way of a finding."""
    yield from (f"FAILED: {failed.cell}: {failed.reason}" for failed in report.failures)
    yield from (f"FAILED: {line}" for line in report.broken)
    for row in report.rows:
        if row.untrained:
            so = "that nothing is extracted says nothing"
            yield untrained(row.words, row.untrained, row.seeds, on="own rows", so=so)
        elif row.collapsed:
            yield (
                f"COLLAPSED{MARK}: {row.words}: accuracy is below half of that without a defence: what is not "
                "extracted may not have been learned, no more than anything else"
            )
    yield from too_few(report.rows, report.each)
    yield from _in_short(report.skipped)


def _in_short(lines: tuple[str, ...]) -> Iterator[str]:
    """Say what does not apply once for each attack: the reason is mostly the same in all cells."""
    first: dict[str, list[str]] = {}
    for line in lines:
        first.setdefault(line.partition(" does not apply")[0], []).append(line)
    for same in first.values():
        yield same[0] + (f" (and on {plural(len(same) - 1, 'other')})" if len(same) > 1 else "")


def sentences(report: DrillReport) -> Iterator[str]:
    """Yield what a reader of the table must know: what the numbers are, and what they are not."""
    proven = [row for row in report.rows if row.proven]
    if proven:
        most = max(row.repetitions for row in proven)
        yield (
            "more is extracted of planted secrets than of held-out ones, or than by luck, in "
            f"{plural(len(proven), 'row')} of {len(report.rows)}, at up to {plural(most, 'repetition')}"
        )
    elif report.rows:
        yield "no attack extracted more of planted secrets than of held-out ones" + _but(report)
    if any(_ranked(row, "exposure", 1) for row in report.rows):
        yield (
            "exposure: median bits by which a secret stands out of all candidates; guesses needed: how many are to be "
            "tried, best first, until it comes, the median; of held-out ones in brackets"
        )
    if report.headline is not None:
        yield (
            f"whole secrets: by {report.headline}, of all attacks the one that got the most over all rows, of held-out "
            f"ones in brackets; intervals at {1 - report.alpha:.0%}, each on its own"
        )
    yield (
        "proven by: the attacks that get more from planted secrets than from held-out ones, by a sign test, or more "
        f"whole secrets than by luck, each at {report.each:.2g}: {report.alpha:g} for the whole drill, shared over "
        f"{plural(report.tests, 'test')} (Bonferroni)"
    )
    if any(row.canaries > len(row.seeds) for row in report.rows):
        yield "canaries of one model share its fate: intervals are for models like these, and wider over new trainings"
    crowded = sum(row.crowded for row in report.rows)
    if crowded:
        yield (
            f"{plural(crowded, 'canary', 'canaries')} share sentence and label with another, which no query tells "
            "apart: an attack that ranks all candidates makes as many guesses as share them, any other a single one"
        )
    labels = dict.fromkeys(row.label for row in report.rows)
    yield from (f"label {label}: {_LABELS[label]}" for label in labels if label in _LABELS)
    if any(row.kept for row in report.rows):
        yield "pass: whose model early stopping kept, by the loss on rows of users that were kept apart"
    yield "accuracy on texts kept apart; nothing extracted is no evidence that nothing was learned"


def _but(report: DrillReport) -> str:
    flagged = sum(row.flagged for row in report.rows)
    return f", but {plural(flagged, 'row')} of {len(report.rows)} learned too little to tell" if flagged else ""


def _cells(row: DrillRow, headline: str | None) -> tuple[str, ...]:
    shown = row.by(headline)
    success = shown.measure("success") if shown else None
    return (
        row.template,
        str(row.repetitions),
        row.label,
        row.defense,
        f"{row.accuracy:.1%}" + (MARK if row.flagged else ""),
        _kept(row),
        _ranked(row, "exposure", 1) or "-",
        f"- of {row.canaries}" if success is None else _counted(success, row.canaries),
        _ranked(row, "guesses", 0) or "-",
        ", ".join(row.proven) or "none",
    )


def _kept(row: DrillRow) -> str:
    """Return the pass that early stopping kept, of how many; over several seeds the first and the last."""
    if not row.kept:
        return "-"
    first, last = min(row.kept), max(row.kept)
    return (f"{first}" if first == last else f"{first} to {last}") + (f" of {row.passes}" if row.passes else "")


def _counted(measure: CanaryMeasure, canaries: int) -> str:
    """Return a share as a count, `17 of 20 [0.62, 0.97] (0)`: with the share's interval, held-out ones in brackets."""
    planted = measure.planted
    out, heldout = (round(share * canaries) for share in (planted.value, measure.heldout))
    return f"{out} of {canaries} [{planted.low:.2f}, {planted.high:.2f}] ({heldout})"


def _ranked(row: DrillRow, name: Measured, digits: int) -> str | None:
    """Return a median by the first attack that ranks, of held-out ones in brackets."""
    found = next((m for each in row.attacks if (m := each.measure(name)) is not None), None)
    return None if found is None else f"{found.planted.value:,.{digits}f} ({found.heldout:,.{digits}f})"


def _measures(row: DrillRow, each: Extracted) -> Iterator[tuple[str, ...]]:
    for m in each.measures:
        numbers = (f"{x:.3f}" for x in (m.planted.value, m.planted.low, m.planted.high, m.heldout))
        by_chance = f"{m.chance:.2g}" if m.chance < 0.01 else f"{m.chance:.3f}"
        yield (*_place(row, each), m.name, *numbers, by_chance)


def _comparisons(row: DrillRow, each: Extracted) -> Iterator[tuple[str, ...]]:
    for c in each.comparisons:
        counts = (str(c.wins), str(c.losses), str(c.ties))
        yield (*_place(row, each), c.signal, *counts, f"{c.p_value:.2g}", "yes" if c.proven else "no")


def _place(row: DrillRow, each: Extracted) -> tuple[str, ...]:
    best = " (best of all candidates)" if each.exact else ""
    return row.template, str(row.repetitions), row.label, row.defense, f"{each.attack}{best}"
