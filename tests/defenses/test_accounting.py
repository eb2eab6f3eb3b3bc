import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from defenses import accounting, privacy_loss
from defenses.accounting import Phase, Release, calibrate, effective_multiplier, nominal_and_accounted, spent, spent_rdp
from redteam.core import UsageError
from redteam.report.values import Budget, Guarantee

SNIPS = 256 / 13_084


def poisson(sigma, rate, steps):
    return [Release((Phase(sigma, steps),), "poisson", rate)]


def shuffled(sigma, rate, steps, sampling="shuffled"):
    return [Release((Phase(sigma, steps),), sampling, rate)]


def gaussian_delta(epsilon, mu):
    """Balle and Wang (2018): what the Gaussian mechanism loses, exactly."""
    low = stats.norm.logcdf(-epsilon / mu - mu / 2) + epsilon
    return stats.norm.cdf(-epsilon / mu + mu / 2) - math.exp(low)


def gaussian_epsilon(mu, delta):
    return optimize.brentq(lambda e: gaussian_delta(e, mu) - delta, 0, mu * mu + 20 * mu, xtol=1e-10)


def naive_delta(epsilon, sigma, rate):
    """The hockey-stick divergence of one subsampled Gaussian step by direct integration, the worse of both ways."""

    def without(x):
        return stats.norm.pdf(x, 0, sigma)

    def having(x):
        return (1 - rate) * stats.norm.pdf(x, 0, sigma) + rate * stats.norm.pdf(x, 1, sigma)

    def divergence(p, q):
        x = np.linspace(-40 * sigma, 1 + 40 * sigma, 40_001)
        return integrate.trapezoid(np.maximum(p(x) - math.exp(epsilon) * q(x), 0), x)

    return max(divergence(having, without), divergence(without, having))


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta", "pld", "rdp"),
    [
        (1.0, SNIPS, 1022, 1e-5, 3.85, 4.27),
        (0.5, SNIPS, 1022, 1e-5, 24.1, 27.05),  # the same, accounted for micro-batches
        (0.7, SNIPS, 1022, 1e-5, None, 10.37),
        (1.5, SNIPS, 1022, 1e-5, None, 2.13),
        (0.75, SNIPS, 1022, 1e-5, None, 8.41),
        (2.0, SNIPS, 1022, 1e-5, None, 1.44),
        (0.7, 1024 / 67_349, 197, 1e-5, 3.765, None),
        (1.1, 0.02, 3000, 1e-5, 5.877, None),
        (0.45, 0.01, 1000, 1e-5, 18.85, None),
        (1.0, 0.001, 10_000, 1e-6, 0.555, 0.980),
        (0.6, 1 / 32, 320, 1e-5, 12.59, None),
    ],
)
def test_published_numbers(sigma, rate, steps, delta, pld, rdp):
    if pld is not None:
        assert spent(poisson(sigma, rate, steps), delta=delta) == pytest.approx(pld, rel=1.5e-3)
    if rdp is not None:
        # the published ones take fewer orders, and looser sums for those between whole numbers
        assert 0.97 * rdp < spent_rdp(poisson(sigma, rate, steps), delta=delta) < 1.002 * rdp


GRID = [
    (0.6, 0.05, 100, 1e-5),
    (0.8, 0.01, 1000, 1e-5),
    (1.0, SNIPS, 1022, 1e-5),
    (1.0, 0.1, 50, 1e-6),
    (1.5, 0.05, 500, 1e-5),
    (2.0, 0.01, 2000, 1e-6),
    (4.0, 0.2, 100, 1e-5),
]


@pytest.mark.parametrize(("sigma", "rate", "steps", "delta"), GRID)
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_the_prv_and_stays_below_the_rdp_accountant_of_opacus(sigma, rate, steps, delta):
    opacus = pytest.importorskip("opacus.accountants")
    prv, rdp = opacus.PRVAccountant(), opacus.RDPAccountant()
    prv.history = rdp.history = [(sigma, rate, steps)]
    ours = spent(poisson(sigma, rate, steps), delta=delta)
    assert ours == pytest.approx(prv.get_epsilon(delta), abs=0.02)
    assert ours <= rdp.get_epsilon(delta)
    assert ours <= spent_rdp(poisson(sigma, rate, steps), delta=delta)


