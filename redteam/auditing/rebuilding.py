"""How many words of released texts come back: what an attacker knows, what is tried, and what it gives.

What is guessed is joined with the texts as they were after the last attack.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redteam.core import one_line
from redteam.core.arrays import FloatArray, IntArray
from redteam.core.randomness import Randomness
from redteam.data.words import words_of
from redteam.models.word_vectors import MASK, SingleArray, WordVectors
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.reconstruction import PublicKnowledge, ReconstructionAttack
from redteam.report import Limit
from redteam.report.values import Evidence, Failure, rule_of
from redteam.statistics.bounded import largest_mean_bound, mean_interval

_MOST_WORDS, _FEWER_WORDS, _DRAWS = 3000, 800, 200  # words that people use, where a channel is counted, draws of each
_BLOCK, _FOLLOWS = 64, 5.0
_UNSEEN = "\0"  # stands for a released word that is not looked at
_GAIN_ALPHA = 0.05  # of what seeing the released words adds, which is described and not judged


@dataclass(frozen=True)
class ReleasedAudit:
    """Released texts of members with the texts as they were, what the attacker knows, the attacks, and unfit ones."""

    released: tuple[tuple[str, ...], ...]
    raw: tuple[tuple[str, ...], ...]
    known: PublicKnowledge
    attacks: tuple[ReconstructionAttack, ...]
    unfit: tuple[ReconstructionAttack, ...] = ()

    def planned(self, limits: "Sequence[Limit] | None") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the id of each number that `run` gives: those that the limits of a policy judge, and all others."""
        named = [(f"{rule_of(attack.id, name)}:texts", name) for attack in self.attacks for name in attack.metrics]
        limited = [limits is None or any(limit.metric == name for limit in limits) for _, name in named]
        judged, others = (
            tuple(each for (each, _), is_limited in zip(named, limited, strict=True) if is_limited == wanted)
            for wanted in (True, False)
        )
        return judged, others

    def run(
        self, level: Callable[[str], float], remark: Callable[[str], None] = lambda note: None
    ) -> Iterator[Evidence | Failure]:
        """Yield for each attack and metric how much came back, each at its level; a crash is a Failure.

        `remark` is told how much of that comes back without looking at any released word.
        """
        for attack in self.unfit:
            yield Failure(attack.id, "not_applicable", "whole texts were rewritten: no word stands for one word")
        for attack in self.attacks:
            try:
                right = self._right(attack.recover(self.released, self.known))
                without = self._right(self._unseen(attack))
            except (Exception, SystemExit) as error:
                yield Failure(attack.id, "failed", one_line(error))
                continue
            words, prior = (np.array([own.mean() for own in some]) for some in (right, without))
            whole = np.array([float(own.all()) for own in right])
            for name in attack.metrics:
                identifier = f"{rule_of(attack.id, name)}:texts"
                numbers = whole if name == "texts_recovered" else words
                interval = mean_interval(numbers, alpha=level(identifier))
                most = largest_mean_bound(len(numbers), alpha=level(identifier))
                yield Evidence(attack.id, "texts", name, interval, len(numbers), len(numbers), most)
            remark(_beside_prior(attack.id, words, prior))

    def _unseen(self, attack: ReconstructionAttack) -> list[list[str]]:
        """Return what an attack says that knows how people write and how long each text is, and sees no word of it."""
        channel = np.zeros((len(self.known.words), 1), np.float32)
        blind = replace(self.known, seen={_UNSEEN: 0}, channel=channel)
        lengths = sorted({len(text) for text in self.released})
        guessed = attack.recover([(_UNSEEN,) * length for length in lengths], blind)
        commonest = self.known.words[int(self.known.prior.argmax())]  # for one that reads words as they stand
        said = {len(text): [commonest if word == _UNSEEN else word for word in text] for text in guessed}
        return [said[len(text)] for text in self.released]

    def _right(self, guessed: Sequence[Sequence[str]]) -> list[FloatArray]:
        pairs = zip(guessed, self.raw, strict=True)
        return [np.array([float(a == b) for a, b in zip(ours, own, strict=True)]) for ours, own in pairs]


def _beside_prior(attack: str, words: FloatArray, prior: FloatArray) -> str:
    """Say what seeing the released words adds; gains are from -1 to 1, so half of that has the interval of shares."""
    gain = mean_interval((words - prior + 1) / 2, alpha=_GAIN_ALPHA)
    low, value = 2 * gain.low - 1, 2 * gain.value - 1
    shown = f"at least {low:+.1%}" if low > 0 else "within chance: nothing is shown to come from the release"
    return (
        f"{attack} on {len(words):,} released texts: {prior.mean():.1%} of their words are guessed without seeing any "
        f"of them, by the lengths and how people write; seeing them adds {value:+.1%} ({shown})"
    )


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


def knowledge(
    mechanism: WordMechanism, table: WordVectors, texts: Sequence[str], seen: Sequence[str]
) -> PublicKnowledge:
    """Return what an attacker knows who has `texts` like the released ones, of the released words `seen`."""
    exact = mechanism.log_channel(np.zeros(1, np.int64), table) is not None
    parted = [words_of(text) for text in texts]
    counts = Counter(word for words in parted for word in words if word in table.index)
    for word in seen:  # one may stand for itself, though no text has it
        if word in table.index:
            counts.setdefault(word, 0)
    words = [word for word, _ in counts.most_common(_MOST_WORDS if exact else _FEWER_WORDS)] or list(table.words[:2])
    columns = {word: place for place, word in enumerate(word for word in seen if word in table.index)}
    rows, wanted = (np.array([table.index[word] for word in some], np.int64) for some in (words, columns))
    channel = _exact(mechanism, table, rows, wanted) if exact else _counted(mechanism, table, rows, wanted)
    numbers = np.array([counts[word] + 1.0 for word in words])
    prior = np.log(numbers / numbers.sum())
    return PublicKnowledge(tuple(words), prior, _follows(parted, words, prior), columns, channel)


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
