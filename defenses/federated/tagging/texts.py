"""Tagged texts: words, a tag for each in IOB2 (B-x begins a span of kind x, I-x goes on, O is none), and their users.

Two kinds of files are read. JSON lines, `.jsonl`: objects with `tokens`, `tags` and perhaps `user`. And columns, as
those of CoNLL 2003: a word a line, the first column the word and the last its tag, an empty line after each text; a
line `# user = NAME` before a text says whose it is.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import IntArray
from redteam.data import Examples
from redteam.data.source import TextFile, check_file

_TAG = re.compile(r"O|[BI]-\S+")
_USER = re.compile(r"#\s*user\s*=\s*(\S.*)")
_NEW_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class TaggedTexts:
    """Words and tags of each text; `users` where the file names them."""

    tokens: tuple[tuple[str, ...], ...]
    tags: tuple[tuple[str, ...], ...]
    users: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise DataError where a text has no words, or not a tag for each."""
        for number, (words, tags) in enumerate(zip(self.tokens, self.tags, strict=True), start=1):
            if not words or len(words) != len(tags):
                raise DataError(f"text {number}: {len(words)} words and {len(tags)} tags: give each word one")

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.tokens)

    def take(self, index: IntArray | Sequence[int]) -> "TaggedTexts":
        """Return the texts at the positions `index`, int [n], in that order."""
        order = [int(i) for i in index]
        users = None if self.users is None else tuple(self.users[i] for i in order)
        return TaggedTexts(tuple(self.tokens[i] for i in order), tuple(self.tags[i] for i in order), users)

    @property
    def known_tags(self) -> tuple[str, ...]:
        """The tags that occur, sorted."""
        return tuple(sorted({tag for tags in self.tags for tag in tags}))

    def examples(self) -> Examples:
        """Return the texts with one label each, by which clients are divided: the kind of most of its tagged words."""
        texts = tuple(" ".join(words) for words in self.tokens)
        return Examples(np.arange(len(self)), texts, tuple(map(_kind, self.tags)), users=self.users)

    def held(self) -> dict[str, Any]:
        """Return what a client's file holds."""
        return {"tokens": self.tokens, "tags": self.tags}


def read_tagged(path: Path) -> TaggedTexts:
    """Read a file of tagged texts; raise DataError with the line that is wrong."""
    check_file(path)
    lines = enumerate(TextFile(path).lines(), start=1)
    found = list(_json_lines(path, lines) if path.suffix in (".jsonl", ".ndjson") else _columns(path, lines))
    if not found:
        raise DataError(f"{path}: holds no tagged text")
    tokens, tags, users = zip(*found, strict=True)
    return TaggedTexts(tokens, tags, users if any(users) else None)


_Text = tuple[tuple[str, ...], tuple[str, ...], str]


def _json_lines(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[_Text]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            words, tags = item["tokens"], item["tags"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise DataError(f"{path}: line {number}: not an object with tokens and tags") from None
        if not all(isinstance(each, list) and all(isinstance(one, str) for one in each) for each in (words, tags)):
            raise DataError(f"{path}: line {number}: tokens and tags must be lists of strings")
        yield _checked(path, number, words, tags, str(item.get("user") or ""))


def _columns(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[_Text]:
    words: list[str] = []
    tags: list[str] = []
    user = now = ""
    number = 0
    for number, line in lines:
        cells = line.split()
        if not cells or cells[0] == _NEW_DOCUMENT:
            if words:
                yield _checked(path, number, words, tags, now)
            words, tags = [], []
            continue
        named = None if words else _USER.fullmatch(line.strip())
        if named:
            user = named[1]
            continue
        if len(cells) < 2:
            raise DataError(f"{path}: line {number}: one column; a word and its tag are needed")
        words.append(cells[0])
        tags.append(cells[-1])
        now = user
    if words:
        yield _checked(path, number, words, tags, now)


def _checked(path: Path, number: int, words: list[str], tags: list[str], user: str) -> _Text:
    if not words or len(words) != len(tags):
        raise DataError(f"{path}: line {number}: {len(words)} words and {len(tags)} tags: give each word one")
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise DataError(f"{path}: line {number}: tag {tag[:40]!r}; in IOB2 a tag is O, B-KIND or I-KIND")
    return tuple(words), tuple(tags), user


def _kind(tags: tuple[str, ...]) -> str:
    counts = Counter(tag[2:] for tag in tags if tag != "O")
    return min(counts, key=lambda kind: (-counts[kind], kind)) if counts else "O"
