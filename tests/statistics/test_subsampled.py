"""The bound by the noise that is ruled out, and rules planned before any score: naive twins, and coverage."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from redteam.core import StatisticsError
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.epsilon import Sampled, gdp_epsilon, plan, planned_bounds, subsampled_from_counts
from redteam.statistics.epsilon.planned import counts_at_rank
from redteam.statistics.epsilon.subsampled import least_epsilon, most_found

DELTA, ALPHA = 1e-5, 0.05


def naive_roc(noise, rate, steps, fpr):
    """The best TPR at an FPR, from the losses of single steps convolved one by one on a coarse grid."""
    x = np.arange(-8 * noise, 1 + 8 * noise, 0.004)
    loss = np.log(1 - rate + rate * np.exp((x - 0.5) / noise**2)) if rate < 1 else (x - 0.5) / noise**2
    out = np.exp(-(x**2) / (2 * noise**2))
    inside = (1 - rate) * out + rate * np.exp(-((x - 1) ** 2) / (2 * noise**2))
    cells = np.round(loss / 0.002).astype(int)
    sides = []
    for mass in (inside / inside.sum(), out / out.sum()):
        one = np.bincount(cells - cells.min(), mass)
        whole = one
        for _ in range(steps - 1):
            whole = np.convolve(whole, one)
        sides.append(np.cumsum(whole[::-1]))
    return float(np.interp(fpr, sides[1], sides[0]))


def naive_delta(noise, rate, epsilon, *, draws=400_000):
    """The delta of one step, by numerical integration."""
    x = np.linspace(-12 * noise, 1 + 12 * noise, draws)
    out = np.exp(-(x**2) / (2 * noise**2))
    inside = (1 - rate) * out + rate * np.exp(-((x - 1) ** 2) / (2 * noise**2))
    return float(np.maximum(inside - np.exp(epsilon) * out, 0).sum() * (x[1] - x[0]) / (noise * np.sqrt(2 * np.pi)))


@pytest.mark.parametrize(("noise", "rate", "steps"), [(0.7, 0.2, 3), (1.5, 0.05, 4), (2.0, 1.0, 3)])
def test_what_a_test_can_find_is_what_convolution_says_and_never_less(noise, rate, steps):
    for fpr in (0.001, 0.02, 0.3):
        found, naive = most_found(noise, fpr, Sampled(rate, steps)), naive_roc(noise, rate, steps, fpr)
        assert naive - 0.002 <= found <= naive + 0.01


@pytest.mark.parametrize("steps", [1, 7, 400])
def test_steps_on_everything_are_one_gaussian(steps):
    mu, sampled = np.sqrt(steps) / 9.0, Sampled(1.0, steps)
    for fpr in (0.01, 0.2):
        exact = ndtr(mu + ndtri(fpr))
        assert exact <= most_found(9.0, fpr, sampled) <= exact + 0.005
    exact = gdp_epsilon(mu, delta=DELTA)
    assert 0.99 * exact - 1e-3 <= least_epsilon(9.0, sampled, delta=DELTA) <= exact


def test_epsilon_of_one_step_is_never_more_than_integration_says():
    low = least_epsilon(0.6, Sampled(0.1, 1), delta=DELTA)
    assert naive_delta(0.6, 0.1, low) >= DELTA
    assert naive_delta(0.6, 0.1, 1.01 * low) < DELTA


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.114, 88), (0.8, 0.02, 300), (4.0, 0.5, 20)])
def test_epsilon_is_at_most_what_the_accountant_says_and_nearly_that(noise, rate, steps):
    from defenses.accounting import Phase, Release, spent

    accounted = spent([Release((Phase(noise, steps),), "poisson", rate)], delta=DELTA)
    assert 0.98 * accounted <= least_epsilon(noise, Sampled(rate, steps), delta=DELTA) <= accounted


def test_more_noise_finds_less_and_spends_less():
    sampled = Sampled(0.1, 50)
    noises = (0.3, 0.6, 1.0, 2.0, 5.0)
    for values in (
        [most_found(s, 0.05, sampled) for s in noises],
        [least_epsilon(s, sampled, delta=DELTA) for s in noises],
    ):
        assert values == sorted(values, reverse=True)


def test_the_bound_is_wrong_no_more_often_than_alpha():
    """Of 4,000 audits of the worst mechanism there is; the bound exceeds epsilon where the true noise is ruled out."""
    rng, noise, sampled, n = np.random.default_rng(1), 1.0, Sampled(0.2, 30), 500
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 0.3, 40)])
    roc = np.array([most_found(noise, fpr, sampled) for fpr in grid])
    for fp in (3, 50):
        fpr = rng.beta(fp, n - fp + 1, size=4000)  # of the threshold at that rank
        tp = rng.binomial(n, np.interp(fpr, grid, roc))
        most = most_found(noise, float(clopper_pearson_high(fp, n, ALPHA / 2)), sampled)
        wrong = int((clopper_pearson_low(tp, n, ALPHA / 2) > most).sum())
        assert binomtest(wrong, 4000, ALPHA, alternative="greater").pvalue > 0.001


def test_a_bound_exceeds_epsilon_only_where_the_noise_is_ruled_out():
    sampled, noise, found = Sampled(0.2, 30), 1.0, (20, 150, 420)
    epsilon = least_epsilon(noise, sampled, delta=DELTA)
    most = most_found(noise, float(clopper_pearson_high(20, 500, ALPHA / 2)), sampled)
    usual = {"sampled": sampled, "delta": DELTA, "alpha": ALPHA}
    shown = [subsampled_from_counts(tp, 500, 20, 500, **usual).low for tp in found]
    ruled_out = [float(clopper_pearson_low(tp, 500, ALPHA / 2)) > most for tp in found]
    assert shown[0] == 0.0 < shown[1] < shown[2]
    assert [low > 1.01 * epsilon for low in shown] == ruled_out == [False, False, True]


@pytest.mark.parametrize(("rate", "steps"), [(0.0, 5), (1.1, 5), (float("nan"), 5), (0.5, 0), (0.5, 2.5), (0.5, 10**7)])
def test_sampling_that_is_none_is_refused(rate, steps):
    with pytest.raises(StatisticsError):
        Sampled(rate, steps)


def gaussian_scores(rng, n, mu):
    return rng.normal(mu, 1, n), rng.normal(0, 1, n)


@pytest.mark.parametrize("mu", [0.0, 1.2])
def test_planned_rules_are_wrong_no_more_often_than_alpha(mu):
    """Of 200 audits of a Gaussian mechanism, each by all bounds, planned for another claim."""
    rng, rules = np.random.default_rng(7), plan(600, claim=3.0, delta=DELTA, alpha=ALPHA)
    epsilon = gdp_epsilon(mu, delta=DELTA)
    wrong = dict.fromkeys(("clopper_pearson", "gdp", "one_run"), 0)
    for _ in range(200):
        included = rng.random(600) < 0.5
        scores = rng.normal(mu * included, 1)
        for name, bound in planned_bounds(
            scores[included], scores[~included], rules, delta=DELTA, alpha=ALPHA, only=tuple(wrong)
        ).items():
            wrong[name] += bound.low > epsilon
    assert all(binomtest(k, 200, ALPHA, alternative="greater").pvalue > 0.001 for k in wrong.values()), wrong


def test_planned_rules_show_more_than_halves():
    from redteam.statistics.epsilon import clopper_pearson, gdp

    rng, rules = np.random.default_rng(3), plan(4000, claim=8.0, delta=DELTA, alpha=ALPHA)
    scores = gaussian_scores(rng, 2000, 1.7)
    planned = planned_bounds(*scores, rules, delta=DELTA, alpha=ALPHA, sampled=Sampled(1.0, 10))
    assert planned["gdp"].low > gdp(*scores, delta=DELTA, alpha=ALPHA).low
    assert planned["clopper_pearson"].low > clopper_pearson(*scores, delta=DELTA, alpha=ALPHA).low
    assert planned["subsampled"].low == pytest.approx(planned["gdp"].low, rel=0.02)  # on everything it is one Gaussian
    assert planned["one_run_fdp"].low > planned["one_run"].low > 1
    assert all(bound.low <= bound.attainable for bound in planned.values())


def test_equal_scores_show_nothing():
    rules = plan(1000, claim=8.0, delta=DELTA, alpha=ALPHA)
    found = planned_bounds(np.zeros(500), np.zeros(500), rules, delta=DELTA, alpha=ALPHA, sampled=Sampled(0.1, 10))
    assert all(bound.low < 1 for bound in found.values())


def test_a_rank_counts_what_lies_at_or_above_it():
    assert counts_at_rank([5.0, 3.5, 1.0], [4.0, 3.0, 2.0, 0.0], 0.5) == (2, 3, 2, 4)


def test_too_few_canaries_are_refused():
    with pytest.raises(StatisticsError, match="no bound shows anything of fewer than 20"):
        plan(19, claim=8.0, delta=DELTA, alpha=ALPHA)


def test_a_plan_for_no_claim_and_for_any_is_a_plan():
    for claim in (None, 0.01, 1.0, 1e4):
        assert plan(2000, claim=claim, delta=DELTA, alpha=ALPHA).one_run >= 1


@pytest.mark.parametrize(("canaries", "claim"), [(60, 4.0), (60, 1.0), (40, 2.0), (100, 1.0)])
def test_a_plan_for_too_few_canaries_is_one_by_which_a_broken_training_is_shown(canaries, claim):
    """Where nothing is to be seen of the claim, all rules are equally good by it, and not by what is worse."""
    rules = plan(canaries, claim=claim, delta=DELTA, alpha=ALPHA)
    inside, outside = np.arange(canaries // 2) + 1e6, np.arange(canaries // 2)
    found = planned_bounds(inside, outside, rules, delta=DELTA, alpha=ALPHA, only=("gdp", "one_run"))
    assert found["gdp"].low > claim
    assert found["one_run"].low > 0.5 * min(claim, 2.0)


@pytest.mark.parametrize("claim", [None, 1e3])
@pytest.mark.parametrize("canaries", [200, 2_000])
def test_where_nothing_hides_canaries_a_plan_shows_more_than_of_noise(claim, canaries):
    """Also where more of them were in than out, as random inclusion has it: nobody left out is guessed to be in."""
    shown, noisy = (
        plan(canaries, claim=claim, delta=DELTA, alpha=ALPHA),
        plan(canaries, claim=8, delta=DELTA, alpha=ALPHA),
    )
    extra = int(np.sqrt(canaries))  # 2 deviations
    inside, outside = np.arange(canaries // 2 + extra) + 1e6, np.arange(canaries // 2 - extra)
    how = {"delta": DELTA, "alpha": ALPHA, "only": ("one_run", "clopper_pearson")}
    found, less = planned_bounds(inside, outside, shown, **how), planned_bounds(inside, outside, noisy, **how)
    assert found["one_run"].low == found["one_run"].attainable > less["one_run"].low + 0.5
    assert found["clopper_pearson"].low == found["clopper_pearson"].attainable
