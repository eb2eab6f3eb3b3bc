"""AUC intervals at the alphas that a family of intervals leaves to each, where rare scores stand on both sides.

All samples are counted through, so a chance of one in a million is seen as it is. By matched moments alone, as these
intervals once were, the four settings with tied members miss 2.2, 2.2, 3.9 and 16 times alpha / 2.
"""

import math

import numpy as np
import pytest
from populations import binormal, levels
from scipy import stats

from redteam.statistics import area
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import Ranking, rank
from redteam.statistics.weights import joined, weighted_quantile


def ranking(members, nonmembers):
    """The ranking of counts by level, from high to low."""
    members, nonmembers = np.array(members), np.array(nonmembers)
    kept = members + nonmembers > 0
    members, nonmembers = members[kept], nonmembers[kept]
    scores = np.arange(len(members), 0.0, -1.0)
    return Ranking(scores, members, nonmembers, int(members.sum()), int(nonmembers.sum()))


def chance_to_miss(low_of, truth, n, low, high):
    """The chance that the low end is above the truth: non-members fall below with chance `low`, rise with `high`.

    The end falls with the number that rise, so the largest number at which it is still too high is found by halving.
    """
    total = 0.0
    for fell in range(int(stats.binom.isf(1e-7, n, low)) + 1):
        first, last = (
            -1,
            min(n - fell, int(stats.binom.isf(1e-12, n, high))),
        )  # the largest number that misses lies from first to last
        while first < last:
            middle = (first + last + 1) // 2
            first, last = (middle, last) if low_of(fell, middle) > truth else (first, middle - 1)
        if first >= 0:
            total += stats.binom.pmf(fell, n, low) * stats.binom.cdf(first, n - fell, high / (1 - low))
    return total


TIED = [
    (50, 200, (0.0138, 0.8916, 0.0946), 0.05 / 15),
    (100, 200, (0.0089, 0.941, 0.0501), 0.05 / 15),
    (100, 2000, (0.0048, 0.9437, 0.0515), 1e-3),
    (100, 2000, (0.007, 0.9295, 0.0635), 1e-4),
]


@pytest.mark.parametrize(("n", "m", "shares", "alpha"), TIED)
def test_tied_members_and_rare_nonmembers_on_both_sides(n, m, shares, alpha):
    low, tied, high = shares

    def low_of(fell, rose):
        if fell + rose == 0:
            return 0.0  # all scores are equal: no interval
        return area_interval(ranking([0, m, 0], [rose, n - fell - rose, fell]), alpha=alpha).low

    assert chance_to_miss(low_of, low + tied / 2 + 1e-12, n, low, high) <= alpha / 2


@pytest.mark.parametrize(("n", "m", "shares", "alpha"), TIED[:2])
def test_matched_moments_alone_fail_the_same_count(n, m, shares, alpha, monkeypatch):
    monkeypatch.setattr(area, "_FAR_OUT", 0.0)
    low, tied, high = shares

    def low_of(fell, rose):
        return area_interval(ranking([0, m, 0], [rose, n - fell - rose, fell]), alpha=alpha).low if fell + rose else 0.0

    assert chance_to_miss(low_of, low + tied / 2 + 1e-12, n, low, high) > 2 * alpha / 2


@pytest.mark.parametrize("level", [0.004, 5e-4, 5e-5, 1e-8])
@pytest.mark.parametrize(("right", "size"), [(20, 25), (3, 400)])
def test_two_levels_are_clopper_and_pearson(level, right, size):
    """Members all alike: the weight of the non-members below them is a Beta."""
    found = weighted_quantile(np.array([size - right, right])[::-1], np.array([0, 1_000_000]), level)
    assert found >= 0
    # the side with one more example is the first: turned round, non-members take its place
    found = weighted_quantile(np.array([right, 0, size - right]), np.array([0, 10**7, 0]), level)
    exact = stats.beta.ppf(level, right, size - right + 1)
    assert stats.beta.cdf(found, right, size - right + 1) == pytest.approx(level, rel=0.15)
    assert found == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(
    ("members", "nonmembers"),
    [([3, 5, 2], [1, 6, 4]), ([40, 9, 1], [1, 9, 90]), ([0, 200, 0], [5, 44, 1]), ([1, 0, 5, 30], [0, 3, 40, 2])],
)
def test_the_quantile_is_that_of_plain_draws(members, nonmembers):
    rng, draws = np.random.default_rng(3), 200_000
    first = rng.standard_gamma([*members, 1], (draws, len(members) + 1))
    second = rng.standard_gamma([*nonmembers, 0], (draws, len(members) + 1))
    first, second = (each / each.sum(axis=1, keepdims=True) for each in (first, second))
    drawn = (first * (1 - np.cumsum(second, axis=1) + second / 2)).sum(axis=1)
    for level in (0.005, 0.001):
        found = weighted_quantile(np.array(members), np.array(nonmembers), level)
        assert (drawn <= found).mean() == pytest.approx(level, rel=0.3)