@pytest.mark.filterwarnings("ignore")
def test_the_gdp_accountant_of_opacus_reports_too_little():
    opacus = pytest.importorskip("opacus.accountants")
    gdp = opacus.GaussianAccountant()
    gdp.history = [(0.7, 1024 / 67_349, 197)]
    assert gdp.get_epsilon(1e-5) < 0.7 * spent(poisson(0.7, 1024 / 67_349, 197), delta=1e-5)


@pytest.mark.parametrize(("sigma", "rate"), [(0.5, 0.02), (0.7, 0.3), (1.0, 0.1), (1.0, 0.9), (2.0, 0.5)])
def test_one_step_is_never_below_direct_integration_and_close_to_it(sigma, rate):
    epsilon = spent(poisson(sigma, rate, 1), delta=1e-5)
    truth = optimize.brentq(lambda e: naive_delta(e, sigma, rate) - 1e-5, 0, 60, xtol=1e-6)
    assert truth <= epsilon + 1e-5
    assert epsilon == pytest.approx(truth, rel=2e-3)


@pytest.mark.parametrize(
    ("sigma", "steps", "delta"), [(1.0, 1, 1e-5), (0.5, 1, 1e-6), (10.0, 250, 1e-9), (3.0, 40, 0.1)]
)
def test_rate_one_is_the_gaussian_mechanism(sigma, steps, delta):
    epsilon, truth = spent(poisson(sigma, 1.0, steps), delta=delta), gaussian_epsilon(math.sqrt(steps) / sigma, delta)
    assert truth - 1e-6 <= epsilon <= truth * 1.001


def test_a_small_delta_is_not_lost_in_the_rounding_of_the_transform():
    # almost a plain Gaussian, but composed a thousand times by Fourier transforms
    sigma = math.sqrt(1000)
    for delta in (1e-10, 1e-12):
        truth = gaussian_epsilon(1.0, delta)
        assert truth <= spent(poisson(sigma, 1 - 1e-9, 1000), delta=delta) <= truth * 1.01


@pytest.mark.parametrize("delta", [1e-13, 1e-14, 1e-18, 1e-30])
@pytest.mark.parametrize(("sigma", "rate", "steps"), [(4.0, 0.165, 12), (1.0, SNIPS, 1022), (0.3, 0.02, 50)])
def test_a_delta_below_the_rounding_has_the_epsilon_of_renyi(sigma, rate, steps, delta):
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders=[o / 10 for o in range(15, 60)] + [o for o in privacy_loss._ORDERS if o < 2000])
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), steps)
    found = spent(poisson(sigma, rate, steps), delta=delta)
    assert 0.98 * accountant.get_epsilon(delta) < found < 1.0001 * accountant.get_epsilon(delta)
    budget = accounting.budget(poisson(sigma, rate, steps), delta=delta)
    assert budget.epsilon == found
    assert budget.accountant.startswith("RDP, Poisson sampling at rate ")


@pytest.mark.parametrize("delta", [1e-18, 1e-9, 1e-3])
@pytest.mark.parametrize(("rate", "sigma"), [(0.02, 0.5), (0.3, 1.0), (0.9, 20.0)])
def test_every_bound_of_one_step_is_above_the_truth(rate, sigma, delta):
    """Three mechanisms with a known curve: of a sampled step both ways, in tails that a float still holds."""
    events = accounting._events(poisson(sigma, rate, 1))
    bounds = (privacy_loss.epsilon_by_rdp, privacy_loss.epsilon_without_amplification, privacy_loss.epsilon_by_pld)
    for bound in bounds:
        epsilon = bound(events, delta)
        assert delta < 1e-12 or epsilon < math.inf
        if 0 < epsilon < math.inf:
            assert sampled_delta(epsilon, sigma, rate) <= delta * (1 + 1e-6)


def sampled_delta(epsilon, sigma, rate):
    """The hockey-stick divergence of one step in closed form: where the likelihood ratio crosses e^epsilon."""

    def crossing(ratio):
        return sigma**2 * math.log(ratio) + 0.5

    found = []
    above = (math.exp(epsilon) - (1 - rate)) / rate  # having over without exceeds e^epsilon above this
    z = crossing(above)
    having = (1 - rate) * stats.norm.sf(z, 0, sigma) + rate * stats.norm.sf(z, 1, sigma)
    found.append(having - math.exp(epsilon) * stats.norm.sf(z, 0, sigma))
    below = (math.exp(-epsilon) - (1 - rate)) / rate  # without over having, where that can be at all
    if below > 0:
        z = crossing(below)
        having = (1 - rate) * stats.norm.cdf(z, 0, sigma) + rate * stats.norm.cdf(z, 1, sigma)
        found.append(stats.norm.cdf(z, 0, sigma) - math.exp(epsilon) * having)
    return max(found)


