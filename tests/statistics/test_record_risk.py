"""The risk of single rows: intervals that hold, and a list that other references would give too."""

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from redteam.core import StatisticsError
from redteam.statistics.membership.moments import moments
from redteam.statistics.membership.record_risk import record_risk


def references(models, gap, deviation, *, seed):
    """Complementary pairs whose log-odds differ by `gap` where a row is in."""
    rng = np.random.default_rng(seed)
    included = np.empty((models, len(gap)), dtype=bool)
    included[::2] = rng.random((models // 2, len(gap))) < 0.5
    included[1::2] = ~included[::2]
    return moments(gap * included + rng.normal(0, 1, included.shape) * deviation, included)


def rows(count, *, seed=0):
    rng = np.random.default_rng(seed)
    gap = rng.gamma(1.5, 0.8, count)
    return gap, 0.7 * np.ones(count), norm.cdf(gap / (0.7 * np.sqrt(2)))


@pytest.mark.parametrize("models", [4, 16])
def test_intervals_hold_the_truth_as_often_as_they_say(models):
    gap, deviation, truth = rows(4000)
    made = record_risk(references(models, gap, deviation, seed=1), alpha=0.1)
    for missed in (truth < made.low, truth > made.high):
        assert missed.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000) + 0.005
    assert (made.low <= made.high).all()


def test_the_list_is_that_of_other_references():
    """The more references, the more alike two lists are; a row's own gap as it is would be less alike."""
    gap, deviation, truth = rows(1500)
    alike = []
    for models in (4, 16, 64):
        one, other = (record_risk(references(models, gap, deviation, seed=s), alpha=0.1).expected for s in (2, 3))
        alike.append(spearmanr(one, other).statistic)
    assert alike == sorted(alike)
    assert alike[2] > 0.9
    assert spearmanr(one, truth).statistic > 0.9


def test_expected_is_nearer_to_the_truth_than_the_gap_alone():
    gap, deviation, truth = rows(1500)
    found = references(4, gap, deviation, seed=4)
    plain = norm.cdf(found.gap / (0.7 * np.sqrt(2)))
    made = record_risk(found, alpha=0.1).expected
    assert np.abs(made - truth).mean() < np.abs(plain - truth).mean()


def test_where_no_row_is_at_risk_no_interval_says_so_more_often_than_it_may():
    made = record_risk(references(8, np.zeros(4000), np.ones(4000), seed=5), alpha=0.1)
    assert (made.low > 0.5).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000) + 0.005
    assert made.expected.max() - made.expected.min() < 0.2


def test_every_row_needs_two_on_either_side():
    gap, deviation, _ = rows(10)
    with pytest.raises(StatisticsError, match="at least 4"):
        record_risk(references(2, gap, deviation, seed=0), alpha=0.1)
