"""How much nearer one set of words lies to a first attribute than to a second: effect sizes and what backs them.

Of two sets of target words X and Y and two of attributes A and B, each word w has s(w) = mean cos(w, a) - mean cos(w,
b), and the effect is (mean of X - mean of Y) / standard deviation of both (Caliskan, Bryson, Narayanan 2017, WEAT; May
et al. 2019 of sentences, SEAT). What varies is which words were listed: p is of exchanging the words of X and Y, and
the interval of drawing words again and, of each, its contexts. Guo and Caliskan's CEAT (2021) pools effects of random
contexts; its own p shrinks with the number of draws, since draws from one pool of contexts are no independent studies.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray
from redteam.statistics import Interval, require_rate

_EXACT, _DRAWS, _BOOTSTRAP = 100_000, 9_999, 2_000
_CLOSE = 1e-12
Contexts = Sequence[FloatArray]  # of each word, vectors of length 1, [contexts, d]


@dataclass(frozen=True)
class Association:
    """An effect with its interval, the p of exchanging words, and whether all exchanges were looked at."""

    effect: Interval
    p: float
    exact: bool


def associate(x: Contexts, y: Contexts, a: Contexts, b: Contexts, *, alpha: float, seed: int) -> Association:
    """Return how much nearer `x` lies to `a` than `y` does, against `b`; StatisticsError for fewer than two words."""
    if min(map(len, (x, y, a, b))) < 2:
        raise StatisticsError("an association takes two words or more of each kind")
    scores = [_scores(words, a, b) for words in (x, y)]
    value, p, exact = effect_size(*scores), *permutation_p(*scores, seed=seed)
    rng = np.random.default_rng([seed, 0x505])
    drawn = sorted(_drawn(x, y, a, b, rng) for _ in range(_BOOTSTRAP))
    half = require_rate("alpha", alpha) / 2
    low, high = (float(np.quantile(drawn, q)) for q in (half, 1 - half))
    return Association(Interval(value, min(low, value), max(high, value), alpha), p, exact)


def effect_size(x: FloatArray, y: FloatArray) -> float:
    """Return the difference of means over the standard deviation of all, of which one degree of freedom is taken."""
    spread = float(np.std(np.concatenate([x, y]), ddof=1))
    return float(x.mean() - y.mean()) / spread if spread > 0 else 0.0


def permutation_p(x: FloatArray, y: FloatArray, *, seed: int) -> tuple[float, bool]:
    """Return how often words exchanged between X and Y lie as far apart, two-sided, and whether all ways were tried."""
    every, n = np.concatenate([x, y]), len(x)
    seen = abs(float(x.mean() - y.mean())) - _CLOSE
    total = every.sum()

    def apart(sums: FloatArray) -> FloatArray:
        found: FloatArray = np.abs(sums / n - (total - sums) / (len(every) - n))
        return found

    if math.comb(len(every), n) <= _EXACT:
        sums = np.array([every[list(each)].sum() for each in itertools.combinations(range(len(every)), n)])
        return float((apart(sums) >= seen).mean()), True
    rng = np.random.default_rng([seed, 0x9E])
    sums = np.array([rng.permutation(every)[:n].sum() for _ in range(_DRAWS)])
    return float(1 + (apart(sums) >= seen).sum()) / (1 + _DRAWS), False


def pooled(effects: FloatArray, variances: FloatArray) -> tuple[float, float, float]:
    """Return the random-effects mean of DerSimonian and Laird (1986), its standard error and two-sided p."""
    w = 1 / variances
    q = float((w * effects**2).sum() - (w * effects).sum() ** 2 / w.sum())
    c = float(w.sum() - (w**2).sum() / w.sum())
    between = max(0.0, (q - (len(effects) - 1)) / c) if c > 0 else 0.0
    v = 1 / (variances + between)
    mean, error = float((v * effects).sum() / v.sum()), float(v.sum() ** -0.5)
    return mean, error, float(2 * ndtr(-abs(mean) / error))


def contextual(x: Contexts, y: Contexts, a: Contexts, b: Contexts, *, draws: int, seed: int) -> tuple[float, float]:
    """Return CEAT's pooled effect over random contexts of each word, and its own p, which shrinks with the draws."""
    rng = np.random.default_rng([seed, 0xCEA7])
    effects, variances = np.empty(draws), np.empty(draws)
    for i in range(draws):
        one = [[each[[rng.integers(len(each))]] for each in words] for words in (x, y, a, b)]
        scores = [_scores(words, one[2], one[3]) for words in one[:2]]
        effects[i], variances[i] = effect_size(*scores), max(float(np.var(np.concatenate(scores), ddof=1)), _CLOSE)
    mean, _, p = pooled(effects, variances)
    return mean, p


def _scores(words: Contexts, a: Contexts, b: Contexts) -> FloatArray:
    """Return s(w) of each word, by the means of its and of the attributes' contexts."""
    near, far = (np.mean([each.mean(axis=0) for each in part], axis=0) for part in (a, b))
    found: FloatArray = np.array([each.mean(axis=0) @ (near - far) for each in words])
    return found


def _drawn(x: Contexts, y: Contexts, a: Contexts, b: Contexts, rng: np.random.Generator) -> float:
    """Return the effect of words drawn again, and of each of contexts drawn again."""
    parts = [
        [words[i][rng.integers(len(words[i]), size=len(words[i]))] for i in rng.integers(len(words), size=len(words))]
        for words in (x, y, a, b)
    ]
    return effect_size(*(_scores(words, parts[2], parts[3]) for words in parts[:2]))