def test_noise_so_large_that_rounding_hides_it_is_never_taken_for_none():
    # dp-accounting's divergence of such a step is negative by rounding, and its epsilon 0
    found = spent_rdp(poisson(1e6, 0.01, 1000), delta=1e-14)
    exact = spent_rdp(poisson(1e3, 0.01, 1000), delta=1e-14)
    assert 0 < found < exact


@pytest.mark.parametrize(("rate", "sigma"), [(0.02, 1.0), (0.2, 0.7), (0.5, 3.0), (0.02, 0.3)])
def test_the_divergences_are_those_of_dp_accounting_and_of_integration(rate, sigma):
    from dp_accounting.rdp.rdp_privacy_accountant import _compute_rdp_poisson_subsampled_gaussian as theirs

    ours = dict(zip(privacy_loss._BROKEN_ORDERS + privacy_loss._ORDERS, privacy_loss._renyi(rate, sigma), strict=True))
    whole = [2, 3, 7, 64, 512]
    assert [ours[order] for order in whole] == pytest.approx(theirs(rate, sigma, whole), rel=1e-6)
    for order in (1.02, 1.5, 2.1, 6.5):  # theirs are 0.1 % too much between whole orders

        def term(z, order=order):
            ratio = (1 - rate) + rate * math.exp((2 * z - 1) / (2 * sigma**2))
            return stats.norm.pdf(z, 0, sigma) * (ratio**order - 1 - order * (ratio - 1))  # its mean is A - 1

        top = order + 12 * sigma
        moment = integrate.quad(term, -12 * sigma, top, points=[0, 0.5, 1, order], limit=400, epsabs=1e-13)[0]
        truth = math.log1p(moment) / (order - 1)
        assert truth * (1 - 1e-8) <= ours[order] <= truth * (1 + 1e-6) + 2e-10 / (order - 1)


@pytest.mark.parametrize("delta", [1e-5, 1e-14, 1e-18])
def test_passes_that_are_not_amplified_have_the_exact_epsilon(delta):
    mu = math.sqrt(3) / 2
    found = spent(shuffled(2.0, 1 / 50, 150), delta=delta)
    assert gaussian_log_delta(found, mu) == pytest.approx(math.log(delta), abs=1e-6)
    assert gaussian_log_delta(found, mu) <= math.log(delta)
    assert (
        "Gaussian without amplification, shuffled batches"
        in accounting.budget(shuffled(2.0, 1 / 50, 150), delta=delta).accountant
    )


def gaussian_log_delta(epsilon, mu):
    one, other = stats.norm.logcdf(mu / 2 - epsilon / mu), epsilon + stats.norm.logcdf(-mu / 2 - epsilon / mu)
    return one + math.log(-math.expm1(other - one))


@pytest.mark.parametrize("sampling", ["poisson", "shuffled"])
@pytest.mark.parametrize("delta", [1e-14, 1e-18])
def test_calibrate_reaches_a_small_delta(sampling, delta):
    def decaying(sigma):
        return Release((Phase(sigma, 6), Phase(0.8 * sigma, 6)), sampling, 1 / 6)

    sigma = calibrate(epsilon=8, delta=delta, release_of=decaying)
    assert spent([decaying(sigma)], delta=delta) <= 8 < spent([decaying(sigma / 1.002)], delta=delta)


@settings(max_examples=8, deadline=None)
@given(
    sigma=st.floats(0.8, 4),
    rate=st.floats(1e-3, 1),
    steps=st.integers(1, 800),
    delta=st.floats(1e-8, 1e-2),
    by=st.floats(1.05, 2),
)
def test_more_noise_fewer_steps_smaller_batches_and_a_larger_delta_spend_less(sigma, rate, steps, delta, by):
    here = spent(poisson(sigma, rate, steps), delta=delta)
    slack = here * 2e-3 + 1e-6  # what the grid may add to either
    assert spent(poisson(sigma * by, rate, steps), delta=delta) <= here + slack
    assert spent(poisson(sigma, rate / by, steps), delta=delta) <= here + slack
    assert spent(poisson(sigma, rate, math.floor(steps / by)), delta=delta) <= here + slack
    assert spent(poisson(sigma, rate, steps), delta=min(0.5, delta * by)) <= here + slack


