"""Two reports side by side as text, Markdown and JSON."""

import json
from typing import Any

from redteam import core
from redteam.formats import code, in_markdown, json_text
from redteam.policy.comparison import Change, Comparison, Direction
from redteam.report import plural
from redteam.report.reading import measured_by
from redteam.statistics import Interval

_STYLES: dict[Direction, str] = {"worse": "bold red", "better": "green"}


def headline(comparison: Comparison) -> tuple[str, str]:
    """Return the outcome in a word, and in a sentence."""
    better = sum(change.direction == "better" for change in comparison.changes)
    worse = len(comparison.worse)
    word = "WORSE" if worse else "NOT COMPARABLE" if comparison.gaps else "BETTER" if better else "NO PROVEN CHANGE"
    numbers = plural(len(comparison.changes), "number")
    return word, f"{worse} proven worse and {better} proven better of {numbers}"


def how(comparison: Comparison) -> str:
    """Say what it takes for a change to be proven."""
    return (
        "a change is proven where the two intervals do not overlap; whatever the two audits have in common, "
        f"all changes for the worse hold at once with a confidence of {100 * (1 - comparison.alpha):g}%, and so do all "
        "for the better"
    )


def as_json(comparison: Comparison, **_: Any) -> str:
    """Return the comparison as a JSON document."""
    return json_text(json.dumps(core.encode(comparison), indent=2, ensure_ascii=False) + "\n")


def as_text(comparison: Comparison, *, color: bool = False, width: int = 100, **_: Any) -> str:
    """Return the comparison as text of at most `width` columns."""
    from redteam.formats import text as layout

    word, sentence = headline(comparison)
    style = {"WORSE": "bold white on red", "BETTER": "bold white on green"}.get(word, "bold black on white")
    headers = ("number", "old", "new", "change", "outcome")
    rows = [(*cells(change), (change.direction, _STYLES.get(change.direction, ""))) for change in comparison.changes]
    parts = [
        layout.headline(word, f"{sentence}, {comparison.old} to {comparison.new}", style),
        layout.section("Changes", layout.table(headers, rows, right=("old", "new", "change"))),
        layout.section("Notes", layout.bullets([how(comparison), *(*comparison.gaps, *comparison.notes)])),
    ]
    return layout.draw(parts, width=width, color=color)


def as_markdown(comparison: Comparison, **_: Any) -> str:
    """Return the comparison as GitHub-flavoured Markdown."""
    word, sentence = headline(comparison)
    rows = []
    for change in comparison.changes:
        identifier, old, new, difference = cells(change)
        outcome = f"**{change.direction}**" if change.direction == "worse" else change.direction
        rows.append(f"| {code(identifier)} | {old} | {new} | {difference} | {outcome} |")
    lines = [
        f"### redteam compare: {word}",
        "",
        f"{sentence}, {code(comparison.old)} to {code(comparison.new)}.",
        "",
        "| number | old | new | change | outcome |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {in_markdown(note)}" for note in (how(comparison), *(*comparison.gaps, *comparison.notes))),
    ]
    return "\n".join(lines) + "\n"


def cells(change: Change) -> tuple[str, str, str, str]:
    """Return the name of a number, what it was, what it is, and the difference."""
    difference = "-" if change.difference is None else f"{change.difference:+.2f}"
    return change.id, _shown(change.old, change.id), _shown(change.new, change.id), difference


def _shown(interval: Interval | None, identifier: str) -> str:
    return "-" if interval is None else measured_by(identifier).measured(interval)
