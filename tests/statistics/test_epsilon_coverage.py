"""A bound is above a mechanism's epsilon in at most alpha of the runs, however the threshold was chosen."""

import math
from functools import partial

import numpy as np
import pytest
from mechanisms import all_or_nothing, allowed, chain, count_wrong, gaussian, name_and_shame, randomised_response
from scipy.stats import norm

from redteam.statistics import epsilon as eps
from redteam.statistics.thresholds import HALVES, Bonferroni, Explicit, MultiSplit

pytestmark = pytest.mark.slow
ALPHA = 0.1
INDEPENDENT = {
    "response 0.5": randomised_response(0.5),
    "response 3": randomised_response(3.0),
    "response 1, delta 0.01": randomised_response(1.0, 0.01),
    "gaussian 0.3": gaussian(0.3, 1e-3),
    "gaussian 1": gaussian(1.0, 1e-5),
    "all or nothing": all_or_nothing(0.03, 1.0),
}
DEPENDENT = {
    "chain": chain(1.0),
    "long chain": chain(4.0),
    "name and shame": name_and_shame(500, 5),
    "nothing or all": all_or_nothing(0.05),
}
RULES = [HALVES, Explicit(0.5), MultiSplit(0, 5), Bonferroni((0.0, 0.5, 1.5))]


def wrong(mechanism, bound, *, m, runs, rule=HALVES, truth=None, delta=None, **more):
    delta = mechanism.delta if delta is None else delta
    call = partial(bound, delta=delta, alpha=ALPHA, threshold=rule)
    return count_wrong(mechanism, call, m=m, runs=runs, truth=truth, **more)


@pytest.mark.parametrize("m", [100, 1000])
@pytest.mark.parametrize("name", INDEPENDENT)
@pytest.mark.parametrize("bound", [eps.clopper_pearson, eps.one_run])
def test_no_assumption_on_the_mechanism(bound, name, m):
    found = wrong(INDEPENDENT[name], bound, m=m, runs=120)
    assert found <= allowed(ALPHA, 120)


@pytest.mark.parametrize("m", [60, 1000])
@pytest.mark.parametrize("turn", [1.0, -1.0])
@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_the_choice_of_the_direction_costs_nothing(epsilon, turn, m):
    """At epsilon 0 each bound above 0 is wrong, whichever end was called "in"."""
    mechanism = randomised_response(epsilon)

    def bound(inside, outside):
        return eps.one_run(turn * inside, turn * outside, delta=0, alpha=ALPHA)

    assert count_wrong(mechanism, bound, m=m, runs=160) <= allowed(ALPHA, 160)


@pytest.mark.parametrize("rule", [*RULES[1:], eps.Guesses(50, 50), eps.Guesses(60, 0)])
def test_one_run_with_any_rule(rule):
    assert wrong(randomised_response(1.0), eps.one_run, m=300, runs=150, rule=rule) <= allowed(ALPHA, 150)


@pytest.mark.parametrize("rule", [*RULES[1:], Bonferroni(20)])
def test_rates_with_any_rule(rule):
    for bound in (eps.clopper_pearson, eps.gdp):
        assert wrong(gaussian(1.0, 1e-5), bound, m=400, runs=150, rule=rule) <= allowed(ALPHA, 150)


@pytest.mark.parametrize("name", DEPENDENT)
def test_one_run_whatever_the_canaries_do_to_each_other(name):
    assert wrong(DEPENDENT[name], eps.one_run, m=500, runs=150) <= allowed(ALPHA, 150)


def test_the_error_is_used():
    """A bound that were always 0 would pass all of the above."""
    found = wrong(randomised_response(1.0), eps.one_run, m=2000, runs=400, rule=Explicit(0.0))
    assert 0.5 * ALPHA * 400 < found <= allowed(ALPHA, 400)
    found = wrong(randomised_response(1.0), eps.clopper_pearson, m=2000, runs=400, rule=Explicit(0.0))
    assert 0 < found <= allowed(ALPHA, 400)


@pytest.mark.parametrize("mu", [0.3, 2.0])
@pytest.mark.parametrize("m", [100, 1000])
@pytest.mark.parametrize("bound", [eps.gdp, eps.one_run_fdp])
def test_a_gaussian_under_its_own_assumption(bound, mu, m):
    for rule in (HALVES, Explicit(mu / 2)):
        assert wrong(gaussian(mu, 1e-5), bound, m=m, runs=100, rule=rule) <= allowed(ALPHA, 100)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize("bound", [eps.gdp, eps.one_run_fdp])
def test_randomised_response_is_no_worse_than_the_gaussian_that_dominates_it(bound, epsilon):
    mu = 2 * norm.ppf(math.exp(epsilon) / (1 + math.exp(epsilon)))
    truth = eps.gdp_epsilon(mu, delta=1e-5)
    for rule in (HALVES, Explicit(0.0)):
        found = wrong(randomised_response(epsilon), bound, m=600, runs=100, rule=rule, truth=truth, delta=1e-5)
        assert found <= allowed(ALPHA, 100)


def test_unfair_inclusion_breaks_one_run_and_thinning_mends_it():
    mechanism = randomised_response(0.5)
    runs, p, rule = 200, 0.9, eps.Guesses(300, 0)

    def thinned(inside, outside):
        is_member = np.arange(len(inside) + len(outside)) < len(inside)
        kept = eps.fair_inclusion(is_member, inclusion=p, seed=len(inside))
        scores = np.concatenate([inside, outside])
        return eps.one_run(scores[kept & is_member], scores[kept & ~is_member], delta=0, alpha=ALPHA)

    assert wrong(mechanism, eps.one_run, m=2000, runs=runs, rule=rule, fair=p) > 0.9 * runs
    assert count_wrong(mechanism, thinned, m=2000, runs=runs, fair=p) <= allowed(ALPHA, runs)


def test_gaussian_bounds_are_wrong_where_the_mechanism_is_not_gaussian():
    """Why the assumption is printed."""
    for bound in (eps.gdp, eps.one_run_fdp):
        assert wrong(randomised_response(3.0), bound, m=2000, runs=30, delta=1e-5) > 25


def test_the_credible_end_is_calibrated_over_its_prior():
    rng, above, runs, n = np.random.default_rng(0), 0, 100, 50
    for _ in range(runs):
        fnr, fpr = rng.beta(0.5, 0.5, 2)
        tp, fp = rng.binomial(n, 1 - fnr), rng.binomial(n, fpr)
        found = eps.bayesian_from_counts(int(tp), n, int(fp), n, delta=1e-5, alpha=ALPHA)
        above += found.low > _epsilon_of(fnr, fpr, 1e-5)
    assert abs(above - ALPHA * runs) <= allowed(ALPHA, runs) - ALPHA * runs


def _epsilon_of(fnr, fpr, delta):
    pairs = [(1 - delta - fnr, fpr), (1 - delta - fpr, fnr), (fnr - delta, 1 - fpr), (fpr - delta, 1 - fnr)]
    return max(0.0, *(math.log(top / bottom) for top, bottom in pairs if top > 0))
