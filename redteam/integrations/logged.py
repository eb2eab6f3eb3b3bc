"""What a tracker is given of a report of any kind: numbers by name, what they are of, and the page."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redteam.experiments.drill.report import DrillReport, DrillRow
    from redteam.experiments.gap.report import GapReport, GapRow, SeedsMeasure
    from redteam.policy.comparison import Comparison
    from redteam.verify.verdict import Verification
    from redteam.verify.words.run import PrivatiserVerification

Numbers = Iterator[tuple[str, float | None]]
_LONGEST = 120  # characters of a name; MLflow takes 250, and tags that nobody can read are no help


@dataclass(frozen=True)
class Logged:
    """Numbers by names that every tracker takes, `about` what they are of, and the report as an HTML page."""

    numbers: Mapping[str, float]
    about: Mapping[str, str]
    page: str


def name_of(*parts: object) -> str:
    """Return a name of the letters that every tracker takes, its parts with points between."""
    words = (re.sub(r"[^A-Za-z0-9_.-]+", ".", str(part)).strip(".") for part in parts)
    return ".".join(word for word in words if word)[:_LONGEST]


def with_ends(name: str, low: float, value: float, high: float) -> Numbers:
    """Yield a number with both ends of its interval."""
    yield from ((name, value), (f"{name}.low", low), (f"{name}.high", high))


def told_apart(numbers: Iterable[tuple[str, float | None]]) -> Iterator[tuple[str, float]]:
    """Leave out what is missing or infinite, which no tracker draws, and give no two numbers one name."""
    seen: dict[str, int] = {}
    for name, value in numbers:
        if value is None or not math.isfinite(value):
            continue
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}.{seen[name]}"), float(value)


def gap_logged(report: "GapReport") -> Logged:
    """Return what every row of a gap experiment comes to: of each metric its strongest signal, as in its table."""
    from redteam.experiments.gap.page import outcome, render_page
    from redteam.experiments.page import CODES

    def numbers() -> Numbers:
        yield "claims_broken", float(sum(claim.proven for claim in report.broken))
        for row in report.rows:
            yield from _below(name_of(row.trainer, row.words.rpartition(" ")[2]), _of_gap_row(row))

    said = outcome(report)
    about = {"command": "gap", "data": str(report.settings.get("data", "")), "verdict": said}
    return _logged("gap", numbers(), about, CODES[said], render_page(report))


def drill_logged(report: "DrillReport") -> Logged:
    """Return what each attack extracts in every row of a drill, beside held-out secrets."""
    from redteam.experiments.drill.page import outcome, render_page
    from redteam.experiments.page import CODES

    def numbers() -> Numbers:
        yield "rows_proven", float(sum(bool(row.proven) for row in report.rows))
        several = len({row.template for row in report.rows}) > 1
        for row in report.rows:
            sentence = row.template[:40] if several else ""
            name = name_of(sentence, f"{row.repetitions}x", row.label, row.defense)
            yield from _below(name, _of_drill_row(row))

    said = outcome(report)
    about = {"command": "drill", "data": str(report.settings.get("data", "")), "verdict": said}
    return _logged("drill", numbers(), about, CODES[said], render_page(report))


def verification_logged(found: "Verification") -> Logged:
    """Return what a trainer promises, and what each method shows."""
    from redteam.verify.page import render_page

    def numbers() -> Numbers:
        for name, budget in (("nominal", found.nominal), ("accounted", found.accounted)):
            yield name, None if budget is None else budget.epsilon
        yield from (("shown", found.bound.low), ("attainable", found.bound.attainable))
        for bound in filter(None, (found.clopper_pearson, found.gdp, found.subsampled, found.one_run)):
            yield f"shown.{bound.method}", bound.low

    about = {"command": "verify", "subject": found.subject, "verdict": found.verdict}
    return _logged("verify", numbers(), about, found.exit_code, render_page(found))


def privatiser_logged(found: "PrivatiserVerification") -> Logged:
    """Return what a privatiser of text claims, what its channel gives and what draws show."""
    from redteam.verify.words.page import render_page

    def numbers() -> Numbers:
        yield from (("claimed", found.claimed), ("accounted", found.accounted))
        yield from (("shown", found.best.low), ("attainable", found.attainable))

    about = {"command": "verify --text", "subject": found.subject, "verdict": found.verdict}
    return _logged("verify", numbers(), about, found.exit_code, render_page(found))


def changes_logged(found: "Comparison", code: int) -> Logged:
    """Return how each number changed from one report to the next, and how many are proven worse."""
    from redteam.formats.changes import headline
    from redteam.formats.html.changes import changes_page

    def numbers() -> Numbers:
        yield "worse", float(len(found.worse))
        yield "better", float(sum(change.direction == "better" for change in found.changes))
        for change in found.changes:
            yield name_of(change.id), change.difference

    about = {"command": "compare", "old": found.old, "new": found.new, "verdict": headline(found)[0]}
    return _logged("compare", numbers(), about, code, changes_page(found))


def _logged(command: str, numbers: Numbers, about: dict[str, str], code: int, page: str) -> Logged:
    found = {f"{command}/{name}": value for name, value in told_apart(numbers)}
    tags = {name: value for name, value in about.items() if value}
    return Logged({"exit_code": float(code)} | found, tags, page)


def _below(name: str, numbers: Numbers) -> Numbers:
    yield from ((f"{name}/{each}", value) for each, value in numbers)


def _of_gap_row(row: "GapRow") -> Numbers:
    yield from with_ends("accuracy", row.accuracy.low, row.accuracy.mean, row.accuracy.high)
    yield "untrained_seeds", float(len(row.untrained))
    yield "time", None if row.time_ratio is None else row.time_ratio.mean
    yield from (
        (name, None if budget is None else budget.epsilon)
        for name, budget in (("nominal", row.nominal), ("accounted", row.accounted))
    )
    for name, measure in _strongest(row):  # of an epsilon both ends are of what seeds show at least
        yield from with_ends(name, measure.spread.low, measure.spread.mean, measure.spread.high)


def _strongest(row: "GapRow") -> Iterator[tuple[str, "SeedsMeasure"]]:
    """Yield one signal for each metric, and what label canaries show for each adversary, which are of their own."""
    for metric, fpr in dict.fromkeys((each.metric, each.fpr) for each in row.measures):
        if metric == "canary_epsilon":
            yield from ((name_of(metric, each.signal), each) for each in row.measures if each.metric == metric)
            continue
        best = row.of_groups(metric) if fpr is None else row.best(metric, fpr)
        if best is not None:
            yield name_of(metric, "" if fpr is None else f"{fpr:g}"), best


def _of_drill_row(row: "DrillRow") -> Numbers:
    yield from (("accuracy", row.accuracy), ("proven", float(bool(row.proven))))
    for attack in row.attacks:
        for each in attack.measures:
            name = name_of(attack.attack, each.name)
            yield from with_ends(name, each.planted.low, each.planted.value, each.planted.high)
            yield f"{name}.heldout", each.heldout
