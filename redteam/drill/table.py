"""The table of the drill, for a terminal and as Markdown, with the sentences that go with it."""

from collections.abc import Iterator

from redteam.canary.measures import Measure
from redteam.drill.report import DrillReport, Extracted, Row, too_few
from redteam.formats.escape import markdown
from redteam.wording import plural, range_of

_WIDEST = 160
MARK = "!"  # beside the accuracy of a row that learned nothing, or next to nothing
_HEADERS = (
    "pattern",
    "R",
    "defence",
    "canaries",
    "accuracy",
    "pass",
    "whole secret",
    "twins",
    "symbols",
    "exposure",
    "proven by",
)
_DETAILS = ("pattern", "R", "defence", "attack", "measure", "planted", "lowest", "highest", "twins", "chance")
_TESTS = ("pattern", "R", "defence", "attack", "by", "ahead", "behind", "level", "p", "proven")


def render_text(report: DrillReport, *, width: int = 100, color: bool = False) -> str:
    """Return table and sentences as lines of at most `width` columns."""
    from redteam.formats import layout

    told = layout.draw([layout.bullets([*sentences(report), *problems(report)])], width=width, color=color)
    if not report.rows:
        return told
    lines = [_cells(row, report.headline) for row in report.rows]
    right = tuple(header for header in _HEADERS if header not in ("pattern", "defence", "proven by"))
    # a cut number would be a wrong one: on a narrow terminal the lines of the table are longer than it
    return layout.draw([layout.table(_HEADERS, lines, right=right)], width=_WIDEST, color=color) + "\n" + told


