"""Epsilon from random inclusion in a single training of a Gaussian mechanism (S. Mahloujifar, L. Melis, K. Chaudhuri,
"Auditing f-differential privacy in one run", 2024, Algorithm 3).

Let p_j be the chance of j right guesses among c' about m canaries. Under f-DP, turning one right guess into a wrong
one keeps the total of the wrong cases at least fbar^-1 of that of the right ones; if P[c or more right] were tau, this
recursion would give the smallest total that all cases must then have, and more than c' / m of it is impossible:

    r[c] = tau c / m,   h[c] = tau (c' - c) / m,   and for i = c - 1 .. 0
    h[i] = max(h[i+1], fbar^-1(r[i+1])),   r[i] = r[i+1] + i / (c' - i) (h[i] - h[i+1])

For the Gaussian mechanism of mu, fbar^-1(x) = Phi(Phi^-1(x) - mu). The bound is tighter than `one_run`'s and holds
only where the trade-off is Gaussian.
"""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from redteam.statistics import largest_rejected, require_rate
from redteam.statistics.epsilon.bound import EpsilonBound, require_counts, require_delta
from redteam.statistics.epsilon.gaussian import gdp_epsilon
from redteam.statistics.epsilon.guessing import Count, Rule, count_guesses, perfect_guesses, settle
from redteam.statistics.epsilon.one_run import FAIR_INCLUSION
from redteam.statistics.thresholds import HALVES

ASSUMPTION = (
    f"the mechanism is Gaussian: its trade-off is that of a Gaussian mechanism of some mu; and {FAIR_INCLUSION}"
)
_ROOT = math.sqrt(0.5)


def one_run_fdp(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    *,
    delta: float,
    alpha: float,
    threshold: Rule = HALVES,
) -> EpsilonBound:
    """Return the epsilon, at `delta` > 0, of the least private Gaussian mechanism that the right guesses rule out.

    Arguments, rules and errors as in `one_run`. Mahloujifar, Melis, Chaudhuri 2024.
    """
    require_delta(delta, positive=True)
    counts = count_guesses(in_scores, out_scores, threshold, delta=delta, alpha=alpha)
    most = perfect_guesses(np.size(in_scores) + np.size(out_scores), threshold, alpha=alpha)
    return _bound(settle([mu_from_count(count) for count in counts], threshold), mu_from_count(most), delta)


def one_run_fdp_from_counts(correct: int, guesses: int, canaries: int, *, delta: float, alpha: float) -> EpsilonBound:
    """Return the bound for `correct` right ones of `guesses` about `canaries`, by a rule fixed in advance.

    Arguments and errors as in `one_run_from_counts`; delta must be above 0.
    """
    require_counts("guesses", correct, guesses)
    require_counts("canaries guessed at", guesses, canaries)
    require_delta(delta, positive=True)
    require_rate("alpha", alpha)
    low, most = (mu_from_count(Count(each, guesses, canaries, alpha)) for each in (correct, guesses))
    return _bound(low, most, delta)


def mu_from_count(count: Count) -> float:
    """Return the largest mu for which so many right guesses are less likely than `count.alpha`."""
    return largest_rejected(lambda mu: _impossible(mu, count)) if count.correct else 0.0


def _impossible(mu: float, count: Count) -> bool:
    """Tell whether no mu-GDP training gives so many right guesses with probability alpha.

    A loop over floats: each step needs the last, and the standard library's Phi and Phi^-1 are quicker one at a time
    than numpy's.
    """
    guesses, total = count.guesses, count.guesses / count.canaries
    quantile, erfc = NormalDist().inv_cdf, math.erfc
    right = count.alpha * count.correct / count.canaries
    wrong = count.alpha * (guesses - count.correct) / count.canaries
    for i in range(count.correct - 1, -1, -1):
        more = 0.5 * erfc(_ROOT * (mu - quantile(right)))
        if more > wrong:
            right += i / (guesses - i) * (more - wrong)
            wrong = more
        if right + wrong > total:
            return True
    return False


def _bound(low: float, most: float, delta: float) -> EpsilonBound:
    return EpsilonBound(gdp_epsilon(low, delta=delta), gdp_epsilon(most, delta=delta), "one_run_fdp", ASSUMPTION)