def test_decaying_noise_lies_between_its_first_and_its_last():
    phases = tuple(Phase(2 / (1 + 0.1 * e), 51) for e in range(10))
    decayed = spent([Release(phases, "poisson", 1 / 51)], delta=1e-5)
    first, last = (spent(poisson(noise, 1 / 51, 510), delta=1e-5) for noise in (2.0, 2 / 1.9))
    assert first * 1.1 < decayed < last / 1.1
    assert decayed <= spent_rdp([Release(phases, "poisson", 1 / 51)], delta=1e-5)


def test_phases_of_the_same_noise_are_one_and_several_runs_add_their_steps():
    whole = spent(poisson(1.2, 0.02, 600), delta=1e-5)
    split = (Phase(1.2, 200), Phase(1.2, 0), Phase(1.2, 400))
    assert spent([Release(split, "poisson", 0.02)], delta=1e-5) == whole
    assert spent(poisson(1.2, 0.02, 200) * 3, delta=1e-5) == whole
    assert spent(poisson(1.2, 0.02, 200), delta=1e-5) < whole


def test_many_levels_of_noise_are_rounded_down_never_up(monkeypatch):
    release = Release(tuple(Phase(2 / (1 + 0.02 * e), 20) for e in range(20)), "poisson", 0.01)
    exact = spent([release], delta=1e-5)
    monkeypatch.setattr(privacy_loss, "_MOST_LEVELS", 8)
    assert len(list(privacy_loss._rounded(accounting._events([release])))) == 8
    privacy_loss.epsilon_by_pld.cache_clear()
    assert exact < spent([release], delta=1e-5) < 1.1 * exact


@pytest.mark.parametrize(
    ("steps", "sigma", "at_least", "poisson_says"),
    [
        (10_000, 0.5, 10.99, 1.95),
        (10_000, 0.7, 6.88, 0.16),
        (10_000, 1.0, 1.90, 0.05),
        (1000, 1.0, 3.72, 0.19),
        (100, 1.0, 4.68, 0.95),
    ],
)
def test_shuffled_batches_spend_no_less_than_their_lower_bound(steps, sigma, at_least, poisson_says):
    """Chua et al. (2024): one pass, delta 1e-6, against a rigorous lower bound for shuffling."""
    ours = spent(shuffled(sigma, 1 / steps, steps), delta=1e-6)
    assert ours >= at_least
    assert ours == pytest.approx(gaussian_epsilon(1 / sigma, 1e-6), rel=1e-3)
    assert spent(poisson(sigma, 1 / steps, steps), delta=1e-6) == pytest.approx(poisson_says, abs=0.015)


def test_shuffled_epsilon_at_noise_half_is_tight():
    assert 10.99 <= spent(shuffled(0.5, 1e-4, 10_000), delta=1e-6) <= 11.0


def test_a_random_order_spends_no_more_than_the_bound_by_direct_integration():
    # two steps of one pass, the example in one of them at even odds: a mixture of two normals in the plane
    sigma, epsilon = 0.8, 1.5
    axis = np.linspace(-8, 9, 1701)
    x, y = np.meshgrid(axis, axis)

    def density(a, b):
        return stats.norm.pdf(x, a, sigma) * stats.norm.pdf(y, b, sigma)

    mixed, without = (density(1, 0) + density(0, 1)) / 2, density(0, 0)
    for p, q in ((mixed, without), (without, mixed)):
        found = integrate.trapezoid(integrate.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), axis), axis)
        assert found <= gaussian_delta(epsilon, 1 / sigma)


def mu_of(release):
    """The noise of the one Gaussian that shuffled passes come to, read back from epsilon."""
    epsilon = spent([release], delta=1e-5)
    return optimize.brentq(lambda mu: gaussian_epsilon(mu, 1e-5) - epsilon, 0.05, 20)


