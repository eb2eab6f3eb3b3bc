"""The README and the pages of docs/ as the tests read them: their code blocks, and the commands that stand in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from conftest import ROOT

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced code block, and its place as `page:line`."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


@dataclass(frozen=True)
class Step:
    """One command of a console block, and the lines that it is shown to print."""

    command: str
    shown: tuple[str, ...]


def blocks(*languages):
    """Return all blocks in one of the languages, page by page."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCED.finditer(text):
            found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return [block for block in found if block.language in languages]


def steps(text):
    """Divide a block at the lines that begin with `$ `; a backslash goes on in the next line."""
    parts = re.split(r"^\$ ", re.sub(r" *\\\n\s*", " ", text), flags=re.MULTILINE)
    assert not parts[0], "a console block begins with $ and a command"
    return [Step(command, tuple(shown)) for command, *shown in (part.splitlines() for part in parts[1:])]


def commands():
    """Yield every redteam command of all code blocks with its place: (place, arguments)."""
    for block in blocks("sh", "console", "text", "yaml"):
        for line in _lines(block):
            for part in re.split(r"&&|\|\|", line):
                if found := re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*redteam (.*)", part):
                    yield str(block), shlex.split(found[1], comments=True)


def _lines(block):
    if block.language == "yaml":
        return _strings(yaml.safe_load(block.text))
    return re.sub(r" *\\\n\s*", " ", block.text).splitlines()


def _strings(node):
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [text for child in children for text in _strings(child)]
