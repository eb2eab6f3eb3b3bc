"""Write docs/commands.md, the command reference, from the command line itself: `python docs/make/commands.py`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from redteam.cli import app

PAGE = Path(__file__).parents[1] / "commands.md"
HEAD = """# Commands

Generated from the command line by `make docs`; `redteam COMMAND --help` prints the same.
"""


def leaves(command: Any, path: str = "redteam") -> Iterator[tuple[str, Any]]:
    """Yield every command with the words that call it, those of a group in the group's place."""
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from leaves(command.get_command(None, name), f"{path} {name}")
    else:
        yield path, command


def reference() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(_section(path, command) for path, command in leaves(typer.main.get_command(app)))])


def _section(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {path}", "", _plain(command.help), "", f"    {path} {usage}", ""]
    rows = [record for each in command.get_params(context) if (record := _record(each, context))]
    lines += ["| | |", "|---|---|", *(f"| `{name}` | {_plain(help)} |" for name, help in rows), ""]
    return "\n".join(lines)


def _record(parameter: Any, context: Any) -> tuple[str, str] | None:
    record = parameter.get_help_record(context)
    if record is not None:
        return record[0].replace("|", "\\|"), record[1]
    return (
        (parameter.make_metavar(context), getattr(parameter, "help", "") or "")
        if not parameter.opts[0].startswith("-")
        else None
    )


def _plain(text: str) -> str:
    """Join the lines of a paragraph and take what Markdown would read as markup for what it is."""
    paragraphs = (" ".join(each.split()) for each in re.split(r"\n\s*\n", text.strip()))
    return re.sub(r"([|<>*_\[\]])", r"\\\1", "\n\n".join(paragraphs))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
