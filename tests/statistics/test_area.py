import math

import numpy as np
import pytest
from populations import binormal, contaminated, levels
from scipy import stats

from redteam.statistics import attainable_auc
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank


def kernel(members, nonmembers):
    """1 where the member scores higher, 1/2 where it ties: shape (m, n)."""
    return (np.sign(members[:, None] - nonmembers[None, :]) + 1) / 2


def naive_low(k, alpha):
    """The definition, on the matrix of all pairs with one more row, or one more column, of lost pairs."""
    return min(_quantile(np.vstack([k, 0 * k[:1]]), alpha), _quantile(np.hstack([k, 0 * k[:, :1]]), alpha))


def _quantile(k, alpha):
    """Weights Dirichlet(1, ..., 1) on K rows give a mean of a_i the variance of a over K + 1, and so on."""
    rows, columns = k.shape
    mean = k.mean()
    a, b = k.mean(axis=1) - mean, k.mean(axis=0) - mean
    rest = k - mean - a[:, None] - b[None, :]
    variance = (a**2).mean() / (rows + 1) + (b**2).mean() / (columns + 1)
    variance += (rest**2).mean() / ((rows + 1) * (columns + 1))
    third = 2 * (a**3).mean() / ((rows + 1) * (rows + 2)) + 2 * (b**3).mean() / ((columns + 1) * (columns + 2))
    third += 6 * (rest * a[:, None] * b[None, :]).mean() / ((rows + 1) * (columns + 1))
    size = mean * (1 - mean) / variance - 1
    return min(
        stats.beta.ppf(alpha / 2, mean * size, (1 - mean) * size),
        stats.pearson3.ppf(alpha / 2, third / variance**1.5, loc=mean, scale=math.sqrt(variance)),
    )


def plain_delong(scores, is_member, alpha):
    """The textbook interval: DeLong's variance, a normal quantile."""
    k = kernel(scores[is_member], scores[~is_member])
    variance = k.mean(axis=1).var(ddof=1) / k.shape[0] + k.mean(axis=0).var(ddof=1) / k.shape[1]
    reach = stats.norm.isf(alpha / 2) * math.sqrt(variance)
    return k.mean() - reach, k.mean() + reach


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("sizes", [(4, 9), (25, 25), (60, 12)])
@pytest.mark.parametrize("population", [binormal(0.5), binormal(0.9), levels([0.1, 0.3, 0.6], [0.5, 0.4, 0.1])])
def test_both_ends_equal_the_naive_twin(population, sizes, alpha):
    scores, is_member = population.sample(np.random.default_rng(5), *sizes)
    found = area_interval(rank(scores, is_member), alpha=alpha)
    k = kernel(scores[is_member], scores[~is_member])
    assert found.value < 1
    attainable = attainable_auc(*sizes, alpha=alpha)
    assert found.low == pytest.approx(max(0, min(naive_low(k, alpha), attainable)), abs=1e-9)
    assert found.high == pytest.approx(1 - max(0, min(naive_low(1 - k, alpha), attainable)), abs=1e-9)


@pytest.mark.parametrize("population", [binormal(0.7), binormal(0.95), contaminated(0.1)])
def test_the_low_end_is_the_quantile_of_randomly_weighted_aucs(population):
    rng = np.random.default_rng(11)
    scores, is_member = population.sample(rng, 30, 30)
    k = kernel(scores[is_member], scores[~is_member])
    draws = 40_000
    rows = rng.dirichlet(np.ones(31), draws)[:, :30]  # the last weight falls on a member that loses all
    columns = rng.dirichlet(np.ones(30), draws)
    one = np.quantile(((rows @ k) * columns).sum(axis=1), 0.025)
    rows, columns = rng.dirichlet(np.ones(30), draws), rng.dirichlet(np.ones(31), draws)[:, :30]
    other = np.quantile(((rows @ k) * columns).sum(axis=1), 0.025)
    found = area_interval(rank(scores, is_member), alpha=0.05)
    assert found.low == pytest.approx(min(one, other), abs=0.006)


@pytest.mark.parametrize("n", [500, 2000])
@pytest.mark.parametrize("auc", [0.5, 0.75, 0.9])
def test_large_samples_are_hardly_wider_than_delong(auc, n):
    scores, is_member = binormal(auc).sample(np.random.default_rng(1), n, n)
    found = area_interval(rank(scores, is_member), alpha=0.05)
    low, high = plain_delong(scores, is_member, 0.05)
    assert high - low < found.high - found.low < 1.1 * (high - low)


def test_the_width_shrinks_with_the_square_root_of_the_sample():
    widths = []
    for n in (500, 8000):
        scores, is_member = binormal(0.7).sample(np.random.default_rng(2), n, n)
        found = area_interval(rank(scores, is_member), alpha=0.05)
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.1)


def test_turning_the_scores_around_mirrors_the_interval():
    scores, is_member = binormal(0.8).sample(np.random.default_rng(3), 40, 90)
    scores = scores.round(1)
    one = area_interval(rank(scores, is_member), alpha=0.05)
    other = area_interval(rank(-scores, is_member), alpha=0.05)
    assert (1 - other.high, 1 - other.value, 1 - other.low) == pytest.approx((one.low, one.value, one.high))


def test_the_interval_sees_only_the_order_of_the_scores():
    scores, is_member = binormal(0.8).sample(np.random.default_rng(4), 50, 50)
    assert area_interval(rank(scores, is_member), alpha=0.05) == area_interval(
        rank(np.exp(scores), is_member), alpha=0.05
    )


def test_separation_the_wrong_way_proves_nothing():
    found = area_interval(rank(-np.arange(50.0), np.arange(50) >= 25), alpha=0.05)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 25))


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 0.5, 0.999])
def test_any_alpha_gives_an_interval(alpha):
    scores, is_member = binormal(0.8).sample(np.random.default_rng(6), 200, 100)
    found = area_interval(rank(scores, is_member), alpha=alpha)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_one_swap_never_proves_more_than_separation():
    scores, is_member = np.arange(100.0), np.arange(100) >= 50
    scores[[49, 50]] = scores[[50, 49]]
    found = area_interval(rank(scores, is_member), alpha=0.05)
    assert found.value < 1
    assert found.low <= attainable_auc(50, 50, alpha=0.05)