@pytest.mark.parametrize(
    ("phases", "rate", "expected"),
    [
        ([(1.0, 100)], 1 / 100, [1.0]),
        ([(1.0, 101)], 1 / 100, [1.0, 1.0]),  # a begun pass counts whole
        ([(1.0, 300)], 1 / 100, [1.0] * 3),
        ([(2.0, 50), (1.0, 50)], 1 / 100, [1.0]),  # the least noise of a pass
        ([(2.0, 100), (1.0, 100)], 1 / 100, [2.0, 1.0]),
        ([(2.0, 99), (1.0, 101)], 1 / 100, [1.0, 1.0]),
        ([(2.0, 10), (0.0, 0), (4.0, 90)], 1 / 100, [2.0]),
        ([(1.0, 102)], 256 / 13_084, [1.0, 1.0]),  # 51.1 steps a pass: 2 passes without the smaller batch
        ([(1.0, 103)], 256 / 13_084, [1.0, 1.0, 1.0]),
        ([(2.0, 51), (1.0, 51)], 256 / 13_084, [1.0, 1.0]),  # the 52nd step may be of the first pass
        ([(1.0, 5)], 1.0, [1.0] * 5),
    ],
)
@pytest.mark.parametrize("sampling", ["shuffled", "fixed"])
def test_passes_are_counted_whole_at_their_least_noise(phases, rate, expected, sampling):
    release = Release(tuple(Phase(*phase) for phase in phases), sampling, rate)
    assert release.passes == len(expected)
    assert mu_of(release) == pytest.approx(math.sqrt(sum(noise**-2 for noise in expected)), rel=2e-3)


def test_no_rate_of_one_over_a_whole_number_is_miscounted():
    for steps in [*range(1, 3000), 10_007, 999_983]:
        assert Release((Phase(1.0, 7 * steps),), "shuffled", 1 / steps).passes == 7


def test_naive_count_of_passes_agrees():
    rng = np.random.default_rng(0)
    for _ in range(200):
        steps_of_pass = int(rng.integers(1, 12))
        phases = [(float(rng.uniform(1, 5)), int(rng.integers(0, 15))) for _ in range(int(rng.integers(1, 6)))]
        each = [noise for noise, steps in phases for _ in range(steps)]
        naive = [min(each[i : i + steps_of_pass]) for i in range(0, len(each), steps_of_pass)]
        release = Release(tuple(Phase(*p) for p in phases), "shuffled", 1 / steps_of_pass)
        assert list(accounting._least_noise_of_passes(release)) == naive


def test_without_noise_nothing_is_promised_and_without_steps_nothing_is_spent():
    assert spent(poisson(0.0, 0.1, 5), delta=1e-5) == spent_rdp(poisson(0.0, 0.1, 5), delta=1e-5) == math.inf
    assert spent(shuffled(0.0, 0.1, 5), delta=1e-5) == math.inf
    assert spent(poisson(1e-200, 0.1, 5), delta=1e-5) == math.inf
    for nothing in ([], poisson(1.0, 0.1, 0), poisson(0.0, 0.1, 0), shuffled(0.0, 0.1, 0), [Release((), "fixed", 0.5)]):
        assert spent(nothing, delta=1e-5) == spent_rdp(nothing, delta=1e-5) == 0


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(0.01, 0.02, 100), (1e-6, 0.5, 10), (0.3, 0.02, 100_000), (1e6, 0.01, 1000)]
)
def test_extreme_noise_gives_a_number_at_once(sigma, rate, steps):
    assert 0 <= spent(poisson(sigma, rate, steps), delta=1e-5) < math.inf


def release_of(sigma):
    return poisson(sigma, SNIPS, 1022)[0]


@pytest.mark.parametrize("epsilon", [0.5, 4, 8, 50])
def test_calibrate_finds_the_least_noise_to_a_thousandth(epsilon):
    sigma = calibrate(epsilon=epsilon, delta=1e-5, release_of=release_of)
    assert spent([release_of(sigma)], delta=1e-5) <= epsilon
    assert spent([release_of(sigma / 1.001)], delta=1e-5) > epsilon