def render_markdown(report: DrillReport) -> str:
    """Return table, sentences, and every measure of every attack as GitHub-flavoured Markdown."""
    pairs = [(row, each) for row in report.rows for each in row.attacks]
    lines = [
        "### Canary drill",
        "",
        *_table(_HEADERS, (_cells(row, report.headline) for row in report.rows)),
        "",
        *(f"- {markdown(line)}" for line in (*sentences(report), *problems(report))),
        "",
        "<details><summary>Every measure of every attack</summary>",
        "",
        *_table(_DETAILS, (line for row, each in pairs for line in _measures(row, each))),
        "",
        *_table(_TESTS, (line for row, each in pairs for line in _comparisons(row, each))),
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def sentences(report: DrillReport) -> tuple[str, ...]:
    """Return what a reader of the table must know: what the numbers are, and what they are not."""
    return tuple(_legend(report))


def problems(report: DrillReport) -> tuple[str, ...]:
    """Return what went wrong, or stands in the way of a finding."""
    failed = [f"FAILED: {f.words}: {f.reason}" for f in report.failures]
    broken = (f"FAILED: {line}" for line in report.broken)
    return (*failed, *broken, *untrained(report), *too_few(report.rows, report.each), *_in_short(report.skipped))


def _in_short(lines: tuple[str, ...]) -> Iterator[str]:
    """Say what does not apply once for each attack: the reason is mostly the same in all cells."""
    first: dict[str, list[str]] = {}
    for line in lines:
        first.setdefault(line.partition(" does not apply")[0], []).append(line)
    for same in first.values():
        yield same[0] + (f" (and on {plural(len(same) - 1, 'other')})" if len(same) > 1 else "")


def _legend(report: DrillReport) -> Iterator[str]:
    proven = [row for row in report.rows if row.proven]
    if proven:
        most = max(row.repetitions for row in proven)
        yield (
            f"more comes out of planted secrets than of unseen twins, or than by luck, in {plural(len(proven), 'row')} "
            f"of {len(report.rows)}, at up to {plural(most, 'repetition')}"
        )
    elif report.rows:
        yield "no attack got more out of planted secrets than out of unseen twins" + _but(report)
    if report.headline is not None:
        yield (
            f"whole secret, twins, symbols: by {report.headline}, of all attacks the one that got the most whole "
            f"secrets over all rows; intervals at {1 - report.alpha:.0%}, each on its own"
        )
    if any(_exposed(row) for row in report.rows):
        yield "exposure: median bits over all candidates, of twins in brackets"
    yield (
        "proven by: the attacks that get more from planted secrets than from twins, by a sign test, or more whole "
        f"secrets than by luck, each at {report.each:.2g}: {report.alpha:g} for the whole drill, shared over "
        f"{plural(report.tests, 'test')} (Bonferroni)"
    )
    if report.settings.get("canaries", 1) > 1:
        yield "canaries of one model share its fate: intervals are for models like these, and wider over new trainings"
    crowded = sum(row.crowded for row in report.rows)
    if crowded:
        yield (
            f"{crowded} canaries share sentence and label with another, and a guess can be right for one of them only: "
            "success says less than is known; say --label per-canary or --canaries 1"
        )
    if any(row.kept for row in report.rows):
        yield "pass: whose model early stopping kept, by the loss on rows of users that were kept apart"
    yield "accuracy on texts kept apart; nothing extracted is no evidence that nothing was learned"


def _but(report: DrillReport) -> str:
    flagged = sum(row.flagged for row in report.rows)
    return f", but {plural(flagged, 'row')} of {len(report.rows)} learned too little to tell" if flagged else ""


def _cells(row: Row, headline: str | None) -> tuple[str, ...]:
    shown = row.by(headline)
    success, symbols = (shown.measure(name) if shown else None for name in ("success", "token_accuracy"))
    return (
        row.template,
        str(row.repetitions),
        row.defense,
        str(row.canaries),
        f"{row.accuracy:.1%}" + (MARK if row.flagged else ""),
        _kept(row),
        _interval(success),
        "-" if success is None else f"{success.twins:.2f}",
        "-" if symbols is None else f"{symbols.planted.value:.2f}",
        _exposed(row) or "-",
        ", ".join(row.proven) or "none",
    )


def _kept(row: Row) -> str:
    """Return the pass that early stopping kept, of how many; over several seeds the first and the last."""
    if not row.kept:
        return "-"
    first, last = min(row.kept), max(row.kept)
    return (f"{first}" if first == last else f"{first} to {last}") + (f" of {row.passes}" if row.passes else "")


def untrained(report: DrillReport) -> Iterator[str]:
    """Yield one line for each row whose models learned nothing: that nothing comes out says nothing there."""
    for row in report.rows:
        where = f"{row.template}, R {row.repetitions}, {row.defense}"
        if row.untrained:
            seeds = "" if len(row.untrained) == len(row.seeds) else f", seed {', '.join(map(str, row.untrained))}"
            yield (
                f"UNTRAINED{MARK}: {where}{seeds}: not right on its own rows significantly more often than always "
                "answering their commonest label: that nothing comes out says nothing"
            )
        elif row.collapsed:
            yield (
                f"COLLAPSED{MARK}: {where}: accuracy is below half of that without a defence: what does not come out "
                "may not have been learned, no more than anything else"
            )


def _interval(measure: Measure | None) -> str:
    return "-" if measure is None else range_of(measure.planted)


def _exposed(row: Row) -> str | None:
    """Return the exposure by the first attack that measures it."""
    found = next((m for each in row.attacks if (m := each.measure("exposure")) is not None), None)
    return None if found is None else f"{found.planted.value:.1f} ({found.twins:.1f})"


def _measures(row: Row, each: Extracted) -> Iterator[tuple[str, ...]]:
    for m in each.measures:
        numbers = (f"{x:.3f}" for x in (m.planted.value, m.planted.low, m.planted.high, m.twins))
        by_chance = f"{m.chance:.2g}" if m.chance < 0.01 else f"{m.chance:.3f}"
        yield (*_place(row, each), m.name, *numbers, by_chance)


def _comparisons(row: Row, each: Extracted) -> Iterator[tuple[str, ...]]:
    for c in each.comparisons:
        counts = (str(c.wins), str(c.losses), str(c.ties))
        yield (*_place(row, each), c.signal, *counts, f"{c.p_value:.2g}", "yes" if c.proven else "no")


def _place(row: Row, each: Extracted) -> tuple[str, ...]:
    best = " (best of all candidates)" if each.exact else ""
    return row.template, str(row.repetitions), row.defense, f"{each.attack}{best}"


def _table(headers: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(headers)} |"
    yield "|" + "---|" * len(headers)
    yield from (f"| {' | '.join(map(markdown, row))} |" for row in rows)
