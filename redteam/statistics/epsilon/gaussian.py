"""Gaussian differential privacy: what a mu-GDP mechanism admits at one delta.

J. Dong, A. Roth, W. Su, "Gaussian differential privacy", JRSS B 84, 2022: a mu-GDP mechanism is (epsilon, delta)-DP
exactly where delta >= Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2).
"""

import math

from scipy import special

from redteam.core import StatisticsError
from redteam.statistics import largest_rejected
from redteam.statistics.epsilon.bound import require_delta


def gdp_epsilon(mu: float, *, delta: float) -> float:
    """Return the smallest epsilon for which every mu-GDP mechanism is (epsilon, delta)-DP.

    0 where mu is so small that delta covers it. Accurate to some 1e-9 relative, from below. Raises StatisticsError
    where mu is negative, infinite or NaN, or delta not within (0, 1): at delta 0 no epsilon is large enough.
    J. Dong, A. Roth, W. Su, "Gaussian differential privacy", JRSS B 84, 2022.

    >>> round(gdp_epsilon(1.0, delta=1e-5), 3)
    4.377
    """
    if not 0.0 <= mu < math.inf:
        raise StatisticsError(f"mu is {mu}; it must be a finite number, at least 0")
    require_delta(delta, positive=True)
    if mu == 0.0:
        return 0.0
    return largest_rejected(lambda epsilon: _log_delta(epsilon, mu) > math.log(delta))


def _log_delta(epsilon: float, mu: float) -> float:
    """Return the log of the smallest delta; in logs, because e^epsilon and Phi leave the range of floats early."""
    kept = float(special.log_ndtr(-epsilon / mu + mu / 2.0))
    taken = epsilon + float(special.log_ndtr(-epsilon / mu - mu / 2.0))
    gap = taken - kept
    return kept + math.log(-math.expm1(gap)) if gap < 0.0 else -math.inf
