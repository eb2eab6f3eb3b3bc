"""Epsilon bounds: published values, naive twins, what is refused, attainable bounds, ties, speed at size."""

import math

import epsilon_naive as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redteam.core import StatisticsError
from redteam.statistics import epsilon as eps
from redteam.statistics.epsilon.guessing import Count
from redteam.statistics.epsilon.one_run import p_value
from redteam.statistics.thresholds import Bonferroni, Explicit, MultiSplit, SingleSplit

ERROR = {"delta": 1e-5, "alpha": 0.05}
FROM_SCORES = (eps.clopper_pearson, eps.gdp, eps.bayesian, eps.one_run, eps.one_run_fdp)
FROM_RATES = (eps.clopper_pearson_from_counts, eps.gdp_from_counts, eps.bayesian_from_counts)
FROM_GUESSES = (eps.one_run_from_counts, eps.one_run_fdp_from_counts)


def normal(mu, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(mu, 1, n // 2), rng.normal(0, 1, n // 2)


# Published values


@pytest.mark.parametrize(
    ("mu", "expected"),
    [(0.25, 0.926), (0.5, 1.993), (1, 4.377), (1.5, 7.051), (2, 9.997), (3, 16.68), (4, 24.38)],
)
def test_mu_to_epsilon(mu, expected):
    assert eps.gdp_epsilon(mu, delta=1e-5) == pytest.approx(expected, abs=0.0051 if mu >= 3 else 0.00051)


@pytest.mark.parametrize(
    ("tp", "fp", "bound", "gaussian"), [(500, 0, 4.846, 13.89), (500, 10, 3.242, 10.07), (950, 50, 2.660, 16.83)]
)
def test_a_thousand_of_either(tp, fp, bound, gaussian):
    assert eps.clopper_pearson_from_counts(tp, 1000, fp, 1000, **ERROR).low == pytest.approx(bound, abs=6e-4)
    assert eps.gdp_from_counts(tp, 1000, fp, 1000, **ERROR).low == pytest.approx(gaussian, abs=6e-3)


def test_complete_separation_of_a_thousand_is_attainable():
    found = eps.clopper_pearson_from_counts(1000, 1000, 0, 1000, **ERROR)
    assert found.low == found.attainable == pytest.approx(5.601, abs=6e-4)


@pytest.mark.parametrize(
    ("counts", "delta", "expected"), [((75, 100, 1000), 1e-4, 0.67298), ((1439, 1510, 100_000), 1e-5, 2.67585)]
)
def test_one_run_as_published(counts, delta, expected):
    assert eps.one_run_from_counts(*counts, delta=delta, alpha=0.05).low == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("r", "most"), [(10, 1.05), (30, 2.25), (50, 2.79), (100, 3.49), (500, 5.11), (5000, 7.42)])
def test_one_run_of_perfect_guesses(r, most):
    found = eps.one_run_from_counts(r, r, r, delta=0, alpha=0.05)
    q = 0.05 ** (1 / r)
    assert found.low == found.attainable == pytest.approx(math.log(q / (1 - q)), rel=1e-6)
    assert found.low == pytest.approx(most, abs=0.0055)


@pytest.mark.parametrize(
    ("counts", "delta", "mu"),
    [
        ((75, 100, 1000), 1e-4, 0.265),
        ((95, 100, 1000), 1e-5, 0.785),
        ((600, 1000, 1000), 1e-5, 0.160),
        ((400, 500, 5000), 1e-5, 0.425),
    ],
)
def test_one_run_fdp_is_within_a_step_of_the_published_grid(counts, delta, mu):
    found = eps.one_run_fdp_from_counts(*counts, delta=delta, alpha=0.05).low
    assert eps.gdp_epsilon(mu, delta=delta) <= found < eps.gdp_epsilon(mu + 0.005, delta=delta)


# Naive twins

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
LEVELS = st.sampled_from([0.2, 0.05, 0.001])
DELTAS = st.sampled_from([1e-9, 1e-5, 1e-2, 0.3])


@settings(max_examples=200, deadline=None)
@given(COUNTS, COUNTS, DELTAS, LEVELS)
def test_rates_equal_their_formulas(inside, outside, delta, alpha):
    counts = (*inside, *outside)
    found = eps.clopper_pearson_from_counts(*counts, delta=delta, alpha=alpha)
    assert found.low == pytest.approx(naive.clopper_pearson(*counts, delta, alpha), abs=1e-9)
    found = eps.gdp_from_counts(*counts, delta=delta, alpha=alpha)
    assert found.low == pytest.approx(naive.gdp(*counts, delta, alpha), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([0.0, 1e-6, 1e-3, 0.1]), LEVELS)
def test_one_run_equals_its_formula(data, delta, alpha):
    canaries = data.draw(st.integers(1, 80))
    guesses = data.draw(st.integers(1, canaries))
    correct = data.draw(st.integers(1, guesses))
    found = eps.one_run_from_counts(correct, guesses, canaries, delta=delta, alpha=alpha).low
    assert found == pytest.approx(naive.one_run(correct, guesses, canaries, delta, alpha), abs=1e-6)


@pytest.mark.parametrize("counts", [(9, 10, 20), (30, 40, 200), (60, 60, 60), (3, 3, 90), (55, 100, 100), (1, 1, 1)])
@pytest.mark.parametrize("alpha", [0.2, 0.01])
def test_one_run_fdp_equals_its_recursion(counts, alpha):
    found = eps.one_run_fdp_from_counts(*counts, delta=1e-5, alpha=alpha).low
    mu = naive.one_run_fdp_mu(*counts, alpha, 0.01)
    assert eps.gdp_epsilon(mu, delta=1e-5) <= found <= eps.gdp_epsilon(mu + 0.01, delta=1e-5)


@pytest.mark.parametrize(
    "counts", [(30, 40, 5, 40), (500, 1000, 10, 1000), (900, 1000, 0, 1000), (0, 9, 0, 9), (9, 9, 0, 9)]
)
@pytest.mark.parametrize("alpha", [0.05, 0.002])
def test_the_credible_end_leaves_alpha_below(counts, alpha):
    low = eps.bayesian_from_counts(*counts, delta=1e-5, alpha=alpha).low
    below = naive.posterior_below(*counts, 1e-5, low)
    assert below == pytest.approx(alpha, rel=0.01) or (low == 0 and below > alpha)


def test_the_p_value_of_one_run_rises_with_epsilon():
    """Else the hypotheses that are rejected would not be those below the bound."""
    for v, r, m, delta in ((75, 100, 1000, 1e-4), (1439, 1510, 10**5, 1e-5), (50, 50, 5000, 1e-5), (5, 5, 5, 0.1)):
        values = [p_value(x, Count(v, r, m, 0.05), delta=delta) for x in np.linspace(0, 8, 300)]
        assert np.all(np.diff(values) >= -1e-12)


# Extremes


@pytest.mark.parametrize("n", [1, 2, 10, 3000])
@pytest.mark.parametrize("delta", [1e-12, 0.5, 0.999])
def test_no_count_gives_nan_or_less_than_nothing(n, delta):
    for tp, fp in ((0, 0), (0, n), (n, 0), (n, n)):
        for bound in FROM_RATES:
            found = bound(tp, n, fp, n, delta=delta, alpha=0.05)
            assert 0 <= found.low <= found.attainable < math.inf
        for bound in FROM_GUESSES:
            found = bound(tp, n, n, delta=delta, alpha=0.05)
            assert 0 <= found.low <= found.attainable < math.inf


@pytest.mark.parametrize("bound", FROM_RATES)
def test_a_million_of_either_at_the_extremes(bound):
    n = 10**6
    for tp, fp in ((0, 0), (0, n), (n, 0), (n, n), (1, 0)):
        found = bound(tp, n, fp, n, **ERROR)
        assert 0 <= found.low <= found.attainable < math.inf


@pytest.mark.parametrize("mu", [1e-300, 1e-9, 1e-4, 30.0, 1e4])
def test_a_gaussian_of_any_width_has_an_epsilon(mu):
    found = eps.gdp_epsilon(mu, delta=1e-5)
    assert 0 <= found < math.inf
    assert found >= (mu * mu / 2 if mu > 10 else 0)


@pytest.mark.parametrize("bound", [eps.clopper_pearson, eps.bayesian, eps.one_run])
def test_delta_may_be_zero_but_not_for_a_gaussian(bound):
    assert bound(*normal(3, 400), delta=0, alpha=0.05).low > 1
    for gaussian in (eps.gdp, eps.one_run_fdp):
        with pytest.raises(StatisticsError, match="delta is 0, where every Gaussian mechanism has infinite epsilon"):
            gaussian(*normal(3, 400), delta=0.0, alpha=0.05)


@pytest.mark.parametrize("bound", FROM_SCORES)
def test_what_is_refused(bound):
    inside, outside = normal(1, 20)
    for delta in (1.0, 2.0, -1e-9, math.nan):
        with pytest.raises(StatisticsError, match="delta is"):
            bound(inside, outside, delta=delta, alpha=0.05)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(StatisticsError, match="alpha is"):
            bound(inside, outside, delta=1e-5, alpha=alpha)
    for bad in (np.array([]), np.array([math.nan, 1.0]), np.array([math.inf, 1.0])):
        with pytest.raises(StatisticsError, match="_scores"):
            bound(bad, outside, **ERROR)
        with pytest.raises(StatisticsError, match="_scores"):
            bound(inside, bad, **ERROR)


@pytest.mark.parametrize("bound", FROM_RATES)
@pytest.mark.parametrize("counts", [(5, 4, 0, 4), (-1, 4, 0, 4), (0, 0, 0, 4), (1, 4, 5, 4), (1.5, 4, 0, 4)])
def test_rates_that_are_no_counts(bound, counts):
    with pytest.raises(StatisticsError, match="is no count"):
        bound(*counts, **ERROR)


@pytest.mark.parametrize("bound", FROM_GUESSES)
@pytest.mark.parametrize("counts", [(5, 4, 4), (1, 5, 4), (0, 0, 4), (-1, 4, 4)])
def test_guesses_that_are_no_counts(bound, counts):
    with pytest.raises(StatisticsError, match="is no count"):
        bound(*counts, **ERROR)


# Rules and attainable bounds


@pytest.mark.parametrize("bound", FROM_SCORES)
@pytest.mark.parametrize(
    "rule", [Explicit(0.5), SingleSplit(3), SingleSplit(0, 0.2), MultiSplit(0, 5), Bonferroni((0.5, 2.0))]
)
def test_perfect_separation_reaches_what_is_attainable_and_nothing_passes_it(bound, rule):
    reached = bound(np.full(60, 1.0), np.zeros(50), **ERROR, threshold=rule)
    # How many of the judged canaries were in is left to chance, how many are guessed "in" is not: a few are wrong.
    by_chance = bound in FROM_SCORES[3:] and isinstance(rule, SingleSplit | MultiSplit)
    assert reached.low >= (reached.attainable / 3 if by_chance else reached.attainable * (1 - 1e-9))
    for seed in range(5):
        inside, outside = normal(4.0, 110, seed)
        found = bound(inside, outside, **ERROR, threshold=rule)
        assert found.low <= found.attainable


def test_the_attainable_bound_of_ranks_counts_the_non_member_that_is_the_threshold():
    inside, outside = np.arange(100.0, 200.0), np.arange(100.0)
    for rule in (Bonferroni(1), Bonferroni(7), Bonferroni(1000)):
        found = eps.clopper_pearson(inside, outside, **ERROR, threshold=rule)
        assert found.low == pytest.approx(found.attainable)


@pytest.mark.parametrize("bound", [eps.one_run, eps.one_run_fdp])
def test_one_run_refuses_a_choice_that_knows_who_was_included(bound):
    with pytest.raises(StatisticsError, match="do not depend on who was included"):
        bound(*normal(1, 40), **ERROR, threshold=Bonferroni(10))
    with pytest.raises(StatisticsError, match="guess fewer"):
        bound(*normal(1, 40), **ERROR, threshold=eps.Guesses(30, 11))
    with pytest.raises(StatisticsError, match="at least one guess"):
        eps.Guesses(0, 0)


@pytest.mark.parametrize("bound", [eps.one_run, eps.one_run_fdp])
@pytest.mark.parametrize("rule", [SingleSplit(0), SingleSplit(0, 0.2), MultiSplit(0, 5)])
def test_one_run_finds_by_itself_which_end_says_in(bound, rule):
    inside, outside = normal(3.0, 4000)
    upright = bound(inside, outside, **ERROR, threshold=rule)
    turned = bound(-inside, -outside, **ERROR, threshold=rule)
    assert turned.low > 3
    assert turned.low == pytest.approx(upright.low, rel=0.2)
    assert turned.attainable == upright.attainable
    fixed = eps.Guesses(500, 500)  # fixed in advance is fixed, the direction too
    assert bound(-inside, -outside, **ERROR, threshold=fixed).low == 0


@pytest.mark.parametrize("bound", [eps.one_run, eps.one_run_fdp])
@pytest.mark.parametrize("rule", [SingleSplit(0), eps.Guesses(200, 0), eps.Guesses(100, 100)])
def test_equal_scores_show_nothing(bound, rule):
    """An order of ties that knew the membership would call all of them rightly."""
    assert bound(np.zeros(500), np.zeros(500), **ERROR, threshold=rule).low < 0.3


def test_guesses_fixed_in_advance_are_counted_as_stated():
    inside, outside = np.array([9.0, 8, 7, 1]), np.array([10.0, 2, 0, -1])
    found = eps.one_run(inside, outside, delta=1e-3, alpha=0.2, threshold=eps.Guesses(3, 2))
    assert found == eps.one_run_from_counts(4, 5, 8, delta=1e-3, alpha=0.2)


def test_a_low_bound_is_no_bound_without_its_order():
    for low, most in ((math.nan, 1.0), (-0.1, 1.0), (2.0, 1.0)):
        with pytest.raises(StatisticsError, match="epsilon bound"):
            eps.EpsilonBound(low, most, "m", "a")


def test_every_method_says_what_it_assumes():
    said = {bound.__name__: bound(*normal(1, 40), **ERROR).assumption for bound in FROM_SCORES}
    assert "Gaussian" in said["gdp"]
    assert "Gaussian" in said["one_run_fdp"]
    assert "an estimate, no bound" in said["bayesian"]
    assert "independent" in said["clopper_pearson"]
    assert "probability 1/2" in said["one_run"]


# Thinning


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_thinning_leaves_fair_inclusion(p):
    is_member = np.random.default_rng(1).random(200_000) < p
    kept = eps.fair_inclusion(is_member, inclusion=p, seed=0)
    error = 0.5 / math.sqrt(kept.sum())
    assert abs(is_member[kept].mean() - 0.5) < 4 * error
    assert abs(kept.mean() - 2 * min(p, 1 - p)) < 0.01
    assert kept.all() == (p == 0.5)


def test_thinning_draws_other_lots_for_another_inclusion():
    first, second = (np.random.default_rng(seed).random(2000) < 0.2 for seed in (1, 2))
    kept = [eps.fair_inclusion(each, inclusion=0.2, seed=0)[~first & ~second] for each in (first, second)]
    assert 0.25 < np.mean(kept[0] != kept[1]) < 0.5  # 2 * 1/4 * 3/4 where they are independent


def test_thinning_refuses_what_is_no_probability():
    for p in (0.0, 1.0, math.nan):
        with pytest.raises(StatisticsError, match="inclusion is"):
            eps.fair_inclusion([True, False], inclusion=p, seed=0)
    with pytest.raises(StatisticsError, match="give booleans"):
        eps.fair_inclusion([0.5], inclusion=0.5, seed=0)


# Power and speed


@pytest.mark.parametrize("seed", range(3))
def test_a_million_scores_of_a_gaussian(seed):
    """mu = 1 at delta 1e-5 is epsilon 4.377."""
    inside, outside = normal(1.0, 10**6, seed)
    counted = eps.clopper_pearson(inside, outside, **ERROR).low
    gaussian = eps.gdp(inside, outside, **ERROR).low
    assert 0.6 * 4.377 < counted < 4.377
    assert 0.9 * 4.377 < gaussian < 4.377


@pytest.mark.parametrize("bound", FROM_SCORES)
def test_a_hundred_thousand_canaries(bound):
    found = bound(*normal(2.0, 10**5), **ERROR)
    assert 3 < found.low < eps.gdp_epsilon(2.0, delta=1e-5)


def test_the_gaussian_bounds_see_more_of_a_gaussian():
    scores = normal(1.0, 10_000)
    assert eps.gdp(*scores, **ERROR).low > eps.clopper_pearson(*scores, **ERROR).low
    assert eps.one_run_fdp(*scores, **ERROR).low > eps.one_run(*scores, **ERROR).low > 1
