"""What an attacker on released texts knows: how people write, from texts like these, and how words are exchanged."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.data.words import words_of
from redteam.models.word_vectors import MASK, SingleArray, WordVectors
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.reconstruction import PublicKnowledge
from redteam.training.privatising.exchange import DIGITS, Exchange

_MOST_WORDS, _FEWER_WORDS, _DRAWS = 3000, 800, 200  # words that people use, where a channel is counted, draws of each
_MOST_UNKNOWN = 500  # words without a vector
_BLOCK, _FOLLOWS = 64, 5.0
_NEVER = -1e4  # the logarithm of what does not happen; finite, so that sums of it are numbers


def language(texts: Sequence[str]) -> PublicKnowledge:
    """Return what an attacker knows who has `texts` like the released ones and nothing of how words are exchanged."""
    parted = [words_of(text) for text in texts]
    counts = Counter(word for words in parted for word in words)
    words = [word for word, _ in counts.most_common(_MOST_WORDS)] or [MASK]
    numbers = np.array([counts[word] + 1.0 for word in words])
    prior = np.log(numbers / numbers.sum())
    return PublicKnowledge(
        tuple(words), prior, _follows(parted, words, prior), {}, np.zeros((len(words), 0), np.float32)
    )


def knowledge(exchange: Exchange, texts: Sequence[str], seen: Sequence[str]) -> PublicKnowledge:
    """Return what an attacker knows who has `texts` like the released ones, of the released words `seen`.

    A mask hides one of the words without a vector, and how common each of these is, is known like all else.
    """
    mechanism, table = exchange.mechanism, exchange.table
    exact = mechanism.log_channel(np.zeros(1, np.int64), table) is not None
    parted = [words_of(text) for text in texts]
    used = Counter(word for words in parted for word in words)
    counts = Counter({word: count for word, count in used.items() if word in table.index})
    for word in seen:  # one may stand for itself, though no text has it
        if word in table.index:
            counts.setdefault(word, 0)
    words = [word for word, _ in counts.most_common(_MOST_WORDS if exact else _FEWER_WORDS)] or list(table.words[:2])
    columns = {word: place for place, word in enumerate(word for word in seen if word in table.index)}
    rows, wanted = (np.array([table.index[word] for word in some], np.int64) for some in (words, columns))
    channel = _exact(mechanism, table, rows, wanted) if exact else _counted(mechanism, table, rows, wanted)
    others = [word for word, _ in used.most_common() if word not in table.index][:_MOST_UNKNOWN]
    channel, columns = _with_unknown(exchange, others, seen, channel, columns)
    words += others[: len(channel) - len(words)]
    numbers = np.array([used[word] + 1.0 for word in words])
    prior = np.log(numbers / numbers.sum())
    return PublicKnowledge(tuple(words), prior, _follows(parted, words, prior), columns, channel)


def _with_unknown(
    exchange: Exchange, others: Sequence[str], seen: Sequence[str], channel: SingleArray, columns: dict[str, int]
) -> tuple[SingleArray, dict[str, int]]:
    """Return the channel with rows of words that have no vector and a column for their mark, or for random numbers."""
    if exchange.unknown == "keep" or not others:
        return channel, columns
    masked = exchange.unknown == "mask"
    numbers = np.array([word.isdecimal() for word in others])
    column = len(columns)
    own = np.full((len(others), column + 1), _NEVER, np.float32)
    if masked:
        own[:, column] = 0.0
        marks = [word for word in seen if word == MASK]
    else:
        own[~numbers, :column] = -np.log(len(exchange.table))
        own[numbers, column] = -DIGITS * np.log(10)
        for word, place in columns.items():
            if _random_number(word):
                own[numbers, place] = own[numbers, column]
        marks = [word for word in seen if word not in columns and _random_number(word)] if numbers.any() else []
    wide = np.concatenate([channel, np.full((len(channel), 1), _NEVER, np.float32)], axis=1)
    return np.concatenate([wide, own]), columns | dict.fromkeys(marks, column)


def _random_number(word: str) -> bool:
    return len(word) == DIGITS and word.isascii() and word.isdecimal()


def _follows(texts: Sequence[Sequence[str]], words: Sequence[str], prior: FloatArray) -> SingleArray:
    """Return the logarithm of how often each word follows each, the last row for beginnings."""
    place = {word: i for i, word in enumerate(words)}
    counts = np.tile((_FOLLOWS * np.exp(prior)).astype(np.float32), (len(words) + 1, 1))
    for text in texts:
        before = len(words)
        for word in text:
            now = place.get(word, -1)
            if now >= 0:
                counts[before, now] += 1
            before = now if now >= 0 else len(words)
    return np.asarray(np.log(counts / counts.sum(axis=1, keepdims=True)), np.float32)


def _exact(mechanism: WordMechanism, table: WordVectors, rows: IntArray, seen: IntArray) -> SingleArray:
    channel = np.empty((len(rows), len(seen)), np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = mechanism.log_channel(rows[start : start + _BLOCK], table)
        assert block is not None  # it was tried
        channel[start : start + _BLOCK] = block[:, seen]
    return channel


def _counted(mechanism: WordMechanism, table: WordVectors, rows: IntArray, seen: IntArray) -> SingleArray:
    """Return the channel by draws of each word, with a little for what was not drawn."""
    places = np.full(len(table), -1)
    places[seen] = np.arange(len(seen))
    counts = np.full((len(rows), len(seen)), 0.02, np.float32)
    for start in range(0, len(rows), _BLOCK):
        asked = np.arange(start, min(start + _BLOCK, len(rows))).repeat(_DRAWS)
        drawn = places[mechanism.draw(rows[asked], table, Randomness())]
        np.add.at(counts, (asked[drawn >= 0], drawn[drawn >= 0]), 1)
    return np.asarray(np.log(counts / (_DRAWS + 0.02 * len(table))), np.float32)
