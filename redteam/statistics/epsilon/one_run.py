"""Epsilon from random inclusion in a single training (T. Steinke, M. Nasr, M. Jagielski, "Privacy auditing with one (1)
training run", NeurIPS 2023).

Each of m canaries is included with probability 1/2. If the training is (epsilon, delta)-DP, the number of right guesses
about r of them is, but for delta, no larger than binomial with q = e^epsilon / (1 + e^epsilon), however the canaries
act on each other. With v right guesses, the p-value of that hypothesis is beta + 2 m delta alpha, where

    beta  = P[Bin(r, q) >= v]          alpha = max over 1 <= i <= v of P[v - i <= Bin(r, q) < v] / i

Nothing is assumed of the training or of the attack.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from redteam.statistics import largest_rejected, require_rate
from redteam.statistics.epsilon.bound import EpsilonBound, require_counts, require_delta
from redteam.statistics.epsilon.guessing import Count, Rule, count_guesses, perfect_guesses, settle
from redteam.statistics.thresholds import HALVES

FAIR_INCLUSION = (
    "each canary was included independently with probability 1/2, and the guesses depend on nothing but the model"
)


def one_run(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    *,
    delta: float,
    alpha: float,
    threshold: Rule = HALVES,
) -> EpsilonBound:
    """Return the largest epsilon that the right guesses about one training's canaries rule out.

    `in_scores`, shape (n_in,), of canaries that training had, `out_scores`, shape (n_out,), of those that it had not;
    higher says "in". Where inclusion was not fair, thin first (`fair_inclusion`). Wrong at most `alpha` of the time.
    SingleSplit and MultiSplit choose k+ and k- on a part of the canaries, and whether it is rather the low scores that
    say "in"; Guesses fixes them; a fixed threshold guesses at all. Raises StatisticsError where scores are missing or
    not finite, delta is not within [0, 1) or alpha not within (0, 1), or the rule chooses by membership. Steinke, Nasr,
    Jagielski 2023.
    """
    require_delta(delta)
    counts = count_guesses(in_scores, out_scores, threshold, delta=delta, alpha=alpha)
    most = perfect_guesses(np.size(in_scores) + np.size(out_scores), threshold, alpha=alpha)
    low = settle([_low(count, delta) for count in counts], threshold)
    return EpsilonBound(low, _low(most, delta), "one_run", FAIR_INCLUSION)


def one_run_from_counts(correct: int, guesses: int, canaries: int, *, delta: float, alpha: float) -> EpsilonBound:
    """Return the bound for `correct` right ones of `guesses` about `canaries`, by a rule fixed in advance.

    Wrong at most `alpha` of the time. Raises StatisticsError where a part is larger than its whole, or delta or alpha
    out of range.

    >>> bound = one_run_from_counts(90, 100, 1000, delta=1e-5, alpha=0.05)
    >>> round(bound.low, 2), round(bound.attainable, 2)
    (1.63, 3.47)
    """
    require_counts("guesses", correct, guesses)
    require_counts("canaries guessed at", guesses, canaries)
    require_delta(delta)
    require_rate("alpha", alpha)
    low, most = (_low(Count(each, guesses, canaries, alpha), delta) for each in (correct, guesses))
    return EpsilonBound(low, most, "one_run", FAIR_INCLUSION)


def p_value(epsilon: float, count: Count, *, delta: float) -> float:
    """Return the p-value of "(epsilon, delta)-DP" for at least one right guess, at most 1."""
    v, r = count.correct, count.guesses
    log_q, log_rest = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    beta = float(special.betainc(v, r - v + 1, math.exp(log_q)))
    if delta == 0.0:
        return beta
    below = np.arange(v - 1, -1, -1, dtype=np.float64)
    masses = np.exp(_log_choose(r, below) + below * log_q + (r - below) * log_rest)
    alpha = float(np.max(np.cumsum(masses) / np.arange(1, v + 1)))
    return min(1.0, beta + 2.0 * count.canaries * delta * alpha)


def _low(count: Count, delta: float) -> float:
    if count.correct == 0:
        return 0.0
    return largest_rejected(lambda epsilon: p_value(epsilon, count, delta=delta) < count.alpha)


def _log_choose(r: int, k: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    choose: npt.NDArray[np.float64] = math.lgamma(r + 1) - special.gammaln(k + 1.0) - special.gammaln(r - k + 1.0)
    return choose
