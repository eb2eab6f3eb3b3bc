"""The verification of a privatiser: certain failures, the channel where it is known, and draws.

An honest one is called violated at most `alpha` of the time: half of that is for draws that do not fit its channel,
where that is known, and the rest for the bound on epsilon.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from redteam import __version__
from redteam.core import INCONCLUSIVE, LEAK, PASS, UsageError
from redteam.core.arrays import FloatArray
from redteam.core.progress import unwatched
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import WordMechanism
from redteam.training.privatising.exchange import drawn_words
from redteam.verify.words.bounds import PairBound, bound_pair, choose_pairs, strongest_pairs
from redteam.verify.words.certain import certain_failures
from redteam.verify.words.exact import Accounted, account, asked_channel, asked_distances, channel_p_value
from redteam.verify.words.made_up import made_up
from redteam.verify.words.subject import PrivatiserSubject, promised

Verdict = Literal["consistent", "violated", "inconclusive"]
FORMAT = "redteam.text-verification/1"
_ROUNDING = 1e-6  # of an epsilon, relative
_BATCH = 20_000  # texts in one call
_KEPT = 3  # pairs that are bounded, besides the nearest


@dataclass(frozen=True)
class PrivatiserVerification:
    """What one verification of a privatiser found. Epsilons are for each unit of distance, but for `accounted_plain`.

    `accounted` is of its channel, None where that is not known or, if `infinite`, where no epsilon holds. `pairs` are
    of draws of so many `asked` words, or vectors where `unit` is a whole text, whose epsilon is at `delta`.
    `attainable` is the largest bound that so many draws could have shown.
    """

    subject: str
    verdict: Verdict
    reason: str
    claimed: float
    accounted: float | None
    accounted_plain: float | None
    infinite: bool
    pairs: tuple[PairBound, ...]
    findings: tuple[str, ...]
    words: int
    asked: int
    draws: int
    alpha: float
    seed: int
    tool_version: str
    unit: Literal["word", "text"] = "word"
    delta: float = 0.0
    format: str = FORMAT

    @property
    def best(self) -> PairBound:
        """The pair of words that shows most."""
        return max(self.pairs, key=lambda each: each.low)

    @property
    def attainable(self) -> float:
        """The largest bound that could have been shown."""
        return max(each.attainable for each in self.pairs)

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return {"consistent": PASS, "violated": LEAK, "inconclusive": INCONCLUSIVE}[self.verdict]


def verify_privatiser(
    subject: PrivatiserSubject,
    *,
    draws: int = 10_000,
    pairs: int = 12,
    alpha: float = 0.01,
    seed: int = 0,
    progress: Callable[[int, int], None] = unwatched,
) -> PrivatiserVerification:
    """Return the verdict on a privatiser from `draws` of each word of `pairs` that are near; `seed` only chooses these.

    Raises UsageError where there are too few words, TargetError where the subject crashes.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha}: give a number between 0 and 1")
    rng = np.random.default_rng(seed)
    table, known = subject.table, subject.mechanism
    apart = table.distances(np.arange(len(table))) if known is None else asked_distances(known, table)
    certain, chosen = certain_failures(subject, rng), choose_pairs(table, apart, pairs, rng)
    if not chosen:
        raise UsageError(f"{table.name}: no two of its {len(table)} words are apart: there is no pair to try")
    tried = [word for pair in chosen for word in pair]
    outputs = _draw(subject, [table.words[word] for word in tried], draws, progress)
    accounted = None if known is None else account(known, table)
    bounds = _bounds(table, tried, apart, outputs, alpha if known is None else alpha / 2)
    of_channel = [] if known is None else _of_channel(known, subject, tried, outputs, alpha / 2)
    over = _over(subject.epsilon, subject.plain, accounted)
    proven = [*certain.violated, *over, *of_channel, *_shown(subject, bounds)]
    verdict, reason = _decide(subject, proven, accounted, bounds, len(tried))
    finite = accounted if accounted is not None and np.isfinite(accounted.epsilon) else None
    return PrivatiserVerification(
        subject=subject.name,
        verdict=verdict,
        reason=reason,
        claimed=subject.epsilon,
        accounted=None if finite is None else finite.epsilon,
        accounted_plain=None if finite is None else finite.plain,
        infinite=accounted is not None and finite is None,
        pairs=bounds,
        findings=(*proven, *certain.told),
        words=len(table),
        asked=len(tried),
        draws=draws,
        alpha=alpha,
        seed=seed,
        tool_version=__version__,
    )


