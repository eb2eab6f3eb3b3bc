"""Privatisers of text with planted errors, each an error that was found in a library or a paper, and honest ones."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from defenses.text._rows import draw_by_rows, normalised
from defenses.text.cmp import Multivariate
from defenses.text.santext import SanText
from defenses.text.tem import TruncatedExponential
from redteam.core.randomness import Randomness
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.verify.words.subject import of_mechanism


@dataclass(frozen=True)
class WrongBottom(WordMechanism):
    """TEM with the score of the bottom element ln(|W| / |L|) in place of ln |W \\ L|."""

    id, name = "RD391", "wrong-bottom"
    epsilon: float = 3.5
    beta: float = 0.001

    def promise(self, table):
        return Promise(self.epsilon, self.epsilon * table.extremes[1])

    def _weights(self, distances, table):
        gamma = TruncatedExponential(self.epsilon, self.beta).gamma(table)
        inside = distances <= gamma
        within, n = inside.sum(axis=1, keepdims=True), distances.shape[1]
        bottom = -self.epsilon * gamma / 2 + np.log(n / within) - np.log(np.maximum(n - within, 1))
        return np.where(inside, -self.epsilon * distances / 2, bottom)

    def log_channel(self, words, table):
        return normalised(self._weights(table.distances(words), table))

    def draw(self, words, table, randomness):
        return draw_by_rows(words, table, lambda distances: self._weights(distances, table), randomness)


@dataclass(frozen=True)
class Squared(WordMechanism):
    """SanText that ranks squared distances, and claims epsilon of plain ones."""

    id, name = "RD392", "squared"
    epsilon: float = 1.0

    def promise(self, table):
        return Promise(self.epsilon, self.epsilon * table.extremes[1])

    def log_channel(self, words, table):
        return normalised(table.distances(words) ** 2 * (-self.epsilon / 2))

    def draw(self, words, table, randomness):
        return draw_by_rows(words, table, lambda distances: distances**2 * (-self.epsilon / 2), randomness)


@dataclass(frozen=True)
class OwnSets(WordMechanism):
    """CusText: each word has an output set of its own, so that no epsilon holds between words of different sets."""

    id, name = "RD393", "own-sets"
    epsilon: float = 2.0
    size: int = 8

    def promise(self, table):
        return Promise(self.epsilon, self.epsilon * table.extremes[1])

    def _weights(self, distances):
        last = np.partition(distances, self.size - 1, axis=1)[:, self.size - 1 : self.size]
        return np.where(distances <= last, -self.epsilon / 2 * distances / last, -np.inf)

    def log_channel(self, words, table):
        return normalised(self._weights(table.distances(words)))

    def draw(self, words, table, randomness):
        return draw_by_rows(words, table, self._weights, randomness)


@dataclass(frozen=True)
class FarStays(WordMechanism):
    """TEM that gives back the word itself where a far one is drawn, and says it is TEM."""

    id, name = "RD394", "far-stays"
    epsilon: float = 3.0
    beta: float = 0.3

    def promise(self, table):
        return self._honest().promise(table)

    def _honest(self):
        return TruncatedExponential(self.epsilon, self.beta)

    def log_channel(self, words, table):
        return self._honest().log_channel(words, table)

    def draw(self, words, table, randomness):
        drawn = self._honest().draw(words, table, randomness)
        apart = np.linalg.norm(table.vectors[words] - table.vectors[drawn], axis=1)
        return np.where(apart > self._honest().gamma(table), words, drawn)


@dataclass(frozen=True)
class FixedSeed(SanText):
    """SanText whose noise is that of a seed written into the code."""

    id, name = "RD395", "fixed-seed"

    def draw(self, words, table, randomness):
        return super().draw(words, table, Randomness(42))


@dataclass(frozen=True)
class HalfTheNoise(Multivariate):
    """Noise of twice the epsilon that is claimed: on vectors of many numbers nobody has a formula for it."""

    id, name = "RD399", "half-the-noise"

    def draw(self, words, table, randomness):
        return Multivariate(2 * self.epsilon).draw(words, table, randomness)


@dataclass(frozen=True)
class Says(SanText):
    """SanText that says what it is told to say."""

    id, name = "RD389", "says"
    channel: Any = None
    apart: Any = None
    plain: float | None = None
    drawn: Any = None

    def promise(self, table):
        honest = super().promise(table)
        return honest if self.plain is None else replace(honest, plain=self.plain)

    def log_channel(self, words, table):
        honest = super().log_channel(words, table)
        return honest if self.channel is None else self.channel(honest)

    def distances(self, words, table):
        honest = super().distances(words, table)
        return honest if self.apart is None else self.apart(honest)

    def draw(self, words, table, randomness):
        honest = super().draw(words, table, randomness)
        return honest if self.drawn is None else self.drawn(honest)


def without_channel(subject):
    """The same as a function that nobody can look into."""
    return replace(subject, mechanism=None)


def cached(mechanism, table):
    """A run keeps the output of each word."""
    honest = of_mechanism(mechanism, table)

    def run(texts):
        kept = {}
        for text, made in zip(texts, honest.rewrite(texts), strict=True):
            kept.setdefault(text, made)
        return [kept[text] for text in texts]

    return replace(honest, name="cached", rewrite=honest.rewrite, fresh=run, mechanism=None)


def passing(table, epsilon):
    """Texts go out as they came."""
    honest = of_mechanism(SanText(epsilon), table)
    return replace(honest, name="passing", rewrite=list, fresh=list, mechanism=None)


def keeping(mechanism, table):
    """Words without a vector go out as they came."""
    return of_mechanism(mechanism, table, "keep")


def without_noise(table, epsilon):
    """Every word is exchanged, always for the next one."""
    following = {word: table.words[(i + 1) % len(table)] for i, word in enumerate(table.words)}
    honest = of_mechanism(SanText(epsilon), table)

    def run(texts):
        return [following.get(text, "unk") for text in texts]

    return replace(honest, name="no-noise", rewrite=run, fresh=run, mechanism=None)
