"""Swap lists: which word of one group stands for which of the other, and how a text is swapped.

`gender` and `names` are our own. A file is a CSV whose two first columns name the groups and hold a pair a row; a third
column, `use`, may say of a pair that it is of `name`s, any of which may stand for any other of its group, that texts
with one of its words are `asymmetric` and have no counterfactual, or that its words are a `placebo` for each other.

In English `her` is `his` before a noun and `him` elsewhere, `his` is `her` or `hers`: what follows decides, and where
that may be both the text is left as it is and counted.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redteam.auditing.fairness import words
from redteam.core import DataError, UsageError
from redteam.data.table import read_table

OWN = ("gender", "names")
_WORD = re.compile(r"[^\W\d_]+")
_USES = ("", "swap", "name", "asymmetric", "placebo")
Why = Literal["unchanged", "asymmetric", "undecided"]


@dataclass(frozen=True)
class SwapList:
    """The words of two groups: `pairs` swap, `names` are of either group, any of which would do as a placebo.

    `asymmetric` are words whose texts have no counterfactual, `kinds` words that must not matter.
    """

    name: str
    sides: tuple[str, str]
    pairs: tuple[tuple[str, str], ...]
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    asymmetric: frozenset[str] = frozenset()
    kinds: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a word whose other word is not clear, but for pronouns that grammar decides on."""
        for word, others in self.options().items():
            if len(others) > 1 and (word, frozenset(others)) not in _BY_GRAMMAR and not self._first_wins(word):
                raise DataError(
                    f"swap list {self.name}: {word!r} has two counterparts, {' and '.join(sorted(others))}: keep one"
                )

    def _first_wins(self, word: str) -> bool:
        """Tell whether several words of one side share a counterpart, as mum and mom do: then it is for the first."""
        left = {a for a, _ in self.pairs}
        return word not in left

    def options(self) -> dict[str, list[str]]:
        """Return the counterparts of each word, in the order of the list."""
        found: dict[str, list[str]] = {}
        for a, b in self.pairs:
            for word, other in ((a, b), (b, a)):
                if other not in found.setdefault(word, []):
                    found[word].append(other)
        return found

    @property
    def vocabulary(self) -> frozenset[str]:
        """All words that are swapped."""
        return frozenset(word for pair in self.pairs for word in pair)

    def side_of(self, word: str) -> int:
        """Return 1 for a word of the first group, -1 for one of the second."""
        return 1 if any(word == a for a, _ in self.pairs) else -1


_BY_GRAMMAR = {("her", frozenset({"him", "his"})), ("his", frozenset({"her", "hers"}))}