def test_calibrate_counts_decay_layers_and_micro_batches():
    def accounted(sigma):
        return nominal_and_accounted(
            noise_multiplier=sigma,
            decay=[(1.0, 51), (0.9, 51), (0.8, 51)],
            noise_scales=[1.0] * 4,
            clips=[1.0] * 4,
            micro_batches=True,
            sampling="shuffled",
            sample_rate=1 / 51,
        )[1]

    sigma = calibrate(epsilon=4, delta=1e-5, release_of=accounted)
    mu = 4 / sigma * math.sqrt(1 + 0.9**-2 + 0.8**-2)
    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(4, rel=2e-3)


def test_calibrate_says_what_would_do_where_no_noise_is_enough():
    with pytest.raises(UsageError, match=r"out of reach.*fewer steps, a smaller batch, a larger delta"):
        calibrate(epsilon=1e-4, delta=1e-14, release_of=release_of)
    with pytest.raises(UsageError, match="stays above zero"):
        calibrate(epsilon=1, delta=1e-5, release_of=lambda s: Release((Phase(s, 9), Phase(0.0, 1)), "poisson", 0.1))
    with pytest.raises(UsageError, match="out of reach"):
        calibrate(epsilon=1e-9, delta=1e-5, release_of=lambda s: poisson(s, 1.0, 10**9)[0])


def test_calibrate_of_an_epsilon_that_hardly_any_noise_meets_is_still_safe():
    sigma = calibrate(epsilon=1e8, delta=1e-5, release_of=lambda s: poisson(s, 0.5, 3)[0])
    assert sigma > 0
    assert spent(poisson(sigma, 0.5, 3), delta=1e-5) <= 1e8


@pytest.mark.parametrize(
    ("stds", "clips", "micro", "expected"),
    [
        ([2.0], [1.0], False, 2.0),
        ([2.0], [1.0], True, 1.0),  # sensitivity 2C
        ([1.0] * 4, [1.0] * 4, False, 0.5),  # noise for each layer alone hides 1 / sqrt(4)
        ([3.0, 1.5], [1.0, 0.5], True, 3 / (2 * math.sqrt(2))),
        ([5.0, 5.0], [3.0, 4.0], False, 1.0),  # noise for the joint vector hides all of it
        ([1.0, 0.0], [1.0, 1.0], False, 0.0),
    ],
)
def test_effective_multiplier(stds, clips, micro, expected):
    assert effective_multiplier(stds, clips, micro_batches=micro) == pytest.approx(expected)


def test_clipped_means_move_by_twice_the_clip():
    # the worst case that c = 2 stands for: the mean of a micro-batch turns round when one example joins it
    def clipped(vector):
        return vector * min(1, 1 / np.linalg.norm(vector))

    others, example = np.array([3.0, 0.0]), np.array([-30.0, 0.0])
    moved = np.linalg.norm(clipped((others + example) / 2) - clipped(others))
    assert moved == pytest.approx(2)


def test_nominal_and_accounted_of_the_papers_mechanism():
    nominal, accounted = nominal_and_accounted(
        noise_multiplier=2.0,
        decay=[(1.0, 51), (0.5, 51)],
        noise_scales=[1.0, 1.0],
        clips=[1.0, 1.0],
        micro_batches=True,
        sampling="poisson",
        sample_rate=0.02,
    )
    assert nominal == Release((Phase(2.0, 102),), "poisson", 0.02)
    assert [phase.noise_multiplier for phase in accounted.phases] == pytest.approx([2 / math.sqrt(8), 1 / math.sqrt(8)])
    both = accounting.guarantee(nominal=[nominal], accounted=[accounted], delta=1e-5)
    assert both.nominal.epsilon < both.accounted.epsilon / 10


def test_budget_and_guarantee_as_a_report_shows_them():
    nominal, accounted = poisson(1.0, SNIPS, 1022), poisson(0.5, SNIPS, 1022)
    both = accounting.guarantee(nominal=nominal, accounted=accounted, delta=1e-5)
    assert isinstance(both, Guarantee)
    text = "PLD (dp-accounting), Poisson sampling at rate 0.0196, 1,022 steps, noise multiplier 1"
    assert both.nominal == Budget(spent(nominal, delta=1e-5), 1e-5, "example", "add or remove one", text)
    passes = accounting.budget(shuffled(1.5, 1 / 51, 102) * 3, delta=1e-5, unit="client")
    assert passes.neighbouring == "replace one by a null example"
    assert passes.accountant.endswith("shuffled batches not amplified, 2 passes, noise multiplier 1.5, 3 runs")
    assert passes.unit == "client"
    mixed = accounting.budget([*nominal, *shuffled(2.0, 1 / 51, 51)], delta=1e-5)
    assert mixed.neighbouring == "replace one by a null example"
    assert mixed.epsilon > both.nominal.epsilon
    decayed = accounting.budget([Release((Phase(2.0, 3), Phase(1.0, 3)), "poisson", 0.1)], delta=1e-5)
    assert decayed.accountant.endswith("6 steps, noise multiplier 1 to 2")


