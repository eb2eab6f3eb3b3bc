"""The verification of a privatiser for a terminal, and as JSON."""

import json
from collections.abc import Iterator

from redteam import core
from redteam.formats.text import Cell, bullets, draw, headline, pairs, section, table
from redteam.report import plural
from redteam.verify.text import STYLES
from redteam.verify.verdict import LOW_IS_NO_EVIDENCE
from redteam.verify.words.run import PrivatiserVerification

_SHOWN = 6


def as_json(result: PrivatiserVerification) -> str:
    """Return the verification as indented JSON text ending in a newline."""
    return json.dumps(core.encode(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_text(result: PrivatiserVerification, *, color: bool = False, width: int = 100) -> str:
    """Return the verification as text of at most `width` columns, with terminal colours where `color` is true."""
    parts = [
        headline(result.verdict.upper(), f"{result.subject}: {result.reason}", STYLES[result.verdict]),
        section(f"Epsilon, {scale(result)}", pairs(numbers(result))),
        section(
            "Draws",
            table(
                ("more often of / than of", "distance", "at least", "attainable"),
                _rows(result),
                right=("at least", "attainable"),
            ),
        ),
        section("What was found", bullets(result.findings)),
        section("What this means", bullets(meanings(result))),
    ]
    return draw(parts, width=width, color=color)


def scale(result: PrivatiserVerification) -> str:
    """Return what an epsilon is of."""
    if result.unit == "word":
        return "for each unit of distance"
    return f"of a whole text, at delta {result.delta:g}" if result.delta else "of a whole text"


def numbers(result: PrivatiserVerification) -> Iterator[tuple[str, Cell]]:
    """Yield what is claimed, accounted for and shown, by name."""
    yield "claimed", f"{result.claimed:g}"
    if result.infinite:
        yield "accounted", "infinite"
    elif result.accounted is None:
        yield "accounted", "not known: no formula of its channel"
    elif result.unit == "text":
        yield "accounted", f"{result.accounted:.4g}, by its clipping and noise"
    else:
        yield "accounted", f"{result.accounted:.4g}, plain {result.accounted_plain:.4g} a word, on {result.words} words"
    of = "word" if result.unit == "word" else "vector"
    yield (
        "draws show",
        f"{result.best.low:.4g} or more, {result.attainable:.4g} at most from {result.draws:,} of a {of}",
    )


def _rows(result: PrivatiserVerification) -> Iterator[tuple[Cell, ...]]:
    for each in sorted(result.pairs, key=lambda pair: -pair.low)[:_SHOWN]:
        yield " / ".join(each.words), f"{each.distance:.3g}", f"{each.low:.3g}", f"{each.attainable:.3g}"


def meanings(result: PrivatiserVerification) -> Iterator[str]:
    """Yield how to read the numbers."""
    yield f"an honest privatiser is called violated at most {result.alpha:.0%} of the time"
    if result.unit == "text":
        yield (
            f"{LOW_IS_NO_EVIDENCE}: its clipping and noise were tried alone, on {result.asked} vectors far beyond any "
            "clipping. An autoencoder that was learned from the texts to protect voids all of it, and is not seen here"
        )
        return
    if result.accounted is not None and result.accounted < result.claimed:
        yield (
            f"that less than the claim is accounted for is of these {result.words} words, and no reserve: other words "
            "may need all of it"
        )
    if result.accounted is None and not result.infinite:
        yield (
            f"{LOW_IS_NO_EVIDENCE}: its channel is not known. Of {result.words} words {result.asked} were asked, one a "
            f"text, and {plural(len(result.pairs), 'pair')} of these bounded: whatever it does with other words, with "
            f"texts of several words, or less than once in {result.draws:,} times, is not seen here"
        )
    yield "it is verified word by word: nothing is said of the length of a text, or of the order of its words"
