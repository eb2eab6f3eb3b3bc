import numpy as np
import pytest

from redteam.report.metrics.tpr import attainable_tpr, tpr_examples_needed
from redteam.statistics import (
    attainable_auc,
    auc_examples_needed,
    smallest_resolvable_fpr,
)
from redteam.statistics.roc import auc_interval, tpr_at_fpr

SIZES = [
    (2, 2),
    (2, 50),
    (50, 2),
    (3, 7),
    (25, 25),
    (25, 250),
    (250, 25),
    (100, 439),
    (1000, 1000),
    (20_000, 500),
]


def separated(members, nonmembers):
    return np.arange(members + nonmembers, dtype=float), np.arange(members + nonmembers) >= nonmembers


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.0005])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_attainable_auc_is_what_separation_gives(sizes, alpha):
    found = auc_interval(*separated(*sizes), alpha=alpha)
    assert found.low == attainable_auc(*sizes, alpha=alpha)
    assert found.value == found.high == 1.0


@pytest.mark.parametrize("fpr", [0.2, 0.01, 0.001])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.0005])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_attainable_tpr_is_what_separation_gives(sizes, alpha, fpr):
    found = tpr_at_fpr(*separated(*sizes), fpr=fpr, alpha=alpha, seed=0)
    expected = attainable_tpr(*sizes, fpr=fpr, alpha=alpha)
    assert found.low == pytest.approx(expected, abs=1e-7)
    assert found.low > 0


def test_no_sample_goes_over_what_is_attainable():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores, is_member = rng.normal(0, 1, 40), np.arange(40) < 15
        scores[is_member] += 4
        assert auc_interval(scores, is_member, alpha=0.05).low <= attainable_auc(15, 25, alpha=0.05)


@pytest.mark.parametrize("alpha", [0.05, 0.0005])
@pytest.mark.parametrize("limit", [0.0, 0.5, 0.6, 0.9, 0.999])
def test_one_example_fewer_would_not_do_for_the_auc(limit, alpha):
    members, nonmembers = auc_examples_needed(limit, alpha=alpha)
    assert members == nonmembers
    assert attainable_auc(members, members, alpha=alpha) > limit
    if members > 2:
        assert attainable_auc(members - 1, members - 1, alpha=alpha) <= limit


@pytest.mark.parametrize("fpr", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("limit", [0.0, 0.01, 0.1, 0.9])
def test_far_fewer_examples_on_either_side_would_not_do_for_the_tpr(limit, fpr):
    members, nonmembers = tpr_examples_needed(limit, alpha=0.05, fpr=fpr)
    assert attainable_tpr(members, nonmembers, fpr=fpr, alpha=0.05) > limit
    assert attainable_tpr(members, int(nonmembers / 1.3), fpr=fpr, alpha=0.05) <= limit or nonmembers <= 3
    if members > 2:
        assert attainable_tpr(members - 1, nonmembers, fpr=fpr, alpha=0.05) <= limit


def test_a_limit_that_no_sample_exceeds_needs_no_number():
    assert auc_examples_needed(1.0, alpha=0.05) is None
    assert tpr_examples_needed(1.0, alpha=0.05, fpr=0.01) is None
    assert tpr_examples_needed(0.5, alpha=0.05, fpr=1e-12) is None
    assert auc_examples_needed(float("nan"), alpha=0.05) is None


def test_an_answer_of_many_millions():
    members, nonmembers = tpr_examples_needed(0.9999, alpha=0.0005, fpr=1e-6)
    assert members > 10_000
    assert nonmembers > 1_000_000


def test_too_few_examples_have_nothing_attainable():
    assert attainable_auc(1, 100, alpha=0.05) == 0.0
    assert attainable_tpr(0, 10_000, fpr=0.1, alpha=0.05) == 0.0
    assert smallest_resolvable_fpr(0) == 1.0


def test_the_resolution_follows_from_the_size():
    assert smallest_resolvable_fpr(1000) == pytest.approx(2.53e-3, rel=1e-2)
    assert (1 - 2 * smallest_resolvable_fpr(77, alpha=0.01)) ** 77 == pytest.approx(0.25 * 0.005)
