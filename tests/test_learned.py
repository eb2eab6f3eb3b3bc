"""The exact test of whether a model learned anything: against scipy's binomial, and its level."""

import numpy as np
import pytest
from scipy import stats

from redteam.learned import ALPHA, fewest_right, has_learned, surely_worse


@pytest.mark.parametrize("of", [2, 7, 30, 400, 20_000])
@pytest.mark.parametrize("commonest", [0.0, 0.019, 0.3, 0.5, 0.97, 1.0])
def test_it_is_the_binomial_test(of, commonest):
    for right in np.unique(np.linspace(0, of, 41).round()).astype(int).tolist():
        above = right > 0 and commonest < 1 and stats.binom.sf(right - 1, of, commonest) <= ALPHA
        assert has_learned(right, of, commonest) == above, right
        below = right < commonest * of and stats.binom.cdf(right, of, commonest) <= 1e-4
        assert surely_worse(right, of, commonest) == below, right


def test_a_model_that_knows_nothing_counts_as_trained_at_most_as_often_as_the_level_says():
    rng, found = np.random.default_rng(0), 0
    for _ in range(2000):
        own = rng.choice(5, size=60, p=[0.4, 0.3, 0.1, 0.1, 0.1])
        answers = np.zeros(60, int) if rng.random() < 0.5 else rng.choice(5, size=60, p=[0.8, 0.2, 0, 0, 0])
        found += has_learned(int((own == answers).sum()), 60, np.bincount(own).max() / 60)
    assert found <= stats.binom.ppf(0.999, 2000, ALPHA)


def test_the_fewest_that_show_it():
    for of in (1, 2, 5, 30, 333):
        for commonest in (0.0, 0.05, 0.4, 0.9, 1.0):
            enough = next((k for k in range(of + 1) if has_learned(k, of, commonest)), None)
            assert fewest_right(of, commonest) == enough


def test_millions_of_members_take_no_time():
    assert has_learned(501_500, 1_000_000, 0.5)
    assert not has_learned(500_500, 1_000_000, 0.5)
    assert not has_learned(float("nan"), 1000, 0.2)
    assert not surely_worse(float("nan"), 1000, 0.2)
