"""The report for a terminal on one screen: the verdict, the strongest numbers, the limits, what to do.

Plain unless `color` is asked for; all of it is in `redteam.formats.whole`. Sections, tables and lists are drawn by
rich, here and wherever else a terminal is written to; every string that enters is cleaned.
"""

import importlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redteam import formats
from redteam.formats import clean, clip
from redteam.policy import Policy, State, Verdict, applying
from redteam.report import Check, Limit, Outcome, decimals, number, plural, range_of
from redteam.report.metrics import metric
from redteam.report.reading import measured_by
from redteam.report.values import AuditReport, Evidence

Cell = str | tuple[str, str]  # a text, or a text and its style

_SIMPLE = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")


def text(cell: Cell) -> Text:
    """Return a cell as rich text that is not read as markup."""
    words, style = (cell, "") if isinstance(cell, str) else cell
    return Text(clean(words), style=style, overflow="fold")


def headline(word: str, rest: str, style: str) -> RenderableType:
    """Return the verdict as a badge, with the sentence beside it."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_row(Text(f" {clean(word)} ", style=style), text(rest))
    return grid


def section(title: str, *parts: RenderableType) -> RenderableType:
    """Return a blank line, a title and its content, indented."""
    return Group("", Text(clean(title), style="bold"), *(Padding(part, (0, 0, 0, 2)) for part in parts))


def bullets(lines: Iterable[Cell], mark: str = "-") -> RenderableType:
    """Return a list whose long lines continue under their own text."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        grid.add_row(mark, text(line))
    return grid


def pairs(rows: Iterable[tuple[str, Cell]]) -> RenderableType:
    """Return names and values in two aligned columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in rows:
        grid.add_row(Text(clean(name), style="dim"), text(value))
    return grid


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()) -> RenderableType:
    """Return a table with a rule under its headers; columns named in `right` are numbers."""
    drawn = Table(box=_SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    for header in headers:
        drawn.add_column(header, justify="right" if header in right else "left", no_wrap=header in right)
    for row in rows:
        drawn.add_row(*(text(cell) for cell in row))
    return drawn


def draw(parts: Sequence[RenderableType], *, width: int, color: bool) -> str:
    """Return the parts as lines of at most `width` columns, with terminal colours only where asked for."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        height=100,  # with both given, rich asks neither the terminal nor the environment for its size
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        emoji=False,
        highlight=False,
        markup=False,
        _environ={},
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines()) + "\n"


STYLES = {"pass": "bold white on green", "leak": "bold white on red", "inconclusive": "bold black on yellow"}
OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "exceeded": ("LEAK", "bold red"),
    "within": ("within", "green"),
    "inconclusive": ("inconclusive", "yellow"),
    "underpowered": ("underpowered", "yellow"),
    "inadmissible": ("not judged", "yellow"),
    "reversed": ("reversed", "yellow"),
    "weaker": ("not exceeded", "dim"),
}
STATES: dict[State, tuple[str, str]] = {
    "proven": ("LEAK", "bold red"),
    "waived": ("waived", "yellow"),
    "baseline": ("baseline", "yellow"),
}


_OPEN = (" is not settled", "a placebo sways")  # notes that a pass must not hide
_MOST = 3  # problems, labels, next steps on one screen
_WORST: tuple[Outcome, ...] = (
    "exceeded",
    "reversed",
    "inadmissible",
    "underpowered",
    "inconclusive",
    "within",
    "weaker",
)
_NARROW = 72  # columns, below which a table has one less
_NUMBERS = ("value", "interval", "limit")
_WHOLE = "redteam.formats.whole"  # is only loaded where it is asked for


def render(
    report: AuditReport,
    verdict: Verdict,
    *,
    policy: Policy,
    color: bool = False,
    width: int = 100,
    verbose: bool = False,
    **_: Any,
) -> str:
    """Return the report as text of at most `width` columns: one screen, or all of it where it is `verbose`."""
    rest = formats.summary(verdict).partition(": ")[2]
    parts = [headline(formats.HEADLINES[verdict.status], rest, STYLES[verdict.status])]
    if verbose:
        parts += importlib.import_module(_WHOLE).sections(report, verdict, policy)
        return draw(parts, width=width, color=color)
    told = [(clip(each, 240), "yellow") for each in verdict.problems]
    notes = [] if verdict.status == "leak" else [note for note in verdict.notes if any(each in note for each in _OPEN)]
    open_: list[Cell] = [(clip(each, 240), "yellow") for each in notes]
    steps: list[Cell] = [clip(each, 240) for each in formats.next_steps(report, verdict)]
    parts += [
        section("Target and data", pairs(_subject(report, policy))),
        *_some("Problems: what keeps this report from passing", told, "!"),
        *_some("Excused: a leak that is known is still a leak", _excused(verdict)),
        *_strongest(report, verdict, width),
        *_limits(report, verdict, policy),
        *_some("Not settled", open_, "?"),
        *_most_exposed(report),
        *_some("What to do next", steps),
        section("Everything else", Text("every number, what they mean and what was not seen: -v, or -f html")),
    ]
    return draw(parts, width=width, color=color)


