"""Alphabets: the symbols that a secret is made of, built in, from a file, or the words of the data."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from redteam.core import UsageError, read_text
from redteam.data import COMMON, fold
from redteam.data.pattern import Pattern

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Alphabets = Mapping[str, tuple[str, ...]]

_COLORS = (
    "red orange yellow green blue purple pink brown black white gray gold silver cyan magenta maroon olive teal navy "
    "violet"
)
_NAMES = (
    "james mary robert patricia john jennifer michael linda david elizabeth william barbara richard susan joseph "
    "jessica thomas sarah charles karen daniel lisa matthew nancy anthony sandra mark betty steven ashley paul emily "
    "andrew kimberly joshua margaret kenneth donna kevin carol"
)
BUILT_IN: Alphabets = {
    "digit": tuple("0123456789"),
    "color": tuple(_COLORS.split()),
    "name": tuple(_NAMES.split()),
}
WORDS = "word"  # no list of its own: the tokenizer's whole words, else the common words of the data


def choose_alphabets(
    patterns: Sequence[Pattern],
    files: Mapping[str, Path],
    *,
    texts: Iterable[str],
    tokenizer: "Tokenizer | None" = None,
) -> dict[str, tuple[str, ...]]:
    """Return the symbols of each alphabet that the patterns name; raise UsageError for one that will not do.

    `files` are the user's own, one symbol a line; one may take the place of a list that is built in.
    """
    own = {name: _read(name, path) for name, path in files.items()}
    found: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(name for pattern in patterns for name in pattern.places):
        if name in own:
            found[name] = own[name]
        elif name == WORDS:
            found[name] = common_words(texts) if tokenizer is None else whole_words(tokenizer)
        elif name in BUILT_IN:
            found[name] = BUILT_IN[name]
        else:
            known = ", ".join([*BUILT_IN, WORDS, *own])
            raise UsageError(f"unknown alphabet {name!r}; known: {known}; canary plant takes --alphabet {name}=FILE")
        _check(name, found[name])
    for name in own.keys() - found.keys():
        raise UsageError(f"--alphabet {name}: no pattern has a slot {{{name}:COUNT}}")
    return found


def common_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the words, letters only and folded, that occur in at least 10 of the texts, sorted."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({word for word in fold(text).split() if word.isalpha()})
    return tuple(sorted(word for word, count in counts.items() if count >= COMMON))


def whole_words(tokenizer: "Tokenizer") -> tuple[str, ...]:
    """Return the words, letters only, that the tokenizer takes as one token each, sorted, one of each folded form.

    A piece of the vocabulary is only a word if, met alone in a text, it comes out as itself.
    """
    marks = str.maketrans("", "", "\u0120\u2581")  # how byte-pair and unigram vocabularies write a blank
    pieces = sorted({piece.translate(marks) for piece in tokenizer.get_vocab()})
    words = [piece for piece in pieces if piece.isalpha() and not piece.startswith("##")]
    encoded = tokenizer.encode_batch([f"a {word} a" for word in words], add_special_tokens=False)
    usual = len(tokenizer.encode("a a", add_special_tokens=False).ids) + 1
    unknown = unknown_token(tokenizer)
    pairs = zip(words, encoded, strict=True)
    whole = {fold(word): word for word, found in pairs if len(found.ids) == usual and unknown not in found.ids}
    return tuple(sorted(whole.values()))


def unknown_token(tokenizer: "Tokenizer") -> int | None:
    """Return the id that stands for whatever the tokenizer does not know, None where it can spell everything."""
    model: Mapping[str, object] = json.loads(tokenizer.to_str())["model"]
    if isinstance(model.get("unk_id"), int):
        return int(str(model["unk_id"]))
    token = model.get("unk_token")
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def _read(name: str, path: Path) -> tuple[str, ...]:
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise UsageError(f"--alphabet {name}={path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--alphabet {name}={path}: byte {error.start} is not UTF-8; convert the file") from None
    return tuple(line.strip() for line in lines if line.strip())


def _check(name: str, symbols: tuple[str, ...]) -> None:
    if len(symbols) < 2:
        rare = f"; words count that are in {COMMON} texts, or say --tokenizer" if name == WORDS else ""
        raise UsageError(f"alphabet {name!r} has {len(symbols)} symbols: there is nothing to guess; at least 2{rare}")
    folded = sorted(fold(symbol) for symbol in symbols)
    for first, second in itertools.pairwise(folded):
        if first == second:
            raise UsageError(f"alphabet {name!r}: {first!r} is there twice; upper and lower case count as the same")
    for symbol in symbols:
        if len(symbol.split()) != 1 or not symbol.isprintable():
            raise UsageError(f"alphabet {name!r}: {symbol!r} is not one word that can be printed; blanks part words")