def test_no_budget_is_made_of_an_infinite_epsilon():
    finite, infinite = poisson(1.0, 0.1, 5), poisson(0.0, 0.1, 5)
    assert accounting.budget(infinite, delta=1e-5) is None
    assert accounting.guarantee(nominal=finite, accounted=infinite, delta=1e-5) is None
    assert accounting.guarantee(nominal=infinite, accounted=finite, delta=1e-5) is None


def test_warnings():
    run = poisson(1.0, 0.1, 5)
    assert accounting.warnings_about(run, delta=1e-5, population=13_084, runs=1) == ()
    (large,) = accounting.warnings_about(run, delta=1e-3, population=1000, runs=1)
    assert "delta 0.001 is not below 1 / 1,000 examples" in large
    assert accounting.warnings_about(run, delta=math.nan, population=1000, runs=1)
    (undeclared,) = accounting.warnings_about(run, delta=1e-5, population=1000)
    assert "runs not declared" in undeclared
    (missing,) = accounting.warnings_about(run, delta=1e-5, population=1000, runs=12)
    assert "12 runs declared, 1 accounted for" in missing
    (other,) = accounting.warnings_about(run, delta=1e-5, population=1000, realised=990, runs=1)
    assert "990 examples, but 1,000" in other
    (plain,) = accounting.warnings_about(shuffled(1.0, 0.1, 10), delta=1e-5, population=1000, runs=1)
    assert "without amplification" in plain


@pytest.mark.parametrize("delta", [0, 1, -1e-5, 2, math.nan, math.inf])
def test_a_delta_that_is_no_probability_is_refused(delta):
    for function in (spent, spent_rdp, accounting.budget):
        with pytest.raises(UsageError, match=f"delta is {delta}"):
            function(poisson(1.0, 0.1, 1), delta=delta)
    with pytest.raises(UsageError, match="delta is"):
        calibrate(epsilon=1, delta=delta, release_of=release_of)


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf])
def test_an_epsilon_that_is_not_positive_is_refused(epsilon):
    with pytest.raises(UsageError, match=f"epsilon is {epsilon}"):
        calibrate(epsilon=epsilon, delta=1e-5, release_of=release_of)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phase(math.nan, 1), "noise multiplier is nan"),
        (lambda: Phase(-0.5, 1), "noise multiplier is -0.5"),
        (lambda: Phase(math.inf, 1), "noise multiplier is inf"),
        (lambda: Phase(1.0, -1), "number of steps is -1"),
        (lambda: Phase(1.0, 2.5), "number of steps is 2.5"),
        (lambda: Release((), "poisson", 0.0), "sampling rate is 0"),
        (lambda: Release((), "poisson", 1.5), "sampling rate is 1.5"),
        (lambda: Release((), "poisson", math.nan), "sampling rate is nan"),
        (lambda: Release((), "sorted", 0.5), "sampling is 'sorted'"),
        (lambda: effective_multiplier([], [], micro_batches=False), "0 noise scales for 0"),
        (lambda: effective_multiplier([1.0], [1.0, 2.0], micro_batches=False), "1 noise scales for 2"),
        (lambda: effective_multiplier([1.0], [0.0], micro_batches=False), "clipping norm is 0"),
        (lambda: effective_multiplier([1.0], [math.nan], micro_batches=False), "clipping norm is nan"),
        (lambda: effective_multiplier([math.nan], [1.0], micro_batches=False), "noise is nan"),
        (lambda: effective_multiplier([-1.0], [1.0], micro_batches=False), "noise is -1"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_the_accountant_is_imported_only_to_account():
    code = (
        "import sys, defenses.accounting; sys.exit(any(m in sys.modules for m in ('dp_accounting', 'scipy', 'torch')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_accountant_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[dp\]'"):
        spent(poisson(1.2345, 0.1, 1), delta=1e-5)
