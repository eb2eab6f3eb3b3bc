"""The table of the gap experiment, for a terminal and as Markdown, with the sentences that go with it."""

from collections.abc import Iterator

from redteam.auditing.settings import FPRS
from redteam.canary.label_evidence import ATTACK as LABELS
from redteam.data.label_canaries import ANSWERS, UPDATES, WEIGHTS
from redteam.experiments.gap.grid import epsilon_words
from redteam.experiments.gap.report import GapReport, GapResult, GapRow, SeedsMeasure, Spread
from redteam.experiments.table import MARK, ReportTable, markdown_of, text_of, untrained
from redteam.report import LOW_BOUND
from redteam.report.values import Budget

_FPR = FPRS[0]
TITLE = "Theory against practice"
_HEADERS = ("trainer", "epsilon", "accuracy", "time", "nominal", "accounted", "measured", "best AUC", f"TPR@{_FPR:g}")
# What label canaries show to each adversary stands before what the best attack on users' rows shows.
_ADVERSARIES = {UPDATES: "updates", WEIGHTS: "final", ANSWERS: "box"}
# Where rows or texts name groups: what training costs whom.
_GROUPS = {"group_accuracy": "worst group", "group_gap": "group gap", "flip_rate": "flips"}
_DETAILS = ("trainer", "epsilon", "attack", "metric", "mean", "lowest", "highest", "attainable")


def render_text(report: GapReport, *, width: int = 100, color: bool = False) -> str:
    """Return table and sentences as lines of at most `width` columns."""
    return text_of(table_of(report), (*sentences(report), *problems(report)), width=width, color=color)


def render_markdown(report: GapReport) -> str:
    """Return table, sentences and every signal of every attack as GitHub-flavoured Markdown."""
    told = (*sentences(report), *problems(report))
    return markdown_of(TITLE, table_of(report, full=True), told, "Every signal of every attack", [details_of(report)])


def details_of(report: GapReport) -> ReportTable:
    """Return every signal of every attack."""
    return ReportTable(_DETAILS, [_detail(row, measure) for row in report.rows for measure in row.measures])


def table_of(report: GapReport, *, full: bool = False) -> ReportTable:
    """Return a line for each row; the `full` one has an interval beside every number."""
    exposure, words = (any(row.best(name) for row in report.rows) for name in ("exposure", "words_recovered"))
    groups = [name for name in _GROUPS if any(row.of_groups(name) for row in report.rows)]
    headers: tuple[str, ...] = (*_HEADERS, *(["exposure"] if exposure else []), *(["words back"] if words else []))
    headers = (*headers, *(_GROUPS[name] for name in groups))
    if with_canaries(report):
        at = headers.index("measured")
        headers = (*headers[:at], *_ADVERSARIES.values(), "rows", *headers[at + 1 :])
        headers = headers if full else tuple(each for each in headers if each != _HEADERS[-1])  # a line has no room
    cells = [
        _cells(row, exposure, full, planted=with_canaries(report))
        + ((_share(row.best("words_recovered")),) if words else ())
        + tuple(_interval(row.of_groups(name), 3 if full else 2) for name in groups)
        for row in report.rows
    ]
    return ReportTable(headers, cells, right=headers)


def with_canaries(report: GapReport) -> bool:
    """Tell whether any row has an epsilon by label canaries."""
    return any(row.by_canaries(adversary) for row in report.rows for adversary in _ADVERSARIES)


def sentences(report: GapReport) -> Iterator[str]:
    """Yield what a reader must know: what the numbers are, and where a nominal epsilon is not what it costs."""
    yield from _overclaims(report)
    yield from _legend(report)
    yield LOW_BOUND


def problems(report: GapReport) -> Iterator[str]:
    """Yield what went wrong: broken claims first, then cells and attacks without numbers, and what learned nothing."""
    for b in report.broken:
        what = f"{b.cell.words}: accounted {short(b.accounted)}, measured at least {short(b.measured)}"
        unproven = f"INCONCLUSIVE: {what}; proven for this cell alone, but not for one among so many"
        yield f"CLAIM BROKEN: {what}" if b.proven else unproven
    yield from (f"FAILED: {failed.cell}: {failed.reason}" for failed in report.failures)
    so = "that nothing leaks from it says nothing about privacy"
    for row in report.rows:
        if row.untrained:
            yield untrained(row.words, row.untrained, row.seeds, on="members", so=so)
    yield from dict.fromkeys(attack_failures(report.cells))
    yield from dict.fromkeys(canary_failures(report.cells))


def attack_failures(cells: tuple[GapResult, ...]) -> Iterator[str]:
    """Yield one line for each attack that broke on a cell; one that does not apply is no failure."""
    for one in cells:
        for failure in one.failures:
            if failure.kind == "failed" and failure.attack != LABELS:
                yield f"FAILED: attack {failure.attack} on {one.cell.row}: {failure.reason}"


def canary_failures(cells: tuple[GapResult, ...], *, unforeseen: bool = False) -> Iterator[str]:
    """Yield one line for each cell whose label canaries are no evidence.

    Where more is accounted for than the nominal epsilon, steps hide them, as micro-batches do: not `unforeseen`.
    """
    for one in cells:
        foreseen = one.guarantee is not None and one.guarantee.accounted.epsilon > one.guarantee.nominal.epsilon
        for failure in one.failures if not (unforeseen and foreseen) else ():
            if failure.attack == LABELS:
                yield f"INCONCLUSIVE: {one.cell.words}: {failure.reason}"