def _bounds(
    table: WordVectors, tried: Sequence[int], apart: FloatArray, outputs: list[list[str]], alpha: float
) -> tuple[PairBound, ...]:
    """Return bounds on the pairs of tried words that show most on half of the draws; together they err with `alpha`."""
    pairs = strongest_pairs(outputs, apart[np.ix_(tried, tried)], _KEPT)
    made = []
    for a, b in pairs:
        words, distance = (table.words[tried[a]], table.words[tried[b]]), float(apart[tried[a], tried[b]])
        made.append(bound_pair(outputs[a], outputs[b], words=words, distance=distance, alpha=alpha / len(pairs)))
    return tuple(made)


def _draw(
    subject: PrivatiserSubject, words: Sequence[str], draws: int, progress: Callable[[int, int], None]
) -> list[list[str]]:
    """Return so many outputs of each word, asked one word a text."""
    outputs: list[list[str]] = []
    progress(0, len(words))
    for done, word in enumerate(words):
        own: list[str] = []
        while len(own) < draws:
            own += subject.rewrite([word] * min(_BATCH, draws - len(own)))
        outputs.append(own)
        progress(done + 1, len(words))
    return outputs


def _over(claimed: float, plain: float, accounted: Accounted | None, where: str = "its channel") -> list[str]:
    if accounted is None:
        return []
    if accounted.epsilon <= claimed * (1 + _ROUNDING):
        if accounted.plain <= plain * (1 + _ROUNDING):
            return []
        return [f"{where} accounts for plain epsilon {accounted.plain:.4g} of a word, and claims {plain:.4g}"]
    pair = " and ".join(accounted.words)
    if not np.isfinite(accounted.epsilon):
        return [f"{where}: no epsilon holds: one of {pair} has an output that the other never has"]
    return [f"{where} accounts for epsilon {accounted.epsilon:.4g} (words {pair}), and claims {claimed:g}"]


def _of_channel(
    mechanism: WordMechanism, subject: PrivatiserSubject, tried: list[int], outputs: list[list[str]], alpha: float
) -> list[str]:
    """Say what is wrong with a channel on words that are made up, and with draws from it here and there."""
    table, said, tables = subject.table, list[str](), made_up(mechanism)
    places = [[table.index.get(text, -1) for text in own] for own in outputs]
    if any(place < 0 for own in places for place in own):
        said.append("an output is no word of the vocabulary: its draws are not of the channel that it says")
    else:
        counts = np.array([np.bincount(own, minlength=len(table)) for own in places], np.float64)
        said += _unlike(mechanism, table, tried, counts, alpha / (1 + len(tables)))
    for other in tables:
        made = promised(mechanism, other)
        where = f"on made-up words ({other.name}) its channel"
        said += _over(made.epsilon, made.plain, account(mechanism, other), where)
        each = max(1, sum(map(len, outputs)) // len(other))
        words = np.arange(len(other)).repeat(each)
        drawn = drawn_words(mechanism, words, other, Randomness())
        counts = np.zeros((len(other), len(other)))
        np.add.at(counts, (words, drawn), 1)
        said += _unlike(mechanism, other, list(range(len(other))), counts, alpha / (1 + len(tables)))
    return said


def _unlike(
    mechanism: WordMechanism, table: WordVectors, words: list[int], counts: FloatArray, alpha: float
) -> list[str]:
    channel = asked_channel(mechanism, np.array(words), table)
    found = 1.0 if channel is None else channel_p_value(counts, channel)
    where = f"{table.name}: its draws are not of the channel that it says"
    return [f"{where} (exact tests, p = {found:.1g})"] if found < alpha else []


def _shown(subject: PrivatiserSubject, bounds: Sequence[PairBound]) -> list[str]:
    best = max(bounds, key=lambda each: each.low)
    if not best.low > subject.epsilon:
        return []
    pair = " and ".join(best.words)
    return [
        f"draws show epsilon {best.low:.4g} or more (words {pair}, {best.distance:.3g} apart), and it claims "
        f"{subject.epsilon:g}"
    ]


def _decide(
    subject: PrivatiserSubject,
    proven: Sequence[str],
    accounted: Accounted | None,
    bounds: Sequence[PairBound],
    asked: int,
) -> tuple[Verdict, str]:
    if proven:
        return "violated", proven[0]
    if accounted is not None:
        return "consistent", f"its channel accounts for epsilon {accounted.epsilon:.4g}, and claims {subject.epsilon:g}"
    most = max(each.attainable for each in bounds)
    if not most > subject.epsilon:
        return "inconclusive", (
            f"claims epsilon {subject.epsilon:g}, and so many draws could show {most:.3g} at most: give more --draws, "
            "or verify it at a smaller epsilon"
        )
    best = max(bounds, key=lambda each: each.low)
    return "consistent", (
        f"draws of {asked} words alone show no more than it claims: epsilon {best.low:.3g} of {subject.epsilon:g}"
    )
