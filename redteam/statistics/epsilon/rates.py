"""Epsilon from the two error rates of a membership test: Clopper-Pearson, and the same through a Gaussian.

A mechanism is (epsilon, delta)-DP only if TPR <= e^epsilon FPR + delta and TNR <= e^epsilon FNR + delta for every
test. A lower bound on the TPR and an upper bound on the FPR, each wrong at most alpha / 2 of the time, hold together
with probability 1 - alpha, and as TNR = 1 - FPR and FNR = 1 - TPR the same two serve both rules.

M. Nasr, S. Song, A. Thakurta, N. Papernot, N. Carlini, "Adversary instantiation", S&P 2021; M. Nasr et al., "Tight
auditing of differentially private machine learning", USENIX Security 2023.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import special

from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.epsilon.bound import EpsilonBound, require_counts, require_delta
from redteam.statistics.epsilon.gaussian import gdp_epsilon
from redteam.statistics.ranking import Counts, Floats
from redteam.statistics.thresholds import HALVES, ThresholdStrategy

INDEPENDENT = "the scores are independent of each other, given who was a member"
GAUSSIAN = (
    "the mechanism is Gaussian: its trade-off is that of a Gaussian mechanism of some mu, as that of noisy gradients "
    "is; and the scores are independent of each other, given who was a member"
)


def clopper_pearson(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    *,
    delta: float,
    alpha: float,
    threshold: ThresholdStrategy = HALVES,
) -> EpsilonBound:
    """Return max(ln((TPR - delta) / FPR), ln((TNR - delta) / FNR)) at Clopper-Pearson's ends of the rates.

    `in_scores`, shape (n_in,), of canaries that training had, `out_scores`, shape (n_out,), of those that it had not;
    higher says "in". Wrong at most `alpha` of the time. Raises StatisticsError where scores are missing or not
    finite, delta is not within [0, 1) or alpha not within (0, 1). Nasr et al. 2021, 2023.
    """
    bound = partial(epsilon_from_rates, delta=require_delta(delta))
    low = threshold.lower_bound(in_scores, out_scores, bound, alpha=alpha)
    most = threshold.attainable(np.size(in_scores), np.size(out_scores), bound, alpha=alpha)
    return EpsilonBound(low, most, "clopper_pearson", INDEPENDENT)


def clopper_pearson_from_counts(tp: int, n_in: int, fp: int, n_out: int, *, delta: float, alpha: float) -> EpsilonBound:
    """Return the bound for a threshold fixed in advance that found `tp` of `n_in` and `fp` of `n_out`.

    `tp`, `n_in`, `fp` and `n_out` are numbers of canaries. Wrong at most `alpha` of the time. Raises StatisticsError
    where a part is larger than its whole, or delta or alpha out of range.

    >>> bound = clopper_pearson_from_counts(90, 100, 10, 100, delta=1e-5, alpha=0.05)
    >>> round(bound.low, 2), round(bound.attainable, 2)
    (1.54, 3.28)
    """
    _require(tp, n_in, fp, n_out)
    require_delta(delta)
    low, most = epsilon_from_rates(np.array([tp, n_in]), n_in, np.array([fp, 0]), n_out, alpha, delta=delta)
    return EpsilonBound(float(low), float(most), "clopper_pearson", INDEPENDENT)


def gdp(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    *,
    delta: float,
    alpha: float,
    threshold: ThresholdStrategy = HALVES,
) -> EpsilonBound:
    """Return the epsilon of the least private Gaussian mechanism that the rates rule out.

    The lower bound on mu is Phi^-1(1 - FPR) - Phi^-1(FNR) at Clopper-Pearson's upper ends, turned into an epsilon at
    `delta` > 0. It holds only for a mechanism whose trade-off is Gaussian. Arguments and errors as in
    `clopper_pearson`. Nasr et al. 2023.
    """
    require_delta(delta, positive=True)
    low = threshold.lower_bound(in_scores, out_scores, mu_from_rates, alpha=alpha)
    most = threshold.attainable(np.size(in_scores), np.size(out_scores), mu_from_rates, alpha=alpha)
    return _gaussian(low, most, delta)


def gdp_from_counts(tp: int, n_in: int, fp: int, n_out: int, *, delta: float, alpha: float) -> EpsilonBound:
    """Return the bound for a threshold fixed in advance that found `tp` of `n_in` and `fp` of `n_out`.

    Arguments and errors as in `clopper_pearson_from_counts`; delta must be above 0.
    """
    _require(tp, n_in, fp, n_out)
    require_delta(delta, positive=True)
    low, most = mu_from_rates(np.array([tp, n_in]), n_in, np.array([fp, 0]), n_out, alpha)
    return _gaussian(float(low), float(most), delta)


def epsilon_from_rates(tp: Counts, n_in: int, fp: Counts, n_out: int, alpha: float, *, delta: float) -> Floats:
    """Return lower bounds on epsilon at fixed thresholds, shape of `tp` and `fp`, 0 where nothing is shown.

    At each threshold `tp` of `n_in` canaries that were in and `fp` of `n_out` others score above it. Each bound is
    wrong at most `alpha` of the time by itself, `alpha` / 2 for either rate.
    """
    tpr, fpr = clopper_pearson_low(tp, n_in, alpha / 2), clopper_pearson_high(fp, n_out, alpha / 2)
    found = _log(tpr - delta) - np.log(fpr)  # the upper ends are never 0
    spared = _log(1.0 - fpr - delta) - np.log1p(-tpr)
    return np.maximum(np.maximum(found, spared), 0.0)


def mu_from_rates(tp: Counts, n_in: int, fp: Counts, n_out: int, alpha: float) -> Floats:
    """Return lower bounds on the mu of a Gaussian mechanism, shape of `tp` and `fp`, 0 where nothing is shown.

    Arguments and error as in `epsilon_from_rates`.
    """
    tpr, fpr = clopper_pearson_low(tp, n_in, alpha / 2), clopper_pearson_high(fp, n_out, alpha / 2)
    shown = (tpr > 0.0) & (fpr < 1.0)
    mu = special.ndtri(np.where(shown, tpr, 0.5)) - special.ndtri(np.where(shown, fpr, 0.5))
    return np.maximum(np.where(shown, mu, 0.0), 0.0)


def _gaussian(low: float, most: float, delta: float) -> EpsilonBound:
    return EpsilonBound(gdp_epsilon(low, delta=delta), gdp_epsilon(most, delta=delta), "gdp", GAUSSIAN)


def _log(values: Floats) -> Floats:
    return np.log(values, out=np.full_like(values, -np.inf), where=values > 0.0)


def _require(tp: int, n_in: int, fp: int, n_out: int) -> None:
    require_counts("members found", tp, n_in)
    require_counts("non-members found", fp, n_out)
