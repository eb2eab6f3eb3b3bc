"""The gap experiment as one HTML page."""

from collections.abc import Iterator

from redteam.experiments.gap.figures import figures
from redteam.experiments.gap.grid import epsilon_words
from redteam.experiments.gap.report import GapReport, GapRow
from redteam.experiments.gap.table import (
    TITLE,
    attack_failures,
    canary_failures,
    details_of,
    overclaimed,
    problems,
    sentences,
    short,
    table_of,
)
from redteam.experiments.page import Outcome, page_of
from redteam.formats.html.page import Number
from redteam.report import plural
from redteam.report.metrics import metric


def outcome(report: GapReport) -> Outcome:
    """Return what the experiment comes to: a claim proven broken, something missing, or its numbers."""
    if any(claim.proven for claim in report.broken):
        return "leak"
    unlike = any(canary_failures(report.cells, unforeseen=True))
    if report.failures or report.broken or any(attack_failures(report.cells)) or unlike:
        return "inconclusive"
    # under noise a model may learn nothing, which is a result; without noise, or everywhere, it is no experiment
    failed = any(row.untrained and row.epsilon is None for row in report.rows)
    return "inconclusive" if failed or all(row.untrained for row in report.rows) else "measured"


def render_page(report: GapReport) -> str:
    """Return the report as a page of its own."""
    epsilons = dict.fromkeys(epsilon_words(row.epsilon) for row in report.rows)
    trainers = dict.fromkeys(row.trainer for row in report.rows)
    seeds = max((len(row.seeds) for row in report.rows), default=1)
    command = ("redteam", "gap", "DATA", "-o", "FOLDER", "--trainer", ",".join(trainers))
    return page_of(
        report,
        TITLE,
        outcome(report),
        sentence=_sentence(report),
        numbers=tuple(_numbers(report)),
        steps=tuple(_steps(report)),
        problems=tuple(problems(report)),
        figures=figures(report),
        told=tuple(sentences(report)),
        tables={"The table": table_of(report, full=True), "Every signal of every attack": details_of(report)},
        command=(*command, "--epsilon", ",".join(epsilons), "--seeds", str(seeds)),
    )


def _sentence(report: GapReport) -> str:
    broken = sum(claim.proven for claim in report.broken)
    over = sum(map(overclaimed, report.rows))
    trained = f"{plural(len(report.cells), 'model')} trained and attacked"
    costs = f"; {plural(over, 'row')} cost more than their nominal epsilon" if over else ""
    found = f"{plural(broken, 'claim')} proven broken" if broken else "no claim proven broken"
    return f"{found}, {trained}{costs}"


def _numbers(report: GapReport) -> Iterator[Number]:
    """Yield what was measured of each trainer with a guarantee, beside it, at the epsilon where it is nearest."""
    broken = {claim.cell.row: claim for claim in report.broken}
    nearest: dict[str, tuple[float, GapRow]] = {}
    for row in report.rows:
        low, accounted = _measured(row), row.accounted
        if low is None or accounted is None or not accounted.epsilon > 0:
            continue
        share = low / accounted.epsilon
        if row.trainer not in nearest or share > nearest[row.trainer][0]:
            nearest[row.trainer] = share, row
    for _, row in sorted(nearest.values(), key=lambda pair: -pair[0]):
        low, accounted, claim = _measured(row), row.accounted, broken.get(row.words)
        assert low is not None
        assert accounted is not None
        kind = "plain" if claim is None else "leak" if claim.proven else "inconclusive"
        said = "no contradiction" if claim is None else "claim broken" if claim.proven else "not proven among so many"
        yield Number(row.words, f"at least {short(low)}", f"accounted {short(accounted.epsilon)}", said, kind)


def _measured(row: GapRow) -> float | None:
    bounds = [each.spread.mean for each in row.measures if metric(each.metric).guaranteed]
    return max(bounds, default=None)


def _steps(report: GapReport) -> Iterator[str]:
    """Yield what to do about it."""
    for claim in report.broken:
        word = "do not release" if claim.proven else "train more seeds before you release"
        yield f"{word} what {claim.cell.row} makes under its epsilon: `redteam verify` looks for what is wrong with it"
    for row in filter(overclaimed, report.rows):
        if row.accounted is not None:
            yield f"of {row.words} publish the accounted epsilon, {short(row.accounted.epsilon)}, not the nominal one"
    if any(row.untrained for row in report.rows):
        yield "read nothing into the rows that learned nothing: train longer, on more rows, or at a larger epsilon"
    if not any(row.accounted for row in report.rows):
        yield "nothing here is guaranteed: add a private trainer, --trainer dpsgd"
