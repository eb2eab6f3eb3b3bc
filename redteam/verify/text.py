"""A verification for a terminal, and as JSON."""

import json
from collections.abc import Iterator

from redteam import core
from redteam.formats.text import Cell, bullets, draw, headline, pairs, section, table
from redteam.report import number, plural
from redteam.report.values import Budget
from redteam.statistics.epsilon import EpsilonBound
from redteam.verify.verdict import LOW_IS_NO_EVIDENCE, Verification

STYLES = {
    "consistent": "bold white on green",
    "violated": "bold white on red",
    "inconclusive": "bold black on yellow",
}
METHODS = {
    "clopper_pearson": "Clopper-Pearson",
    "gdp": "Gaussian (GDP)",
    "subsampled": "noise ruled out",
    "one_run": "one run",
}


def as_json(result: Verification) -> str:
    """Return the verification as indented JSON text ending in a newline."""
    document = core.encode(result) | {"note": f"{LOW_IS_NO_EVIDENCE}."}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_text(result: Verification, *, color: bool = False, width: int = 100) -> str:
    """Return the verification as text of at most `width` columns, with terminal colours where `color` is true."""
    parts = [
        headline(result.verdict.upper(), f"{result.subject}: {result.reason}", STYLES[result.verdict]),
        section("What was run", pairs(subject(result))),
        section(
            "Epsilon", table(("", "epsilon", "attainable", "holds if"), _rows(result), right=("epsilon", "attainable"))
        ),
        section("What the adversary saw", bullets(result.findings)),
        section("What this means", bullets(meanings(result))),
    ]
    return draw(parts, width=width, color=color)


def subject(result: Verification) -> Iterator[tuple[str, Cell]]:
    """Yield what was run, by name."""
    m = result.mechanism
    companions = (
        "" if result.family == 1 else f", each with {plural(result.family - 1, 'companion')} that pull against it"
    )
    yield "trainer", result.subject
    yield (
        "says it does",
        f"clip {m.clip:g}, noise multiplier {m.noise_multiplier:.4g}, {plural(m.steps, 'step')}, {m.sampling} sampling "
        f"at rate {m.sample_rate:g}",
    )
    yield (
        "canaries",
        f"{result.canaries:,}, each included at random, with probability 1/2{companions}; seed {result.seed}",
    )


def _rows(result: Verification) -> Iterator[tuple[Cell, ...]]:
    for name, budget in (("nominal", result.nominal), ("accounted", result.accounted)):
        yield (f"{name}, by the trainer", *_promise(budget))
    for bound in filter(None, (result.clopper_pearson, result.gdp, result.subsampled, result.one_run)):
        name = f"at least, {METHODS[bound.method]}"
        yield (name + (" (decides)" if bound is result.bound else ""), *_measured(bound))


def _promise(budget: Budget | None) -> tuple[Cell, ...]:
    if budget is None:
        return "none", "", ""
    return number(budget.epsilon), "", f"delta {budget.delta:g}, {budget.neighbouring}; {budget.accountant}"


def _measured(bound: EpsilonBound) -> tuple[Cell, ...]:
    return number(bound.low), number(bound.attainable), bound.assumption


def meanings(result: Verification) -> Iterator[str]:
    """Yield how to read the bounds."""
    yield f"where what it needs holds, a bound is wrong at most {result.alpha:.0%} of the time; delta {result.delta:g}"
    yield "attainable is the largest bound that so many canaries could ever have shown"
    yield f"{LOW_IS_NO_EVIDENCE}: a trainer that passes may still leak in ways that these canaries do not show"
