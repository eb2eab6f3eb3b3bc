"""What needs no statistics: two runs that are the same, outputs that are kept, words that always go out as they came.

An honest privatiser is found here with a probability that can be neglected: each finding takes at least 20 words that
agree where chance would have had to make each of them agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redteam.verify.words.subject import PrivatiserSubject

_WORDS, _ENOUGH = 80, 20
_FEW = 5  # outputs; a privatiser that knows none of the words has one for all
_NUMBERS = ("4417", "90210", "8675309", "1729", "31337", "65537", "104729", "271828", "5550123", "2147483")
_MADE_UP = ("zvooq", "qwyxl", "brintag", "flomxy", "ktharn", "vuzzop", "jaxliq", "drospeq", "wemphyr", "skuvnix")


@dataclass(frozen=True)
class Certain:
    """What was found: `violated` breaks the guarantee whatever epsilon is, `told` is worth knowing."""

    violated: tuple[str, ...]
    told: tuple[str, ...]


def certain_failures(subject: PrivatiserSubject, rng: np.random.Generator) -> Certain:
    """Run a privatiser twice from scratch, each time on every word twice, and compare."""
    order = np.resize(rng.permutation(len(subject.table)), _WORDS)  # again and again, where there are few
    words, count = [subject.table.words[i] for i in order], _WORDS
    asked = [*words, *_NUMBERS, *_MADE_UP]
    runs = [subject.fresh([*asked, *asked]) for _ in range(2)]
    copies = [run[start : start + len(asked)] for run in runs for start in (0, len(asked))]
    known = [copy[:count] for copy in copies]
    told = list(_told(words, known))
    return Certain((*_same(words, known), *_kept(copies, count)), tuple(told))


def _same(words: Sequence[str], copies: Sequence[Sequence[str]]) -> Iterator[str]:
    """Say that noise follows from a fixed seed, is kept, or is none."""
    first, again, other, other_again = copies
    within = _different(first, again) + _different(other, other_again)
    across = _different(first, other) + _different(again, other_again)
    exchanged = _different([word.casefold() for word in words], [each.casefold().strip() for each in first])
    if across == 0 and within >= _ENOUGH:
        yield (
            f"two runs from scratch give the same outputs, though {within} of {2 * len(words)} words vary within a "
            "run: the noise follows from a fixed seed, and whoever has the code can undo it"
        )
    elif within == 0 and across >= _ENOUGH:
        yield (
            "a word has the same output whenever it occurs in a run: outputs are kept, so that a text that repeats a "
            "word is told from one that does not"
        )
    elif within == 0 and across == 0 and exchanged >= _ENOUGH and len(set(first)) > _FEW:
        yield f"{exchanged} of {len(words)} words are exchanged, always for the same: there is no randomness at all"


def _kept(copies: Sequence[Sequence[str]], start: int) -> Iterator[str]:
    """Say that numbers, or words that nobody knows, go out as they came."""
    for what, tokens in (("numbers", _NUMBERS), ("words that have no vector", _MADE_UP)):
        end = start + len(tokens)
        through = [
            token
            for place, token in enumerate(tokens, start=start)
            if all(token in copy[place].casefold().split() for copy in copies)
        ]
        start = end
        if len(through) >= len(tokens) - 2:
            yield f"{what} go out as they came ({', '.join(through[:3])}, ...): they tell who wrote a text"


def _told(words: Sequence[str], copies: Sequence[Sequence[str]]) -> Iterator[str]:
    same = sum(
        word.casefold() == each.casefold().strip() for copy in copies for word, each in zip(words, copy, strict=True)
    )
    whole = len(copies) * len(words)
    yield f"{same} of {whole} words that were asked went out as they came" + (
        ": none was exchanged" if same == whole else ""
    )


def _different(first: Sequence[str], second: Sequence[str]) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))
