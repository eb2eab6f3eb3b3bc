"""The interval for a mean of numbers between 0 and 1 holds at least as often as it says."""

import numpy as np
import pytest

from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.bounded import largest_mean_bound, mean_interval


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_it_covers(alpha):
    rng, missed = np.random.default_rng(0), np.zeros(3)
    for _ in range(1500):
        for kind, numbers in enumerate((rng.random(40) < 0.1, rng.beta(0.3, 0.6, 60), rng.uniform(size=30))):
            interval = mean_interval(numbers.astype(float), alpha=alpha)
            missed[kind] += not interval.low <= (0.1, 1 / 3, 0.5)[kind] <= interval.high
    assert (missed / 1500 <= alpha).all()


def test_it_is_a_little_wider_than_the_exact_one_for_shares():
    for right in (0, 3, 50, 97, 100):
        interval = mean_interval(np.r_[np.ones(right), np.zeros(100 - right)], alpha=0.05)
        low, high = clopper_pearson_low(right, 100, 0.025), clopper_pearson_high(right, 100, 0.025)
        assert low - 0.05 <= interval.low <= low + 1e-9
        assert high - 1e-9 <= interval.high <= high + 0.05
    assert interval.low == pytest.approx(largest_mean_bound(100, alpha=0.05))
