"""The page of a verification: the verdict, and epsilon as promised, as shown and as could have been shown."""

from collections.abc import Iterator

from redteam.formats.html.charts import Mark, Range, log_ranges
from redteam.formats.html.page import Figure, HtmlTable, Number, Page, Section, draw
from redteam.formats.html.plane import log_ends
from redteam.report import number
from redteam.statistics.epsilon import EpsilonBound
from redteam.verify.text import METHODS, meanings, subject
from redteam.verify.verdict import Verification

KINDS = {"consistent": "pass", "violated": "leak", "inconclusive": "inconclusive"}
_HEADERS = ("epsilon", "value", "attainable", "holds if")


def render_page(result: Verification) -> str:
    """Return a verification as a page of its own."""
    named = tuple((f"{name[:1].upper()}{name[1:]}", str(said)) for name, said in subject(result))
    findings = Section("What the adversary saw", result.findings, open=True)
    sections = (
        findings,
        Section("What this means, and what it does not", tuple(f"{each}." for each in meanings(result)), open=True),
        Section("Do it again", (_AGAIN,), texts=(("", _command(result)),)),
    )
    return draw(
        Page(
            title=f"Verification of {result.subject}",
            kind=KINDS[result.verdict],
            word=result.verdict.upper(),
            sentence=result.reason,
            about=named,
            numbers=tuple(_numbers(result)),
            next=tuple(steps(result.verdict)),
            figures=(_figure(result),),
            sections=tuple(each for each in sections if not each.empty),
            foot=f"redteam {result.tool_version}. Violated is a proof, consistent is not.",
        )
    )


_AGAIN = "The same trainer, settings, canaries and seed give the same numbers on the same kind of machine."


def steps(verdict: str) -> Iterator[str]:
    """Yield what to do about a verdict."""
    if verdict == "violated":
        yield "do not release what it trained under this epsilon: what people were promised does not hold"
        yield "mend what the findings below name, and verify again"
    elif verdict == "inconclusive":
        yield "put right what the reason names and verify again: until then nothing is said either way"
    else:
        yield "verify again whenever the trainer changes, and audit each model that it trains: this is no proof"


def _numbers(result: Verification) -> Iterator[Number]:
    bound, promised = result.bound, result.accounted
    yield Number(
        f"Shown ({METHODS.get(bound.method, bound.method)})",
        f"at least {number(bound.low)}",
        f"{number(bound.attainable)} could have been shown",
        result.verdict,
        KINDS[result.verdict],
    )
    for name, budget in (("Accounted, by the trainer", promised), ("Nominal, by the trainer", result.nominal)):
        beside = "nothing is guaranteed" if budget is None else f"at delta {budget.delta:g}, for each {budget.unit}"
        yield Number(name, "none" if budget is None else number(budget.epsilon), beside, "promised", "plain")


def _figure(result: Verification) -> Figure:
    drawn, rows = [], []
    for name, budget in (("nominal", result.nominal), ("accounted", result.accounted)):
        if budget is not None:
            said = number(budget.epsilon)
            drawn.append(Range(f"{name}, promised", budget.epsilon, budget.epsilon, budget.epsilon, said, "guarantee"))
            assumed = f"delta {budget.delta:g}, {budget.neighbouring}; {budget.accountant}"
            rows.append((f"{name}, by the trainer", said, "-", assumed))
    for bound in filter(None, (result.clopper_pearson, result.gdp, result.subsampled, result.one_run)):
        name = METHODS.get(bound.method, bound.method) + (" (decides)" if bound is result.bound else "")
        drawn.append(_shown(name, bound))
        rows.append((f"at least, {name}", number(bound.low), number(bound.attainable), bound.assumption))
    lines = [] if result.accounted is None else [Mark("accounted", result.accounted.epsilon, "guarantee")]
    low, high = log_ends([v for row in drawn for v in (row.low, *(mark.value for mark in row.marks))])
    title = "Epsilon: promised, shown, attainable"
    meaning = (
        "Where a dot stands to the right of the green line, more is shown than is promised: whoever's text was "
        "trained on is less protected than they were told.",
        "A diamond is the most that so many canaries could have shown. A low bound is not evidence of privacy.",
    )
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    picture = log_ranges(title, about, drawn, lines, axis="epsilon (logarithmic)", ends=(min(low, 0.1), high))
    return Figure(title, picture, meaning, HtmlTable(_HEADERS, tuple(rows), ("value", "attainable")), wide=True)


def _shown(name: str, bound: EpsilonBound) -> Range:
    marks = (Mark("attainable", bound.attainable, "attainable"),)
    return Range(name, bound.low, bound.low, bound.low, f"at least {number(bound.low)}", "plain", marks)


def _command(result: Verification) -> str:
    asked = f" --set delta={result.delta:g}"
    if result.nominal is not None:
        asked = f" --set epsilon={result.nominal.epsilon:g}{asked}"
    return f"redteam verify DEFENSE --canaries {result.canaries} --alpha {result.alpha:g} --seed {result.seed}{asked}"
