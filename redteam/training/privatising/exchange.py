"""Texts in, texts out: which words are known, what a mechanism makes of these, and what is put for all others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from redteam.core import TargetError
from redteam.core.arrays import IntArray
from redteam.core.progress import Progress, unwatched
from redteam.core.randomness import Randomness
from redteam.data.words import words_of
from redteam.models.word_vectors import MASK, WordVectors
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.settings import settings_of
from redteam.training.privatising.record import Unknown, WordTally

DIGITS = 4  # of a number that stands for a number, whatever its length was
_DISTINCT, _DRAWN = 512, 4096  # words in one go: a second or two
_MIXED = 2654435761  # an odd number: by its multiples common words, whose numbers are small, lie among rare ones


@dataclass(frozen=True)
class Exchange:
    """A mechanism with its vectors, and what to do with words that have none."""

    mechanism: WordMechanism
    table: WordVectors
    unknown: Unknown = "mask"

    def texts(
        self, texts: Sequence[str], randomness: Randomness, progress: Progress = unwatched
    ) -> tuple[list[str], WordTally]:
        """Return texts with their words exchanged, each independently, and what came of them."""
        parted = [words_of(text) for text in texts]
        flat = [word for words in parted for word in words]
        index = np.array([self.table.index.get(word, -1) for word in flat], np.int64)
        known = np.flatnonzero(index >= 0)
        made = list(flat)
        drawn = self._drawn(index[known], randomness, progress)
        for place, word in zip(known.tolist(), drawn.tolist(), strict=True):
            made[place] = self.table.words[word]
        self._exchange_unknown(made, np.flatnonzero(index < 0), randomness)
        return self._joined(parted, flat, made, len(flat) - len(known))

    def _drawn(self, words: IntArray, randomness: Randomness, progress: Progress) -> IntArray:
        """Return what is drawn for each word, some at a time, all of one word together: its channel is found once."""
        order = np.argsort(words * _MIXED % 2**32, kind="stable")
        drawn = np.empty_like(words)
        for start, end in _pieces(words[order]):
            some = order[start:end]
            drawn[some] = drawn_words(self.mechanism, words[some], self.table, randomness)
            progress(end, len(words))
        return drawn

    def described(self) -> dict[str, Any]:
        """Return what a record says of it, and of what it claims."""
        promise = self.mechanism.promise(self.table)
        return {
            "mechanism": self.mechanism.id,
            "settings": settings_of(self.mechanism),
            "embeddings": self.table.name,
            "embeddings_sha256": self.table.digest,
            "unknown": self.unknown,
            "epsilon": promise.epsilon,
            "plain": promise.plain,
            "distance": promise.distance,
        }

    def _exchange_unknown(self, made: list[str], places: IntArray, randomness: Randomness) -> None:
        if self.unknown == "keep":
            return
        if self.unknown == "mask":
            for place in places.tolist():
                made[place] = MASK
            return
        words = randomness.below(len(self.table), len(places)).tolist()
        numbers = randomness.below(10**DIGITS, len(places)).tolist()
        for place, word, number in zip(places.tolist(), words, numbers, strict=True):
            made[place] = f"{number:0{DIGITS}}" if made[place].isdecimal() else self.table.words[word]

    def _joined(
        self, parted: list[list[str]], before: list[str], after: list[str], unknown: int
    ) -> tuple[list[str], WordTally]:
        texts, start, same, whole = [], 0, 0, 0
        for words in parted:
            end = start + len(words)
            kept = sum(a == b for a, b in zip(before[start:end], after[start:end], strict=True))
            same, whole = same + kept, whole + (0 < len(words) == kept)
            texts.append(" ".join(after[start:end]) or MASK)
            start = end
        longest = max(map(len, parted), default=0)
        return texts, WordTally(len(before), unknown, same, len(parted), whole, longest)


def _pieces(words: IntArray) -> Iterator[tuple[int, int]]:
    """Yield where pieces of words that lie together begin and end: of not too many words, and not too many others."""
    others = np.cumsum(words[1:] != words[:-1])
    cuts = [0, *(np.flatnonzero(np.diff(others // _DISTINCT, prepend=0)) + 1).tolist(), len(words)]
    for begin, stop in pairwise(cuts):
        yield from ((start, min(start + _DRAWN, stop)) for start in range(begin, stop, _DRAWN))


def drawn_words(mechanism: WordMechanism, words: IntArray, table: WordVectors, randomness: Randomness) -> IntArray:
    """Return what a mechanism draws for `words`; TargetError where that is not a word of the table for each."""
    drawn = np.asarray(mechanism.draw(words, table, randomness))
    if drawn.shape != words.shape or (len(drawn) and drawn.dtype.kind not in "iu"):
        kind = f"{drawn.dtype} [{' x '.join(map(str, drawn.shape))}]"
        raise TargetError(f"{mechanism.name}: draws {kind} for {len(words)} words; it needs a whole number for each")
    if len(drawn) and not (drawn.min() >= 0 and drawn.max() < len(table)):
        raise TargetError(f"{mechanism.name}: draws what is no word of {table.name}, which has {len(table)}")
    return drawn.astype(np.int64)
