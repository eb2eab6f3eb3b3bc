"""Epsilon by Bayes: an estimate with a credible low end, no bound (S. Zanella-Béguelin et al., "Bayesian estimation
of differential privacy", ICML 2023).

With Jeffreys' prior, FNR and FPR are a posteriori independent Beta(1/2 + k, 1/2 + n - k). The low end is the epsilon
below which their privacy region lies with probability alpha. That holds on average over the prior and not for each
mechanism, and it takes guesses within one training for independent: report it beside a bound, never instead of one.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from redteam.statistics import largest_rejected, require_rate
from redteam.statistics.epsilon.bound import EpsilonBound, require_counts, require_delta
from redteam.statistics.epsilon.rates import epsilon_from_rates
from redteam.statistics.ranking import Counts, Floats
from redteam.statistics.thresholds import HALVES, ThresholdStrategy

ESTIMATE = (
    "an estimate, no bound: credible under Jeffreys' prior for the two error rates, and the scores are independent of "
    "each other, given who was a member"
)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PIECES = np.concatenate([np.geomspace(1e-9, 0.5, 28)[:-1], 1.0 - np.geomspace(0.5, 1e-9, 28)])


def bayesian(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    *,
    delta: float,
    alpha: float,
    threshold: ThresholdStrategy = HALVES,
) -> EpsilonBound:
    """Return the epsilon that is exceeded with posterior probability 1 - alpha: an estimate.

    Arguments and errors as in `clopper_pearson`. Zanella-Béguelin et al. 2023.
    """
    require_delta(delta)

    def low(tp: Counts, n_in: int, fp: Counts, n_out: int, alpha: float) -> Floats:
        # Only where Clopper-Pearson promises most: the integral for each of hundreds of thresholds takes too long.
        best = int(np.argmax(epsilon_from_rates(tp, n_in, fp, n_out, alpha, delta=delta)))
        found = np.zeros(np.shape(tp))
        found[best] = credible_low(int(tp[best]), n_in, int(fp[best]), n_out, delta=delta, alpha=alpha)
        return found

    shown = threshold.lower_bound(in_scores, out_scores, low, alpha=alpha)
    most = threshold.attainable(np.size(in_scores), np.size(out_scores), low, alpha=alpha)
    return EpsilonBound(shown, most, "bayesian", ESTIMATE)


def bayesian_from_counts(tp: int, n_in: int, fp: int, n_out: int, *, delta: float, alpha: float) -> EpsilonBound:
    """Return the estimate for a threshold fixed in advance that found `tp` of `n_in` and `fp` of `n_out`.

    Arguments and errors as in `clopper_pearson_from_counts`.
    """
    require_counts("members found", tp, n_in)
    require_counts("non-members found", fp, n_out)
    require_delta(delta)
    require_rate("alpha", alpha)
    shown, most = (
        credible_low(*counts, delta=delta, alpha=alpha) for counts in ((tp, n_in, fp, n_out), (n_in, n_in, 0, n_out))
    )
    return EpsilonBound(shown, most, "bayesian", ESTIMATE)


def credible_low(tp: int, n_in: int, fp: int, n_out: int, *, delta: float, alpha: float) -> float:
    """Return the epsilon whose privacy region holds the two rates with posterior probability `alpha`.

    The rates have Jeffreys' priors: the posterior of the true-positive rate is Beta(1/2 + `tp`, 1/2 + `n_in` - `tp`).
    """
    share, weights = _quantiles()
    fnr = special.betaincinv(0.5 + n_in - tp, 0.5 + tp, share)

    def inside(epsilon: float) -> float:
        lowest, highest = privacy_region(fnr, epsilon, delta)
        a, b = 0.5 + fp, 0.5 + n_out - fp
        return float(weights @ (special.betainc(a, b, highest) - special.betainc(a, b, lowest)))

    return largest_rejected(lambda epsilon: inside(epsilon) < alpha)


def privacy_region(fnr: Floats, epsilon: float, delta: float) -> tuple[Floats, Floats]:
    """Return the lowest and the highest FPR that (epsilon, delta)-DP allows beside each FNR."""
    grown, shrunk = math.exp(epsilon), math.exp(-epsilon)
    lowest = np.maximum(1.0 - delta - grown * fnr, shrunk * (1.0 - delta - fnr))
    highest = np.minimum(1.0 - shrunk * (fnr - delta), delta + grown * (1.0 - fnr))
    return np.clip(lowest, 0.0, 1.0), np.clip(highest, 0.0, 1.0)


def _quantiles() -> tuple[Floats, Floats]:
    """Return nodes and weights on (0, 1), dense at both ends, where small levels are decided."""
    edges = np.concatenate([[0.0], _PIECES, [1.0]])
    half = np.diff(edges)[:, None] / 2.0
    nodes = edges[:-1, None] + half * (1.0 + _NODES)
    return nodes.ravel(), (half * _WEIGHTS).ravel()
