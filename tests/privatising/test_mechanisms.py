"""Every mechanism draws from the channel it says, and its claim is at or above the epsilon this accounts for."""

import numpy as np
import pytest
from word_tables import accounted, chi_square, cloud, line, nearest_on_a_line, on_a_line_in

from defenses.text.cmp import Multivariate
from defenses.text.gumbel import TruncatedGumbel
from defenses.text.mahalanobis import Mahalanobis
from defenses.text.santext import SanText
from defenses.text.tem import TruncatedExponential
from defenses.text.vickrey import Vickrey
from redteam.core import UsageError
from redteam.core.randomness import Randomness

DRAWS = 40_000
SMALL = cloud(12, 3, seed=1)
EXACT = [SanText(1.5), TruncatedExponential(2.0), TruncatedExponential(3.0, beta=0.3), TruncatedGumbel(40.0)]
LINE = line(0.0, 0.4, 1.0, 1.1, 3.0)


def counted(mechanism, table, word, *, draws=DRAWS, seed=3):
    drawn = mechanism.draw(np.full(draws, word), table, Randomness(seed))
    return np.bincount(drawn, minlength=len(table))


@pytest.mark.parametrize("mechanism", EXACT, ids=lambda each: f"{each.name}-{each.epsilon:g}")
def test_draws_are_of_the_exact_channel(mechanism):
    channel = np.exp(mechanism.log_channel(np.arange(len(SMALL)), SMALL))
    assert np.allclose(channel.sum(axis=1), 1, atol=1e-9)
    p_values = [chi_square(counted(mechanism, SMALL, word), channel[word]) for word in (0, 5, 11)]
    assert min(p_values) > 0.001, p_values


@pytest.mark.parametrize("mechanism", [Multivariate(2.0), Mahalanobis(2.0, share=0.5)], ids=lambda each: each.name)
def test_noise_on_a_line_is_of_the_exact_channel(mechanism):
    channel = np.exp(mechanism.log_channel(np.arange(len(LINE)), LINE))
    assert np.allclose(channel.sum(axis=1), 1, atol=1e-12)
    assert min(chi_square(counted(mechanism, LINE, word), channel[word]) for word in range(len(LINE))) > 0.001


@pytest.mark.parametrize("dimensions", [3, 50])
def test_noise_in_many_dimensions_is_of_the_exact_channel(dimensions):
    points = (0.0, 1.0, 1.5, 4.0)
    table, epsilon = on_a_line_in(dimensions, *points), np.sqrt(dimensions)
    channel = nearest_on_a_line(points, dimensions, epsilon)
    mechanism = Multivariate(float(epsilon))
    assert min(chi_square(counted(mechanism, table, word), channel[word]) for word in range(4)) > 0.001
    assert accounted(np.log(channel), table.distances(np.arange(4)))[0] <= epsilon


def test_the_second_nearest_goes_out_as_often_as_is_said():
    """Two words: the second is the other one, and how often it is taken follows from where the noise fell."""
    table, mechanism = line(0.0, 1.0), Vickrey(3.0, second=0.4)
    noise = np.random.default_rng(0).laplace(scale=1 / 3, size=400_000)
    near, far = np.abs(noise), np.abs(noise - 1)
    first, second = np.minimum(near, far), np.maximum(near, far)
    kept = 0.6 * second / (0.4 * first + 0.6 * second)
    stays = np.where(near <= far, kept, 1 - kept).mean()
    found = counted(mechanism, table, 0)[0] / DRAWS
    assert abs(found - stays) < 5 * np.sqrt(0.25 / DRAWS)
    never = counted(Vickrey(3.0, second=0.0), table, 0)[0] / DRAWS
    assert abs(never - np.exp(Multivariate(3.0).log_channel(np.array([0]), table))[0, 0]) < 0.0125


@pytest.mark.parametrize("table", [SMALL, LINE, cloud(40, 8, seed=4)], ids=["cloud", "line", "wide"])
def test_no_claim_is_below_what_the_channel_accounts_for(table):
    everything = np.arange(len(table))
    checked = 0
    for mechanism in (*EXACT, Multivariate(2.0), Mahalanobis(2.0, share=0.7), TruncatedGumbel(150.0)):
        if mechanism.name == "gumbel" and refused(mechanism, table):
            continue
        channel = mechanism.log_channel(everything, table)
        if channel is not None:
            most, plain = accounted(channel, mechanism.distances(everything, table))
            promise = mechanism.promise(table)
            assert most <= promise.epsilon * (1 + 1e-9), mechanism
            assert plain <= promise.plain * (1 + 1e-9), mechanism
            checked += 1
    assert checked >= 4


def refused(mechanism, table):
    try:
        mechanism.scale(table)
    except UsageError:
        return True
    return False


def test_worked_by_hand():
    """SanText at 0, 1, 3 with epsilon 1, to six places, and TEM with beta so small that it is the same."""
    table = line(0.0, 1.0, 3.0)
    wanted = [[0.546549, 0.331499, 0.121952], [0.307196, 0.506480, 0.186324], [0.140244, 0.231224, 0.628532]]
    for mechanism in (SanText(1.0), TruncatedExponential(1.0)):
        found = mechanism.log_channel(np.arange(3), table)
        assert np.allclose(np.exp(found), wanted, atol=1e-6)
        assert accounted(found, table.distances(np.arange(3)))[0] == pytest.approx(0.6079504433)


def test_words_beyond_the_radius_are_alike():
    mechanism = TruncatedExponential(4.0, beta=0.3)
    channel = np.exp(mechanism.log_channel(np.array([0]), line(0.0, 0.1, 50.0, 90.0)))[0]
    assert channel[2] == pytest.approx(channel[3])
    assert channel[2] == pytest.approx(channel[0] * 0.3 / (0.7 * 4))


def test_gumbel_refuses_an_epsilon_that_no_noise_has():
    with pytest.raises(UsageError, match=r"epsilon 1 is too small for these words; give more than 1"):
        TruncatedGumbel(1.0).promise(SMALL)
    with pytest.raises(UsageError, match="two words have one vector"):
        TruncatedGumbel(1e6).promise(line(0.0, 1.0, 1.0))


def test_randomness_is_the_systems_unless_a_seed_is_given():
    words = np.arange(12).repeat(20)
    for mechanism in (*EXACT, Multivariate(3.0), Mahalanobis(3.0), Vickrey(3.0)):
        fresh = [mechanism.draw(words, SMALL, Randomness()) for _ in range(2)]
        seeded = [mechanism.draw(words, SMALL, Randomness(7)) for _ in range(2)]
        assert not np.array_equal(*fresh), mechanism.name
        assert np.array_equal(*seeded), mechanism.name


def test_random_numbers_have_their_distributions():
    from scipy.stats import gamma, kstest

    randomness = Randomness(5)
    for numbers, distribution in (
        (randomness.uniform(20_000), "uniform"),
        (randomness.normal(20_000), "norm"),
        (randomness.gamma(3.5, 20_000), gamma(3.5).cdf),
    ):
        assert kstest(numbers, distribution).pvalue > 0.001
    assert np.bincount(randomness.below(3, 9000)).min() > 2700
