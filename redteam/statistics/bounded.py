"""An interval for the mean of numbers between 0 and 1, whatever their distribution (Hoeffding, JASA 58, 1963).

Theorem 1 there: of n independent numbers in [0, 1] with mean p, the chance that their average is x or beyond is at most
exp(-n kl(x, p)), kl the relative entropy of two yes-or-no variables. The ends are where that is half of alpha.
"""

import math

from redteam.core.arrays import FloatArray
from redteam.statistics import Interval, require_rate


def mean_interval(numbers: FloatArray, *, alpha: float) -> Interval:
    """Return the mean of `numbers`, shape [n], all from 0 to 1; its interval misses at most `alpha` of the time."""
    require_rate("alpha", alpha)
    count, mean = len(numbers), min(1.0, max(0.0, float(numbers.mean())))
    room = math.log(2 / alpha) / count
    return Interval(mean, _end(mean, 0.0, room), _end(mean, 1.0, room), alpha)


def largest_mean_bound(count: int, *, alpha: float) -> float:
    """Return the low end where all of `count` numbers are 1."""
    return float((alpha / 2) ** (1 / count))


def _end(mean: float, beyond: float, room: float) -> float:
    """Return the number between `mean` and `beyond` whose relative entropy is `room`, by bisection."""
    if mean == beyond:
        return beyond
    inside, outside = mean, beyond
    for _ in range(80):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if _entropy(mean, middle) < room else (inside, middle)
    return outside


def _entropy(x: float, p: float) -> float:
    ends = ((x, p), (1 - x, 1 - p))
    return sum(a * math.log(a / b) if b > 0 else math.inf for a, b in ends if a > 0)
