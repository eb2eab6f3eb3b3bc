"""The page of a privatiser's verification: epsilon as claimed, as accounted for, and as its draws show."""

from collections.abc import Iterator

from redteam.formats.html.charts import Mark, Range, log_ranges
from redteam.formats.html.page import Figure, HtmlTable, Number, Page, Section, draw
from redteam.formats.html.plane import log_ends
from redteam.verify.page import KINDS, steps
from redteam.verify.words.render import meanings, numbers, scale
from redteam.verify.words.run import PrivatiserVerification

_MOST = 12


def render_page(result: PrivatiserVerification) -> str:
    """Return a verification as a page of its own."""
    sections = (
        Section("What was found", result.findings, open=True),
        Section("What this means, and what it does not", tuple(f"{each}." for each in meanings(result)), open=True),
        Section("Do it again", texts=(("", _command(result)),)),
    )
    return draw(
        Page(
            title=f"Verification of {result.subject}",
            kind=KINDS[result.verdict],
            word=result.verdict.upper(),
            sentence=result.reason,
            about=tuple((f"{name[:1].upper()}{name[1:]}", str(said)) for name, said in numbers(result)),
            numbers=tuple(_numbers(result)),
            next=tuple(steps(result.verdict)),
            figures=(_figure(result),),
            sections=tuple(each for each in sections if not each.empty),
            foot=f"redteam {result.tool_version}. Violated is a proof, consistent is not.",
        )
    )


def _numbers(result: PrivatiserVerification) -> Iterator[Number]:
    shown, most = f"at least {result.best.low:.3g}", f"{result.attainable:.3g} could have been shown"
    yield Number("Shown by draws", shown, most, result.verdict, KINDS[result.verdict])
    yield Number("Claimed", f"{result.claimed:g}", scale(result), "promised", "plain")
    accounted = (
        "infinite" if result.infinite else "not known" if result.accounted is None else f"{result.accounted:.3g}"
    )
    whole = result.unit == "text"
    of, on = ("clipping and noise", "at the worst vectors") if whole else ("its channel", f"on {result.words:,} words")
    yield Number(f"Accounted, of {of}", accounted, on, "computed", "plain")


def _figure(result: PrivatiserVerification) -> Figure:
    ordered = sorted(result.pairs, key=lambda pair: -pair.low)
    drawn = [
        Range(
            " / ".join(each.words),
            each.low,
            each.low,
            each.low,
            f"at least {each.low:.3g}",
            "plain",
            (Mark("attainable", each.attainable, "attainable"),),
        )
        for each in ordered[:_MOST]
    ]
    lines = [Mark(f"claimed {result.claimed:g}", result.claimed, "guarantee")]
    values = [result.claimed, *(v for each in ordered for v in (each.low, each.attainable))]
    low, high = log_ends(values)
    title = f"Epsilon {scale(result)}: claimed, shown, attainable"
    two = "texts, or what becomes of their vectors" if result.unit == "text" else "words"
    meaning = (
        f"Each row is two {two}. Where a dot stands to the right of the green line, outputs tell the two apart better "
        "than was promised to whoever wrote one of them.",
        "A diamond is the most that so many draws could have shown.",
    )
    headers = ("more often of / than of", "distance", "at least", "attainable")
    rows = tuple((" / ".join(e.words), f"{e.distance:.3g}", f"{e.low:.3g}", f"{e.attainable:.3g}") for e in ordered)
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    picture = log_ranges(title, about, drawn, lines, axis="epsilon (logarithmic)", ends=(low, high))
    return Figure(title, picture, meaning, HtmlTable(headers, rows, headers[1:]), wide=True)


def _command(result: PrivatiserVerification) -> str:
    words = f" --words {result.words}" if result.unit == "word" else ""
    asked = f"--epsilon {result.claimed:g}{words} --draws {result.draws}"
    return f"redteam verify --text NAME {asked} --alpha {result.alpha:g} --seed {result.seed}"
