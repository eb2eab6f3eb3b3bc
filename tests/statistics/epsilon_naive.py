"""The same bounds straight from their formulas: scipy's distributions, plain loops, a grid or a root finder."""

import itertools
import math

import numpy as np
from scipy import integrate, optimize, stats


def clopper_pearson(tp, n_in, fp, n_out, delta, alpha):
    fnr = 1.0 if tp == 0 else stats.beta.ppf(1 - alpha / 2, n_in - tp + 1, tp)
    fpr = 1.0 if fp == n_out else stats.beta.ppf(1 - alpha / 2, fp + 1, n_out - fp)
    best = 0.0
    for right, wrong in ((1 - fnr - delta, fpr), (1 - fpr - delta, fnr)):
        if right > 0:
            best = max(best, math.log(right / wrong))
    return best


def gdp_epsilon(mu, delta):
    def excess(epsilon):
        kept, taken = stats.norm.cdf(-epsilon / mu + mu / 2), stats.norm.cdf(-epsilon / mu - mu / 2)
        return kept - math.exp(epsilon) * taken - delta

    return 0.0 if excess(0.0) <= 0 else optimize.brentq(excess, 0, 60)


def gdp(tp, n_in, fp, n_out, delta, alpha):
    fnr = 1.0 if tp == 0 else stats.beta.ppf(1 - alpha / 2, n_in - tp + 1, tp)
    fpr = 1.0 if fp == n_out else stats.beta.ppf(1 - alpha / 2, fp + 1, n_out - fp)
    mu = stats.norm.isf(fpr) - stats.norm.ppf(fnr)
    return gdp_epsilon(mu, delta) if mu > 0 else 0.0


def one_run(correct, guesses, canaries, delta, alpha):
    def p_value(epsilon):
        bin_ = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
        beta = bin_.sf(correct - 1)
        worst = max((bin_.cdf(correct - 1) - bin_.cdf(correct - i - 1)) / i for i in range(1, correct + 1))
        return beta + worst * 2 * canaries * delta

    return 0.0 if p_value(0) >= alpha else optimize.brentq(lambda e: p_value(e) - alpha, 0, 30)


def one_run_fdp_mu(correct, guesses, canaries, alpha, step):
    """Walk mu up a grid with arrays, as the paper writes it."""

    def rejected(mu):
        r, h = np.zeros(correct + 1), np.zeros(correct + 1)
        r[correct], h[correct] = alpha * correct / canaries, alpha * (guesses - correct) / canaries
        for i in range(correct - 1, -1, -1):
            h[i] = max(h[i + 1], stats.norm.cdf(stats.norm.ppf(min(r[i + 1], 1.0)) - mu))
            r[i] = r[i + 1] + i / (guesses - i) * (h[i] - h[i + 1])
        return r[0] + h[0] > guesses / canaries

    mu = 0.0
    while rejected(mu + step):
        mu += step
    return mu


def posterior_below(tp, n_in, fp, n_out, delta, epsilon):
    """Return the posterior probability that both rates lie in the region of (epsilon, delta)."""
    fnr, fpr = stats.beta(0.5 + n_in - tp, 0.5 + tp), stats.beta(0.5 + fp, 0.5 + n_out - fp)

    def column(x):
        grown, shrunk = math.exp(epsilon), math.exp(-epsilon)
        low = max(0.0, 1 - delta - grown * x, shrunk * (1 - delta - x))
        high = min(1.0, 1 + (delta - x) * shrunk, delta + (1 - x) * grown)
        return fnr.pdf(x) * max(0.0, fpr.cdf(high) - fpr.cdf(low))

    cuts = fnr.ppf([1e-12, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999, 1 - 1e-12])
    return sum(integrate.quad(column, a, b, limit=200)[0] for a, b in itertools.pairwise(cuts))