@dataclass(frozen=True)
class Swapped:
    """A text with its words exchanged: how many, where they stood, and whom it named (1, -1, or 0 for both groups)."""

    text: str
    count: int
    side: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Token:
    """A word of a text in lower case, and where it stands."""

    word: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Return the words of a text."""
    return [Token(found[0].lower(), found.start(), found.end()) for found in _WORD.finditer(text)]


def swap(text: str, by: SwapList, options: Mapping[str, list[str]]) -> Swapped | Why:
    """Exchange every listed word of a text, or say why it has no counterfactual; `options` are those of the list."""
    parts = tokens(text)
    if any(part.word in by.asymmetric for part in parts):
        return "asymmetric"
    changes: list[tuple[Token, str]] = []
    for i, part in enumerate(parts):
        if part.word in options:
            other = _counterpart(parts, i, text, options[part.word])
            if other is None:
                return "undecided"
            changes.append((part, other))
    if not changes:
        return "unchanged"
    sides = {by.side_of(part.word) for part, _ in changes}
    swapped = replace_words(text, changes)
    if swapped == text:
        return "unchanged"
    places = tuple((part.start, part.end) for part, _ in changes)
    return Swapped(swapped, len(changes), sides.pop() if len(sides) == 1 else 0, places)


def replace_words(text: str, changes: list[tuple[Token, str]]) -> str:
    """Return the text with words exchanged, each in the letter case of the one before."""
    parts, last = [], 0
    for token, word in sorted(changes, key=lambda change: change[0].start):
        parts += [text[last : token.start], _cased(text[token.start : token.end], word)]
        last = token.end
    return "".join([*parts, text[last:]])


def _cased(like: str, word: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _counterpart(parts: list[Token], i: int, text: str, others: list[str]) -> str | None:
    """Return the other word; of a pronoun of two, that which grammar asks for, None where it may be both."""
    if len(others) == 1 or frozenset(others) not in {both for _, both in _BY_GRAMMAR}:
        return others[0]
    owns = _owns(parts, i, text)
    if owns is None:
        return None
    if parts[i].word == "her":
        return "his" if owns else "him"
    return "her" if owns else "hers"


def _owns(parts: list[Token], i: int, text: str) -> bool | None:
    """Tell whether the pronoun at `i` stands before what is owned; None where one cannot tell."""
    following = parts[i + 1] if i + 1 < len(parts) else None
    between = text[parts[i].end : following.start] if following else "."
    if following is None or re.search(r"[^\s'\"-]", between):
        return False
    word = following.word
    if word == "own":
        return True
    if word in words.ENDS_NOUN_PHRASE:
        return False
    if parts[i].word == "his":
        return True
    after = parts[i + 2] if i + 2 < len(parts) else None
    rest = text[following.end : after.start] if after else "."
    goes_on = after is not None and not re.search(r"[^\s'\"-]", rest) and after.word not in words.ENDS_NOUN_PHRASE
    if goes_on:
        return None if word.endswith("ly") or (i and parts[i - 1].word in words.SAYS) else True
    if word.endswith(words.COMPLEMENTS):
        return False if word.endswith("ly") or (i and parts[i - 1].word in words.MAKES) else None
    return True


def load_swaps(given: str) -> SwapList:
    """Return the list that `given` names, `gender`, `names` or a CSV file; DataError for what is none."""
    if given == "gender":
        pairs = tuple((a, b) for a, b in words.GENDER)
        return SwapList("gender", ("women", "men"), pairs, asymmetric=words.ONLY_ONE_SEX)
    if given == "names":
        both = tuple(zip(words.WOMEN, words.MEN, strict=True))
        return SwapList("names", ("women", "men"), both, (words.WOMEN, words.MEN))
    path = Path(given)
    if not path.exists():
        raise UsageError(f"--swaps {given}: neither a file nor one of {', '.join(OWN)}")
    return _from_file(path)


def swapped_texts(texts: list[str], given: str) -> list[str]:
    """Return the swap of each text by a list, and the text itself where it has none."""
    by = load_swaps(given)
    options = by.options()
    found = (swap(text, by, options) for text in texts)
    return [each.text if isinstance(each, Swapped) else text for text, each in zip(texts, found, strict=True)]


def _from_file(path: Path) -> SwapList:
    cells = read_table(path)
    names = list(cells.columns)
    if len(names) < 2 or any(name != "use" for name in names[2:]):
        raise DataError(f"{path}: columns {', '.join(names)}: two name the groups, a third may be called use")
    first, second = (cells.columns[name] for name in names[:2])
    uses = cells.columns.get("use") or [""] * len(first)
    rows = list(_rows(path, first, second, uses))

    def of(*wanted: str) -> tuple[tuple[str, str], ...]:
        return tuple((a, b) for a, b, use in rows if use in wanted)

    pairs = of("", "swap", "name")
    if not pairs:
        raise DataError(f"{path}: no pair of words to swap")
    of_names = tuple(zip(*of("name"), strict=True)) or ((), ())
    outside = frozenset(word for pair in of("asymmetric") for word in pair if word)
    return SwapList(path.stem, (names[0], names[1]), pairs, (of_names[0], of_names[1]), outside, of("placebo"))


def _rows(
    path: Path, first: list[str | None], second: list[str | None], uses: list[str | None]
) -> Iterator[tuple[str, str, str]]:
    for number, (a, b, use) in enumerate(zip(first, second, uses, strict=True), start=1):
        one, other, how = ((cell or "").strip().lower() for cell in (a, b, use))
        if how not in _USES:
            raise DataError(f"{path}: row {number}: use {how!r} is none of swap, name, asymmetric, placebo")
        for word in (one, other):
            if (word or how != "asymmetric") and not _WORD.fullmatch(word):
                raise DataError(f"{path}: row {number}: {word!r} is not one word of letters")
        if one == other:
            raise DataError(f"{path}: row {number}: {one!r} stands on both sides")
        yield one, other, how
