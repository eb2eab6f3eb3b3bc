import numpy as np
import pytest
from scipy import stats

from redteam.core import StatisticsError
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_both_bounds_are_wrong_at_most_alpha_for_every_p(n, alpha):
    counts = np.arange(n + 1)
    low, high = clopper_pearson_low(counts, n, alpha), clopper_pearson_high(counts, n, alpha)
    edges = np.concatenate([low, high, [0.0, 0.5, 1.0]])
    for p in np.clip(np.concatenate([edges - 1e-9, edges + 1e-9]), 0, 1):
        mass = stats.binom.pmf(counts, n, p)
        assert mass[low > p].sum() <= alpha + 1e-6
        assert mass[high < p].sum() <= alpha + 1e-6


def test_the_ends_are_exact():
    assert clopper_pearson_low(0, 9, 0.05) == 0.0
    assert clopper_pearson_high(9, 9, 0.05) == 1.0
    assert clopper_pearson_low(9, 9, 0.05) == pytest.approx(0.05 ** (1 / 9), rel=1e-12)
    assert clopper_pearson_high(0, 9, 0.05) == pytest.approx(1 - 0.05 ** (1 / 9), rel=1e-12)


def test_scipy_agrees():
    for k in range(21):
        theirs = stats.binomtest(k, 20).proportion_ci(0.9, method="exact")
        assert clopper_pearson_low(k, 20, 0.05) == pytest.approx(theirs.low, abs=1e-9)
        assert clopper_pearson_high(k, 20, 0.05) == pytest.approx(theirs.high, abs=1e-9)


def test_counts_and_sizes_broadcast():
    assert clopper_pearson_low(np.arange(3)[:, None], np.array([5, 50]), 0.05).shape == (3, 2)


def test_large_counts_stay_finite():
    low = clopper_pearson_low([10**9 // 2], 10**9, 0.05)
    assert 0.49997 < low[0] < 0.5


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0), (float("nan"), 5)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(StatisticsError, match="is no count"):
        clopper_pearson_low(k, n, 0.05)
