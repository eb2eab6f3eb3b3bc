"""The smallest leak that an audit says it would have proven is proven four times in five."""

import numpy as np
import pytest
from scipy import stats

from redteam.report.metrics.auc import detectable_auc
from redteam.report.metrics.tpr import detectable_tpr
from redteam.statistics.roc import auc_interval, tpr_at_fpr

RUNS = 250  # a standard error of 0.025


def power(found, shift, sizes):
    """Return how often a member scored `shift` higher is found, with normal scores."""
    rng, is_member = np.random.default_rng(4), np.arange(sum(sizes)) < sizes[0]
    return np.mean([found(rng.normal(is_member * shift), is_member, run) for run in range(RUNS)])


@pytest.mark.parametrize(("sizes", "limit"), [((300, 300), 0.55), ((150, 900), 0.6), ((900, 150), 0.6)])
def test_the_auc_that_is_detectable(sizes, limit):
    least = detectable_auc(limit, *sizes, error=0.025)
    shift = np.sqrt(2) * stats.norm.ppf(least)
    assert power(lambda s, m, _: auc_interval(s, m, alpha=0.05).low > limit, shift, sizes) == pytest.approx(
        0.8, abs=0.08
    )


@pytest.mark.parametrize(
    ("sizes", "fpr", "limit"), [((300, 300), 0.01, 0.05), ((150, 900), 0.1, 0.2), ((900, 150), 0.05, 0.1)]
)
def test_the_tpr_that_is_detectable(sizes, fpr, limit):
    least = detectable_tpr(limit, *sizes, fpr=fpr, error=0.02)
    shift = stats.norm.isf(fpr) - stats.norm.isf(least)
    found = power(lambda s, m, run: tpr_at_fpr(s, m, fpr=fpr, alpha=0.04, seed=run).low > limit, shift, sizes)
    assert found == pytest.approx(0.8, abs=0.08)


def test_what_no_sample_of_the_size_proves_is_not_detectable():
    assert detectable_auc(0.9, 10, 1000, error=0.01) is None
    assert detectable_tpr(0.5, 10, 10, fpr=0.01, error=0.01) is None
