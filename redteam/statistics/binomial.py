"""Exact one-sided bounds on a probability from a count (Clopper and Pearson, Biometrika 26, 1934)."""

import numpy as np
import numpy.typing as npt
from scipy import special

from redteam.core import StatisticsError
from redteam.statistics import require_rate
from redteam.statistics.ranking import Floats


def clopper_pearson_low(k: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Floats:
    """Return lower bounds on p from Binomial(n, p) counts `k`, each wrong at most `alpha` of the time.

    `k` and `n` broadcast; the result has their shape. 0 where k = 0, alpha^(1/n) where k = n. Raises
    StatisticsError where a count is not within 0..n or alpha not between 0 and 1.
    """
    counts, sizes = _counts(k, n, alpha)
    found = counts > 0
    bound = special.betaincinv(np.where(found, counts, 1.0), sizes - counts + 1.0, alpha)
    return np.asarray(np.where(found, bound, 0.0), dtype=np.float64)


def clopper_pearson_high(k: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> Floats:
    """Return upper bounds on p from Binomial(n, p) counts `k`, each wrong at most `alpha` of the time.

    Shapes and errors as in `clopper_pearson_low`. 1 where k = n, 1 - alpha^(1/n) where k = 0.
    """
    counts, sizes = _counts(k, n, alpha)
    return np.asarray(1.0 - clopper_pearson_low(sizes - counts, sizes, alpha), dtype=np.float64)


def _counts(k: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    require_rate("alpha", alpha)
    counts, sizes = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64))
    wrong = ~((counts >= 0) & (counts <= sizes) & (sizes >= 1))  # written so that NaN is wrong too
    if np.any(wrong):
        raise StatisticsError(f"{counts[wrong][0]:g} of {sizes[wrong][0]:g} is no count; 0 <= k <= n, n >= 1")
    return counts, sizes
