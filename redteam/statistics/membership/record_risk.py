"""Which rows an attacker tells best, from reference models: what training on a row does to the model's answer on it.

It is a property of the recipe and the data, not of one model: how well one could tell models that were trained on the
row from models that were not. No membership of the target is used.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray
from redteam.statistics import require_rate
from redteam.statistics.membership.likelihood import moderated
from redteam.statistics.membership.moments import Moments


@dataclass(frozen=True)
class RiskPerRow:
    """For each row the AUC of telling models with it from models without it, and its interval, shape [n] each.

    `expected` is the AUC drawn to that of a typical row, as far as the references cannot tell rows apart: rows are
    ranked by it. `low` and `high` are of the row alone, each wrong with probability alpha / 2 at the most.
    """

    expected: FloatArray
    low: FloatArray
    high: FloatArray


def record_risk(found: Moments, *, alpha: float) -> RiskPerRow:
    """Return the risk of each row from the moments of reference models, which need two on either side of every row.

    Log-odds in and out are taken for normal with one variance a row, drawn to that of all (`moderated_t`); the gap
    between them has a t interval, and an AUC of Phi(gap / (deviation x sqrt 2)). The gaps of rows are drawn to their
    mean by empirical Bayes, and turned round where training on rows makes models less sure of them on the whole. Raises
    StatisticsError where a row has fewer references on a side.
    """
    require_rate("alpha", alpha)
    if min(found.n_in.min(), found.n_out.min()) < 2:
        raise StatisticsError("a row has fewer than two reference models on one side: take at least 4, in pairs")
    freedom, variance = moderated(found)
    deviation = np.sqrt(variance)
    error = deviation * np.sqrt(1 / found.n_in + 1 / found.n_out)
    reach = t.ppf(1 - alpha / 2, freedom) * error
    gaps = found.gap * found.direction
    between = max(float(gaps.var() - np.square(error).mean()), 0.0)
    drawn = gaps.mean() + (gaps - gaps.mean()) * between / (between + np.square(error))

    def area(gap: FloatArray) -> FloatArray:
        made: FloatArray = norm.cdf(gap / (deviation * np.sqrt(2)))
        return made

    return RiskPerRow(area(drawn), area(gaps - reach), area(gaps + reach))