def overclaimed(row: GapRow) -> bool:
    """Whether training accounts for more than the nominal epsilon, by more than rounding."""
    nominal, accounted = row.nominal, row.accounted
    return nominal is not None and accounted is not None and accounted.epsilon > 1.005 * nominal.epsilon


def _overclaims(report: GapReport) -> Iterator[str]:
    """Yield where a nominal epsilon is not what training accounts for, what is shown there, and what that means."""
    rows = [*filter(overclaimed, report.rows)]
    for row in rows:
        bounds = [*map(row.by_canaries, _ADVERSARIES), row.best("epsilon")]
        most = max((bound.spread.mean for bound in bounds if bound is not None), default=None)
        shown = "" if most is None else f", measured at least {short(most)}"
        yield f"{row.words}: nominal {_budget(row.nominal)}, accounted {_budget(row.accounted)}{shown}"
    if rows:
        yield (
            "one nominal epsilon is not one guarantee: where a row accounts for more than it names, the accounted "
            "number is all that it guarantees"
        )


def _legend(report: GapReport) -> Iterator[str]:
    budgets = [row.accounted for row in report.rows if row.accounted is not None]
    if budgets:
        deltas = ", ".join(dict.fromkeys(f"{b.delta:g}" for b in budgets))
        relations = "; ".join(dict.fromkeys(b.neighbouring for b in budgets))
        yield (
            f"nominal, accounted: epsilon of this one training at delta {deltas} ({relations}); "
            "to release several of these models spends their sum"
        )
    model = report.settings.get("model")
    if budgets and isinstance(model, dict) and model.get("spec") in ("tiny", "bilstm"):
        yield "no guarantee covers the vocabulary, which this model learned from its members' texts"
    exchanged = [row for row in report.rows if row.plain is not None]
    if exchanged:
        costs = ", ".join(f"{row.plain:,.0f} ({row.words})" for row in exchanged)
        yield (
            f"words exchanged before plain training: epsilon is for each unit of distance, plain epsilon of one word: "
            f"{costs}; none of it is an epsilon of the model. words back: of the words of released texts, those that "
            "the best attack guesses back; membership is asked with the texts as they were"
        )
    if any(each.unit == "user" for cell in report.cells for each in cell.evidence):
        yield "measured, AUC and TPR are per user, by all rows; guarantees for examples do not compare with them"
    if with_canaries(report):
        free = [found for row in report.rows if row.accounted is None for found in map(row.by_canaries, _ADVERSARIES)]
        most = max((found.attainable for found in free if found is not None), default=None)
        ends = (
            "" if most is None else f"; where nothing is guaranteed, so many canaries show no more than {short(most)}"
        )
        yield (
            "updates, final, box: lower bounds on epsilon by label canaries, for an adversary of all updates, of "
            f"the final weights, of a black box{ends}; rows: by the best attack on users' rows"
        )
    elif any(row.best("epsilon") for row in report.rows):
        yield "measured: lower bound on epsilon by the best attack, of the largest attainable one"
    if any(row.of_groups(name) for row in report.rows for name in _GROUPS):
        yield (
            "worst group: lowest accuracy of a group; group gap: widest gap of a rate; flips: answers that change with "
            "the group a text names, beyond a placebo's; each on held-out rows, with an interval by itself"
        )
    seeds = sorted({seed for row in report.rows for seed in row.seeds})
    each = f"each cell's intervals hold together at {1 - report.settings.get('alpha', 0.05):.0%}"
    over = f"means over {len(seeds)} seeds, [lowest, highest] end of any seed's interval; " if len(seeds) > 1 else ""
    yield f"accuracy on held-out texts; time: of a pass over the members, plain = 1; {over}{each}"


def _cells(row: GapRow, exposure: bool, full: bool, *, planted: bool) -> tuple[str, ...]:
    ratio, bound = row.time_ratio, row.best("epsilon")
    shown = [row.by_canaries(adversary) for adversary in _ADVERSARIES] if planted else []
    return (
        row.trainer,
        epsilon_words(row.epsilon),
        _percent(row.accuracy, full) + (MARK if row.untrained else ""),
        "-" if ratio is None else f"{ratio.mean:.2f}",
        _budget(row.nominal),
        _budget(row.accounted),
        *("-" if each is None else _bound(each.spread, full) for each in shown),
        "-" if bound is None else _bound(bound.spread, full) + ("" if planted else f" of {short(bound.attainable)}"),
        _interval(row.best("auc"), 3 if full else 2),
        *((_share(row.best("tpr", _FPR)),) if full or not planted else ()),
        *((_interval(row.best("exposure"), 1),) if exposure else ()),
    )


def _detail(row: GapRow, measure: SeedsMeasure) -> tuple[str, ...]:
    spread = measure.spread
    metric = measure.metric + ("" if measure.fpr is None else f"@{measure.fpr:g}")
    numbers = (f"{value:.3f}" for value in (spread.mean, spread.low, spread.high, measure.attainable))
    return (row.trainer, epsilon_words(row.epsilon), f"{measure.attack} {measure.signal}", metric, *numbers)


def _percent(spread: Spread, full: bool) -> str:
    mean = f"{spread.mean:.1%}"
    return f"{mean} [{spread.low:.1%}, {spread.high:.1%}]" if full else mean


def _interval(measure: SeedsMeasure | None, digits: int) -> str:
    if measure is None:
        return "-"
    mean, low, high = (f"{v:.{digits}f}" for v in (measure.spread.mean, measure.spread.low, measure.spread.high))
    return f"{mean} [{low}, {high}]"


def _share(measure: SeedsMeasure | None) -> str:
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
