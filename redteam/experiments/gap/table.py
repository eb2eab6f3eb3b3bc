"""The table of the gap experiment, for a terminal and as Markdown, with the sentences that go with it."""

from collections.abc import Iterator

from redteam.auditing.settings import FPRS
from redteam.experiments.gap.grid import epsilon_words
from redteam.experiments.gap.report import CellResult, GapReport, Measure, Row, Spread
from redteam.formats.escape import markdown
from redteam.report.values import Budget
from redteam.report.wording import LOW_BOUND

_FPR = FPRS[0]
_WIDEST = 140
MARK = "!"  # beside the accuracy of a row with a model that learned nothing
_HEADERS = ("trainer", "epsilon", "accuracy", "time", "claimed", "earned", "measured", "best AUC", f"TPR@{_FPR:g}")
_DETAILS = ("trainer", "epsilon", "attack", "metric", "mean", "lowest", "highest", "could show")


def render_text(report: GapReport, *, width: int = 100, color: bool = False) -> str:
    """Return table and sentences as lines of at most `width` columns."""
    from redteam.formats import layout

    headers, lines = _columns(report), [_cells(row, _exposed(report)) for row in report.rows]
    told = layout.draw([layout.bullets([*sentences(report), *problems(report)])], width=width, color=color)
    if not lines:
        return told
    # a cut number would be a wrong one: on a narrow terminal the lines of the table are longer than it
    return layout.draw([layout.table(headers, lines, right=headers)], width=_WIDEST, color=color) + "\n" + told


