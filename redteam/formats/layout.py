"""Sections, tables and lists for a terminal, drawn by rich; every string that enters here is cleaned."""

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redteam.formats import clean

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
