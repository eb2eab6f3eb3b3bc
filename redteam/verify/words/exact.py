"""The epsilon that a known channel accounts for, row by row, and whether draws are of that channel."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from redteam.core import TargetError
from redteam.core.arrays import FloatArray, IntArray
from redteam.models.word_vectors import WordVectors
from redteam.plugins.mechanism import WordMechanism

_FEWEST = 10.0  # expected draws at the first degree
_DEGREES = 16  # of how unlikely an output is
_SUM = 1e-6  # how far the probabilities of a word's outputs may be from 1
_ROUNDING = 1e-9  # of logarithms of probabilities


@dataclass(frozen=True)
class Accounted:
    """The largest |ln P(y|w) - ln P(y|w')| / d(w, w') over words and outputs, and its two words; `plain` undivided."""

    epsilon: float
    plain: float
    words: tuple[str, str]


def account(mechanism: WordMechanism, table: WordVectors) -> Accounted | None:
    """Return the epsilon of the channel on all words of `table`; None where no formula of it is known.

    Raises TargetError where it is no channel, or distances are none.
    """
    channel = asked_channel(mechanism, np.arange(len(table)), table)
    if channel is None:
        return None
    distances = asked_distances(mechanism, table)
    most, plain, pair = 0.0, 0.0, (0, min(1, len(table) - 1))
    for word, row in enumerate(channel):
        with np.errstate(invalid="ignore"):
            apart = np.abs(row - channel)
        apart = np.where(np.isneginf(row) & np.isneginf(channel), 0.0, apart).max(axis=1)
        apart[apart <= _ROUNDING] = 0.0  # words of one vector, whose rows differ by rounding alone
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(apart > 0, apart / distances[word], 0.0)
        other = int(each.argmax())
        plain = max(plain, float(apart.max()))
        if each[other] > most:
            most, pair = float(each[other]), (word, other)
    return Accounted(most, plain, (table.words[pair[0]], table.words[pair[1]]))


def asked_channel(mechanism: WordMechanism, words: IntArray, table: WordVectors) -> FloatArray | None:
    """Return ln Pr[M(w) = y] as a mechanism says it, None where it knows no formula; TargetError where it is none."""
    found = mechanism.log_channel(words, table)
    if found is None:
        return None
    channel = np.asarray(found, np.float64)
    if channel.shape != (len(words), len(table)):
        shape = " x ".join(map(str, channel.shape))
        raise TargetError(f"{mechanism.name}: its channel of {len(words)} words and {len(table)} outputs is {shape}")
    with np.errstate(over="ignore"):
        sums = np.exp(channel).sum(axis=1)
    if not np.allclose(sums, 1, atol=_SUM):  # nor where one is no number
        worst = float(sums[np.argmax(np.abs(np.nan_to_num(sums - 1, nan=np.inf)))])
        raise TargetError(
            f"{mechanism.name}: its channel is none: the probabilities of a word's outputs add up to {worst:g}, not 1"
        )
    return channel


def asked_distances(mechanism: WordMechanism, table: WordVectors) -> FloatArray:
    """Return the distances of which a mechanism speaks between all words; TargetError where they are none."""
    distances = np.asarray(mechanism.distances(np.arange(len(table)), table), np.float64)
    if distances.shape != (len(table), len(table)) or not (np.isfinite(distances) & (distances >= 0)).all():
        shape = f"{len(table)} x {len(table)}"
        raise TargetError(f"{mechanism.name}: its distances between words are not {shape} finite numbers from 0 on")
    return distances


def channel_p_value(counts: FloatArray, channel: FloatArray) -> float:
    """Return how likely counts [words, n] are that differ so much from a channel, logarithms [words, n].

    Exact binomial tests, two-sided: of each output of each word, and of how many outputs over all words are as unlikely
    as their channel says, or more, at several degrees of that. Each kind has half of the error, shared over its tests.
    """
    draws = counts.sum(axis=1, keepdims=True)
    shares = np.minimum(np.exp(channel), 1.0)
    cells = _two_sided(counts, np.broadcast_to(draws, counts.shape), shares)
    order = np.argsort(channel, axis=None, kind="stable")
    expected, found = np.cumsum((shares * draws).ravel()[order]), np.cumsum(counts.ravel()[order])
    total = float(draws.sum())
    places = np.unique(np.searchsorted(expected, np.geomspace(_FEWEST, total / 2, _DEGREES)))
    tails = _two_sided(found[places], np.full(len(places), total), np.minimum(expected[places] / total, 1.0))
    return float(min(1.0, 2 * min(cells.min() * cells.size, tails.min() * tails.size)))


def _two_sided(found: FloatArray, draws: FloatArray, shares: FloatArray) -> FloatArray:
    less, more = binom.cdf(found, draws, shares), binom.sf(found - 1, draws, shares)
    made: FloatArray = np.minimum(1.0, 2 * np.minimum(less, more))
    return made