@pytest.mark.parametrize("population", [binormal(0.8), levels([0.1, 0.3, 0.6], [0.5, 0.4, 0.1]), binormal(0.99)])
def test_a_smaller_alpha_holds_the_interval_of_a_larger_one(population):
    found = rank(*population.sample(np.random.default_rng(7), 120, 90))
    intervals = [
        area_interval(found, alpha=a) for a in (0.2, 0.05, 0.0101, 0.01, 0.0099, 0.009, 1e-3, 1e-5, 1e-9, 1e-13)
    ]
    for wide, narrow in zip(intervals[1:], intervals, strict=False):
        assert wide.low <= narrow.low
        assert wide.high >= narrow.high


@pytest.mark.parametrize("sizes", [(30, 70), (400, 300)])
def test_neither_side_nor_direction_has_luck_of_its_own(sizes):
    scores, is_member = levels([0.1, 0.3, 0.6], [0.5, 0.4, 0.1]).sample(np.random.default_rng(8), *sizes)
    one = area_interval(rank(scores, is_member), alpha=1e-3)
    turned = area_interval(rank(-scores, is_member), alpha=1e-3)
    swapped = area_interval(rank(scores, ~is_member), alpha=1e-3)
    for other in (turned, swapped):
        assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high), abs=1e-12)
    assert area_interval(rank(scores, is_member), alpha=1e-3) == one


@pytest.mark.parametrize("auc", [0.5, 0.8, 0.999])
def test_joined_scores_keep_auc_and_spread(auc):
    n = 20_000
    found = rank(*binormal(auc).sample(np.random.default_rng(9), n, n // 2))
    members, nonmembers = joined(found.members, found.nonmembers)
    assert len(members) < 80
    assert (members.sum(), nonmembers.sum()) == (n, n // 2)
    before, after = (area._moments(each) for each in (found, ranking(members, nonmembers)))
    assert after.auc == pytest.approx(before.auc, abs=0.1 * math.sqrt(before.one.second / n))
    assert after.one.second == pytest.approx(before.one.second, rel=0.02)
    assert after.other.second == pytest.approx(before.other.second, rel=0.02)


def test_members_with_no_nonmember_between_them_are_one_score():
    members, nonmembers = joined(np.array([1, 1, 0, 1, 2, 0, 0, 1]), np.array([0, 0, 1, 0, 1, 3, 1, 0]))
    assert members.tolist() == [2, 0, 1, 2, 0, 1]
    assert nonmembers.tolist() == [0, 1, 0, 1, 4, 0]


@pytest.mark.parametrize("runs", [63, 64, 65, 66, 67, 130])
def test_members_and_nonmembers_in_turn(runs):
    rng = np.random.default_rng(runs)
    for _ in range(100):
        counts, first = rng.integers(1, 4, size=runs), np.arange(runs) % 2 == 0
        members, nonmembers = joined(np.where(first, counts, 0), np.where(first, 0, counts))
        assert min(runs, 40) <= len(members) <= 65
        assert members.sum() + nonmembers.sum() == counts.sum()


@pytest.mark.parametrize("alpha", [0.005, 1e-3, 1e-4])
@pytest.mark.parametrize(("auc", "n"), [(0.5, 300), (0.8, 300), (0.8, 3000)])
def test_ordinary_samples_get_hardly_wider(auc, n, alpha, monkeypatch):
    found = rank(*binormal(auc).sample(np.random.default_rng(10), n, n))
    new = area_interval(found, alpha=alpha)
    monkeypatch.setattr(area, "_FAR_OUT", 0.0)
    old = area_interval(found, alpha=alpha)
    assert old.high - old.low <= new.high - new.low < 1.03 * (old.high - old.low)
