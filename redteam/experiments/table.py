"""What tables of experiments share: one for a terminal, several as Markdown, with the sentences that go with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redteam.formats import in_markdown

MARK = "!"  # beside the accuracy of a row that learned nothing, or next to nothing
_WIDEST = 200


@dataclass(frozen=True)
class ReportTable:
    """Headers and lines; columns named in `right` hold numbers."""

    headers: Sequence[str]
    lines: Sequence[Sequence[str]]
    right: Sequence[str] = ()

    def markdown(self) -> Iterator[str]:
        """Yield the lines of a table in GitHub-flavoured Markdown."""
        yield f"| {' | '.join(self.headers)} |"
        yield "|" + "---|" * len(self.headers)
        yield from (f"| {' | '.join(map(in_markdown, line))} |" for line in self.lines)


def text_of(table: ReportTable, told: Sequence[str], *, width: int, color: bool) -> str:
    """Return a table and sentences as lines of at most `width` columns."""
    from redteam.formats import text as layout

    words = layout.draw([layout.bullets(told)], width=width, color=color)
    if not table.lines:
        return words
    # a cut number would be a wrong one: on a narrow terminal the lines of the table are longer than it
    drawn = layout.table(table.headers, table.lines, right=table.right)
    return layout.draw([drawn], width=_WIDEST, color=color) + "\n" + words


def markdown_of(
    title: str, table: ReportTable, told: Sequence[str], summary: str, details: Sequence[ReportTable]
) -> str:
    """Return a table, sentences, and further tables to unfold as GitHub-flavoured Markdown."""
    lines = [f"### {title}", "", *table.markdown(), "", *(f"- {in_markdown(line)}" for line in told), ""]
    lines += [f"<details><summary>{summary}</summary>", ""]
    lines += [line for each in details for line in (*each.markdown(), "")]
    return "\n".join([*lines, "</details>"]) + "\n"


def untrained(words: str, seeds: Sequence[int], of: Sequence[int], *, on: str, so: str) -> str:
    """Return the line for a row of which these seeds, `of` all, learned nothing: are right no more often `on` them."""
    named = "" if len(seeds) == len(of) else f", seed {', '.join(map(str, seeds))}"
    return (
        f"UNTRAINED{MARK}: {words}{named}: not right on its {on} significantly more often than always answering their "
        f"commonest label: {so}"
    )