def _subject(report: AuditReport, policy: Policy) -> Iterator[tuple[str, Cell]]:
    yield "target", f"{clip(report.target.name, 40)}, seen as {clip(report.target.access, 40)}"
    yield "data", f"{formats.data_line(report.data)}; evidence of grade {report.grade}"
    yield "judged by", clip(policy.source, 80) + (", strict" if policy.strict else "")
    if formats.unmeasured_users(report):
        yield "users", (formats.user_line(report) or "", "yellow")
    if report.guarantee is not None:
        from redteam.report import guarantee

        stands = guarantee.broken_claim(report) is None
        said = f"accounted epsilon {number(report.guarantee.accounted.epsilon)}, {guarantee.status(report)}"
        yield "guarantee", (said if stands else f"{said}; the claim does not hold", "" if stands else "bold red")


def _excused(verdict: Verdict) -> list[Cell]:
    """Return the proven leaks that are waived or in the baseline, which a pass must not hide."""
    return [
        (clip(f"{clip(each.id, 60)}: {each.excuse}", 150), "yellow")
        for each in verdict.findings
        if each.state != "proven"
    ]


def _some(title: str, lines: Sequence[Cell], mark: str = "-") -> Iterator[RenderableType]:
    """Yield the first of many lines, and how many are left."""
    if lines:
        left = len(lines) - _MOST
        more: list[Cell] = [f"and {left} more; -v shows all"] if left > 0 else []
        yield section(title, bullets([*lines[:_MOST], *more], mark))


def _strongest(report: AuditReport, verdict: Verdict, width: int) -> Iterator[RenderableType]:
    """Yield a table with the strongest signal of each attack: what is proven, then what came nearest to its limit.

    In a narrow terminal without the limits, which the next table has: names are cut to pieces otherwise.
    """
    checks = {each.id: each for each in verdict.checks}
    states = {each.id: each.state for each in verdict.findings}
    best: dict[str, Evidence] = {}
    for each in report.evidence:
        kept = best.get(each.attack)
        if kept is None or _strength(each, checks, states) > _strength(kept, checks, states):
            best[each.attack] = each
    rows = [_row(each, checks.get(each.id), states.get(each.id)) for each in best.values()]
    if not rows:
        yield section("Strongest signal of each attack", Text("none: no attack gave a number"))
        return
    headers = ("attack", "signal", "metric", "value", "interval", "limit", "outcome")
    shown = [i for i, header in enumerate(headers) if width >= _NARROW or header != "limit"]
    drawn = table([headers[i] for i in shown], [[row[i] for i in shown] for row in rows], right=_NUMBERS)
    yield section("Strongest signal of each attack", drawn)


def _strength(each: Evidence, checks: Mapping[str, Check], states: Mapping[str, State]) -> tuple[bool, bool, float]:
    check = checks.get(each.id)
    return (
        each.id in states,
        check is not None,
        0.0 if check is None else metric(each.metric).severity(each, check.limit),
    )


def _row(each: Evidence, check: Check | None, state: State | None) -> tuple[Cell, ...]:
    digits = 2 if check is None else decimals(each.interval, check.limit)
    outcome: Cell = ("described", "dim") if check is None else OUTCOMES[check.outcome]
    return (
        each.attack,
        clip(each.signal, 24),
        formats.metric_name(each),
        *metric(each.metric).cells(each, digits=digits),
        "-" if check is None else number(check.limit, digits=digits),
        outcome if state is None else STATES[state],
    )


def _limits(report: AuditReport, verdict: Verdict, policy: Policy) -> Iterator[RenderableType]:
    """Yield per limit the worst that any number says of it, by which, and of how many."""
    known = {each.id: each for each in report.evidence}
    states = {each.id: each.state for each in verdict.findings}
    order = {each.id: i for i, each in enumerate(verdict.findings)}
    rows: list[tuple[Cell, ...]] = []
    for limit in applying(policy, report):
        own = [c for c in verdict.checks if _is_of(c, known.get(c.id), limit)]
        worst = min(own, key=lambda c: (order.get(c.id, len(order)), _WORST.index(c.outcome)), default=None)
        if worst is None:
            rows.append((limit.name, ("no evidence", "yellow"), "-"))
        else:
            outcome = STATES[states[worst.id]] if worst.id in states else OUTCOMES[worst.outcome]
            if worst.outcome == "weaker":  # all are: none of them may keep a limit
                outcome = ("not settled", "yellow")
            rows.append((limit.name, outcome, f"{clip(worst.id, 50)}, 1 of {plural(len(own), 'number')}"))
    if rows:
        yield section("Limits", table(("limit", "outcome", "by"), rows))


def _is_of(check: Check, evidence: Evidence | None, limit: Limit) -> bool:
    if evidence is not None:
        return limit.covers(evidence) and check.limit == limit.limit
    return measured_by(check.rule).name == limit.metric and check.limit == limit.limit


def _most_exposed(report: AuditReport) -> Iterator[RenderableType]:
    known = [(each, each.auc) for each in report.classes if each.auc is not None]
    if known:
        known.sort(key=lambda pair: pair[1].low, reverse=True)
        rows = [(clip(each.label, 40), f"{each.members:,}", range_of(auc)) for each, auc in known[:_MOST]]
        title = f"Labels that leak most, of {len(report.classes):,} (AUC of {clip(report.classes_signal or '', 40)})"
        yield section(title, table(("label", "members", "AUC"), rows, right=("members", "AUC")))