def render_markdown(report: GapReport) -> str:
    """Return table, sentences and every signal of every attack as GitHub-flavoured Markdown."""
    told = [f"- {markdown(line)}" for line in (*sentences(report), *problems(report))]
    details = _table(_DETAILS, (_detail(row, measure) for row in report.rows for measure in row.measures))
    lines = [
        "### Theory against practice",
        "",
        *_table(_columns(report), (_cells(row, _exposed(report), full=True) for row in report.rows)),
        "",
        *told,
        "",
        "<details><summary>Every signal of every attack</summary>",
        "",
        *details,
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def sentences(report: GapReport) -> tuple[str, ...]:
    """Return what a reader of the table must know: what the numbers are, and where a claim is not what was earned."""
    return (*_overclaims(report), *_legend(report), LOW_BOUND)


def problems(report: GapReport) -> tuple[str, ...]:
    """Return what went wrong: broken claims first, then cells and attacks without numbers."""
    broken = [
        f"{'CLAIM BROKEN' if b.proven else 'NOT SETTLED'}: {b.trainer} at epsilon {epsilon_words(b.epsilon)}, seed "
        f"{b.seed}: earned {short(b.earned)}, measured at least {short(b.measured)}"
        + ("" if b.proven else "; proven for this cell alone, but not for one among so many")
        for b in report.broken
    ]
    failed = [
        f"FAILED: {f.trainer} at epsilon {epsilon_words(f.epsilon)}, seed {f.seed}: {f.reason}" for f in report.failures
    ]
    return (*broken, *failed, *untrained(report), *dict.fromkeys(attack_failures(report.cells)))


def untrained(report: GapReport) -> Iterator[str]:
    """Yield one line for each row with a model that learned nothing: what is not found there is not kept."""
    for row in report.rows:
        if row.untrained:
            seeds = "" if len(row.untrained) == len(row.seeds) else f", seed {', '.join(map(str, row.untrained))}"
            yield (
                f"UNTRAINED{MARK}: {row.trainer} at epsilon {epsilon_words(row.epsilon)}{seeds}: not right on its "
                "members significantly more often than always answering their commonest label: that nothing leaks "
                "from it says nothing about privacy"
            )


def attack_failures(cells: tuple[CellResult, ...]) -> Iterator[str]:
    """Yield one line for each attack that broke on a cell; one that does not apply is no failure."""
    for cell in cells:
        for failure in cell.failures:
            if failure.kind == "failed":
                yield (
                    f"FAILED: attack {failure.attack} on {cell.trainer} at epsilon {epsilon_words(cell.epsilon)}: "
                    + (failure.reason)
                )


def _overclaims(report: GapReport) -> Iterator[str]:
    for row in report.rows:
        if row.claimed is not None and row.earned is not None and row.earned.epsilon > 1.005 * row.claimed.epsilon:
            yield (
                f"{row.trainer} at epsilon {epsilon_words(row.epsilon)}: claims {short(row.claimed.epsilon)}, "
                f"earned {short(row.earned.epsilon)}"
            )


def _legend(report: GapReport) -> Iterator[str]:
    budgets = [row.earned for row in report.rows if row.earned is not None]
    if budgets:
        deltas = ", ".join(dict.fromkeys(f"{b.delta:g}" for b in budgets))
        relations = "; ".join(dict.fromkeys(b.neighbouring for b in budgets))
        yield (
            f"claimed, earned: epsilon of this one training at delta {deltas} ({relations}); "
            "to release several of these models spends their sum"
        )
    model = report.settings.get("model")
    if budgets and isinstance(model, dict) and model.get("spec") in ("tiny", "bilstm"):
        yield "no guarantee covers the vocabulary, which this model learned from its members' texts"
    if any(each.unit == "user" for cell in report.cells for each in cell.evidence):
        yield "measured, AUC and TPR are per user, by all rows; guarantees for examples do not compare with them"
    if any(row.best("epsilon") for row in report.rows):
        yield "measured: lower bound on epsilon by the best attack, of what a perfect one could have shown here"
    seeds = sorted({seed for row in report.rows for seed in row.seeds})
    each = f"each cell's intervals hold together at {1 - report.settings.get('alpha', 0.05):.0%}"
    over = f"means over {len(seeds)} seeds, [lowest, highest] end of any seed's interval; " if len(seeds) > 1 else ""
    yield f"accuracy on held-out texts; time: of a pass over the members, plain = 1; {over}{each}"


def _exposed(report: GapReport) -> bool:
    return any(row.best("exposure") for row in report.rows)


def _columns(report: GapReport) -> tuple[str, ...]:
    return (*_HEADERS, *(("exposure",) if _exposed(report) else ()))


def _cells(row: Row, exposure: bool, full: bool = False) -> tuple[str, ...]:
    ratio, bound = row.time_ratio, row.best("epsilon")
    return (
        row.trainer,
        epsilon_words(row.epsilon),
        _percent(row.accuracy, full) + (MARK if row.untrained else ""),
        "-" if ratio is None else f"{ratio.mean:.2f}",
        _budget(row.claimed),
        _budget(row.earned),
        "-" if bound is None else f"{_bound(bound.spread, full)} of {short(bound.attainable)}",
        _interval(row.best("auc"), 3 if full else 2),
        _share(row.best("tpr", _FPR)),
        *((_interval(row.best("exposure"), 1),) if exposure else ()),
    )


def _detail(row: Row, measure: Measure) -> tuple[str, ...]:
    spread = measure.spread
    metric = measure.metric + ("" if measure.fpr is None else f"@{measure.fpr:g}")
    numbers = (f"{value:.3f}" for value in (spread.mean, spread.low, spread.high, measure.attainable))
    return (row.trainer, epsilon_words(row.epsilon), f"{measure.attack} {measure.signal}", metric, *numbers)


def _table(headers: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(headers)} |"
    yield "|" + "---|" * len(headers)
    yield from (f"| {' | '.join(map(markdown, row))} |" for row in rows)


def _percent(spread: Spread, full: bool) -> str:
    mean = f"{spread.mean:.1%}"
    return f"{mean} [{spread.low:.1%}, {spread.high:.1%}]" if full else mean


def _interval(measure: Measure | None, digits: int) -> str:
    if measure is None:
        return "-"
    mean, low, high = (f"{v:.{digits}f}" for v in (measure.spread.mean, measure.spread.low, measure.spread.high))
    return f"{mean} [{low}, {high}]"


def _share(measure: Measure | None) -> str:
    if measure is None:
        return "-"
    return f"{measure.spread.mean:.1%} [{100 * measure.spread.low:.0f}, {100 * measure.spread.high:.0f}]"


def _bound(spread: Spread, full: bool) -> str:
    mean, low, high = (short(value) for value in (spread.mean, spread.low, spread.high))
    return f"{mean} [{low}, {high}]" if full and low != high else mean


def _budget(budget: Budget | None) -> str:
    return "none" if budget is None else short(budget.epsilon)


def short(epsilon: float) -> str:
    """Return about three significant digits, and no more than two after the point."""
    if epsilon == 0:
        return "0"
    return f"{epsilon:.2f}" if epsilon < 10 else f"{epsilon:.1f}" if epsilon < 100 else f"{epsilon:,.0f}"
