"""The TPR interval is exact: it must hold for every population, even where the ROC curve is a cliff."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from populations import allowed, binormal, cliff, contaminated, count_misses, levels
from scipy import stats

from redteam.statistics import Interval, attainable_tpr, smallest_resolvable_fpr
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.ranking import rank
from redteam.statistics.roc import tpr_at_fpr
from redteam.statistics.tpr import tpr_interval

POPULATIONS = {
    "null": binormal(0.5),
    "strong": binormal(0.9),
    "10 % huge": contaminated(0.1),
    "binary": levels([0.4, 0.6], [0.7, 0.3]),
    "5 levels": levels([0.3, 0.3, 0.25, 0.1, 0.05], [0.4, 0.3, 0.22, 0.07, 0.01]),
}
SIZES = [((25, 25), 1000), ((60, 400), 1000), ((400, 60), 1000), ((2500, 2500), 200)]


def naive_value(scores, is_member, fpr):
    """Walk the ROC curve level by level to `fpr` false positives, along a straight line within a level."""
    left, found = fpr * np.sum(~is_member), 0.0
    for level in np.unique(scores)[::-1]:
        here = scores == level
        false, true = np.sum(here & ~is_member), np.sum(here & is_member)
        if false > left + 1e-9:
            return (found + true * max(left, 0.0) / false) / np.sum(is_member)
        left, found = left - false, found + true
    return 1.0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(2, 40), st.floats(0.01, 0.99))
def test_the_value_equals_the_naive_walk_along_the_curve(seed, top, n, fpr):
    rng = np.random.default_rng(seed)
    scores, is_member = rng.integers(0, top + 1, 2 * n).astype(float), rng.permutation(2 * n) < n
    scores[:2] = 0.0, 1.0
    found = tpr_at_fpr(scores, is_member, fpr=fpr, alpha=0.05, seed=0)
    assert found.value == pytest.approx(naive_value(scores, is_member, fpr), abs=1e-12)


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_whole_number_of_false_positives_reaches_the_top_of_the_step(percent):
    # 0.29 x 100 is 28.999999999999996; all members sit just below the non-member of that rank.
    scores = np.concatenate([np.arange(100.0), np.full(5, 100.0 - percent - 0.5)])
    found = tpr_at_fpr(scores, np.arange(105) >= 100, fpr=percent / 100, alpha=0.05, seed=0)
    assert found.value == 1.0


def brute_interval(scores, is_member, fpr, alpha, rng):
    """The definition: shuffle ties, search every rank of the non-members, count the members above."""
    order = np.lexsort([rng.random(len(scores)), scores])[::-1]
    member, m, n = is_member[order], int(is_member.sum()), int((~is_member).sum())
    ranks = np.arange(1, n + 1)
    places = np.flatnonzero(~member)
    inner = ranks[stats.binom.cdf(ranks - 1, n, fpr) <= alpha / 4]
    outer = ranks[stats.binom.sf(ranks - 1, n, fpr) <= alpha / 4]
    low, high = 0.0, 1.0
    if len(inner):
        low = float(clopper_pearson_low(member[: places[inner[-1] - 1]].sum(), m, alpha / 4))
    if len(outer):
        high = float(clopper_pearson_high(member[: places[outer[0] - 1]].sum(), m, alpha / 4))
    return low, high


@pytest.mark.parametrize("fpr", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [(30, 30), (40, 300), (300, 40)])
def test_without_ties_the_ends_equal_brute_force(sizes, fpr):
    scores, is_member = binormal(0.8).sample(np.random.default_rng(7), *sizes)
    found = tpr_at_fpr(scores, is_member, fpr=fpr, alpha=0.05, seed=0)
    low, high = brute_interval(scores, is_member, fpr, 0.05, np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx((min(low, found.value), max(high, found.value)))


def test_with_ties_the_ends_are_distributed_as_by_brute_force():
    scores, is_member = POPULATIONS["5 levels"].sample(np.random.default_rng(8), 80, 200)
    rng = np.random.default_rng(9)
    ours = [tpr_at_fpr(scores, is_member, fpr=0.1, alpha=0.2, seed=i) for i in range(1500)]
    brute = [brute_interval(scores, is_member, 0.1, 0.2, rng) for _ in range(1500)]
    for mine, other in (
        ([i.low for i in ours], [b[0] for b in brute]),
        ([i.high for i in ours], [b[1] for b in brute]),
    ):
        assert len(set(mine)) > 1
        assert stats.ks_2samp(mine, other).pvalue > 1e-3


def test_the_seed_decides_and_matters_only_for_ties():
    tied, is_member = POPULATIONS["binary"].sample(np.random.default_rng(8), 80, 200)
    lows = [tpr_at_fpr(tied, is_member, fpr=0.1, alpha=0.05, seed=i).low for i in (1, 1, 2, 3, 4)]
    assert lows[0] == lows[1]
    assert len(set(lows)) > 1
    loose = tied + np.random.default_rng(0).normal(0, 1, 280)
    assert len({tpr_at_fpr(loose, is_member, fpr=0.1, alpha=0.05, seed=i).low for i in range(5)}) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(20, 200), st.sampled_from([0.02, 0.1, 0.3]))
def test_an_interval_at_a_smaller_alpha_holds_those_at_larger_ones(seed, top, n, fpr):
    rng = np.random.default_rng(seed)
    scores, is_member = rng.integers(0, top + 1, 2 * n).astype(float), rng.permutation(2 * n) < n
    scores[:2] = 0.0, 1.0
    found = [tpr_at_fpr(scores, is_member, fpr=fpr, alpha=alpha, seed=seed) for alpha in np.geomspace(0.2, 1e-6, 12)]
    lows, highs = [i.low for i in found], [i.high for i in found]
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)


@pytest.mark.parametrize("n", [2, 10, 100, 1000, 12_345])
def test_below_the_resolution_the_lower_end_is_zero_and_at_it_is_not(n):
    scores, is_member = np.arange(n + 50.0), np.arange(n + 50) >= n
    fpr = smallest_resolvable_fpr(n, alpha=0.05)
    assert tpr_at_fpr(scores, is_member, fpr=fpr, alpha=0.05, seed=0).low == pytest.approx(
        attainable_tpr(50, n, fpr=fpr, alpha=0.05)
    )
    assert tpr_at_fpr(scores, is_member, fpr=fpr * 0.999, alpha=0.05, seed=0).low == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "runs"), SIZES)
@pytest.mark.parametrize("fpr", [0.2, 0.02])
@pytest.mark.parametrize("name", POPULATIONS)
def test_the_interval_misses_at_most_alpha(name, fpr, sizes, runs):
    population = POPULATIONS[name]
    for alpha in (0.2, 0.05):
        above, below, made = count_misses(
            population,
            sizes,
            runs,
            lambda r, seed, a=alpha: tpr_interval(r, fpr=fpr, alpha=a, seed=seed),
            population.roc(fpr),
        )
        print(f"{name:12} {sizes} fpr {fpr} alpha {alpha}: above {above}, below {below} of {made}")
        assert max(above, below) <= allowed(alpha / 2, made)


@pytest.mark.parametrize("sizes", [(40, 200), (400, 400)])
def test_a_cliff_uses_up_the_error_and_no_more(sizes):
    population = cliff(0.1, 0.3)
    above, _, made = count_misses(
        population, sizes, 1000, lambda r, seed: tpr_interval(r, fpr=0.1, alpha=0.4, seed=seed), 0.3
    )
    # Observed near 0.15 of the 0.2 allowed: no split of the error could stay exact and be much shorter.
    assert 0.25 * allowed(0.2, made) < above <= allowed(0.2, made)


def plug_in(ranking, fpr, alpha):
    """What peers do: take the empirical threshold for the true one and call the members binomial."""
    above = np.cumsum(ranking.nonmembers)
    found = int(ranking.members[above <= fpr * ranking.n_nonmembers].sum())
    low = float(clopper_pearson_low(found, ranking.n_members, alpha / 2))
    high = float(clopper_pearson_high(found, ranking.n_members, alpha / 2))
    return Interval(found / ranking.n_members, low, high, alpha)


@pytest.mark.parametrize("fpr", [0.2, 0.02])
def test_a_plug_in_threshold_fails_the_same_simulation(fpr):
    population = POPULATIONS["strong"]
    above, below, made = count_misses(
        population, (400, 60), 400, lambda r, _: plug_in(r, fpr, 0.05), population.roc(fpr)
    )
    assert max(above, below) > allowed(0.025, made)  # observed above 100 of 400


def test_the_interval_narrows_with_the_sample():
    widths = []
    for n in (500, 8000):
        scores, is_member = binormal(0.9).sample(np.random.default_rng(2), n, n)
        found = tpr_interval(rank(scores, is_member), fpr=0.1, alpha=0.05, seed=0)
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)
