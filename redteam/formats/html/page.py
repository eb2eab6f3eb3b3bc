"""A page of one file: what is on it, as plain values, and the template that draws it with nothing from elsewhere."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from redteam.formats import clean, clip

_MOST_ROWS = 300
_MOST_LINES = 200  # of a list
_MOST_FIGURES = 16  # of what unfolds
_WHOLE = 2_000  # characters of anything else
_MANY, _LONGEST, _SHORTER = 50, 400, 80  # characters of a cell: what is longer is cut, in tables of many rows sooner


@dataclass(frozen=True)
class HtmlTable:
    """Rows of cells under headers; the columns whose headers are in `numbers` are set to the right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        """The rows that a page has room for."""
        return self.rows[:_MOST_ROWS]

    @property
    def more(self) -> int:
        """How many are left out."""
        return max(0, len(self.rows) - _MOST_ROWS)

    def cut(self, text: str) -> str:
        """Return a cell as long as a page has room for."""
        return clip(text, _SHORTER if len(self.rows) > _MANY else _LONGEST)


@dataclass(frozen=True)
class Figure:
    """A picture with its numbers beneath, and what it means for the people in the data."""

    title: str
    svg: Markup
    meaning: tuple[str, ...]
    table: HtmlTable
    wide: bool = False


@dataclass(frozen=True)
class Number:
    """One of the numbers that decide: what it is, how much, what it is held against, what came of it."""

    name: str
    value: str
    beside: str
    outcome: str
    kind: str


@dataclass(frozen=True)
class Section:
    """What unfolds under a title: lines, tables, text as it stands, pictures."""

    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[tuple[str, HtmlTable], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    open: bool = False

    @property
    def drawn(self) -> tuple[Figure, ...]:
        """The pictures that a page has room for."""
        return self.figures[:_MOST_FIGURES]

    @property
    def undrawn(self) -> int:
        """How many are left out."""
        return max(0, len(self.figures) - _MOST_FIGURES)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to unfold."""
        return not (self.lines or self.tables or self.texts or self.figures)


@dataclass(frozen=True)
class Page:
    """All of it; `kind` is pass, leak, inconclusive or plain."""

    title: str
    kind: str
    word: str
    sentence: str
    about: tuple[tuple[str, str], ...]
    numbers: tuple[Number, ...] = ()
    alarms: tuple[tuple[str, tuple[str, ...]], ...] = ()
    next: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    sections: tuple[Section, ...] = ()
    foot: str = ""


def draw(page: Page) -> str:
    """Return the page as HTML; every string is escaped, and written out where it does not print."""
    return _environment().get_template("page.html").render(page=page).rstrip() + "\n"


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"lines": _lines, "room": _room}
    return made


def _harmless(value: Any) -> Any:
    """Return what an expression of the template prints: of text, what does not print is written out, within reason."""
    return clean(clip(value, _WHOLE)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _room(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lines of a list that a page has room for, and how many more there are."""
    more = len(lines) - _MOST_LINES
    return (*lines[:_MOST_LINES], *((f"and {more:,} more, in the saved report",) if more > 0 else ()))


def _lines(text: str) -> Markup:
    """Return text that may have several lines, each of them harmless."""
    return Markup("\n").join(clean(line) for line in text.split("\n"))
