"""RT108: the rows at most risk, with intervals that allow for their being picked, and the same list by other models."""

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from attacks.membership.record_risk import RecordRisk
from redteam.plugins.reference_scores import ReferenceScores
from redteam.testing.manual import check_manual

EVERY = {"alpha": 0.05}


def references(models, gap, deviation=1.0, *, seed=0):
    """Complementary pairs of models that are `gap` surer of a row they were trained on."""
    rng = np.random.default_rng(seed)
    included = np.empty((models, len(gap)), dtype=bool)
    included[::2] = rng.random((models // 2, len(gap))) < 0.5
    included[1::2] = ~included[::2]
    partner = tuple(model + 1 - 2 * (model % 2) for model in range(models))
    return ReferenceScores(gap * included + rng.normal(0, 1, included.shape) * deviation, included, partner)


def test_manual():
    check_manual(RecordRisk(), r"RT108")


def test_rows_that_certainly_leak_head_the_list_and_are_proven():
    gap = np.where(np.arange(400) < 10, 12.0, 0.1)
    found = RecordRisk().list_rows(references(8, gap), np.ones(400, bool), most=10, alpha=0.05)
    assert sorted(found.rows) == list(range(10))
    assert found.low.min() > 0.8
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


def test_where_no_row_leaks_none_is_proven():
    listed = [
        RecordRisk().list_rows(references(8, np.zeros(300), seed=s), np.ones(300, bool), most=10, **EVERY)
        for s in range(40)
    ]
    assert np.mean([found.low > 0.5 for found in listed]) <= 0.05


@pytest.mark.parametrize("models", [4, 8, 16])
def test_of_the_intervals_listed_no_more_miss_than_may_although_they_were_picked(models):
    missed, naive = [], []
    for seed in range(60):
        rng = np.random.default_rng([models, seed])
        gap, deviation = rng.gamma(1, 0.5, 400), np.sqrt(0.5 / rng.gamma(3, 1 / 3, 400))
        truth = norm.cdf(gap / deviation / np.sqrt(2))
        given = references(models, gap, deviation, seed=seed)
        for alpha, into in ((0.05, missed), (0.05 * 40, naive)):  # the second takes the picking back
            found = RecordRisk().list_rows(given, np.ones(400, bool), most=10, alpha=alpha)
            into.append(((truth[found.rows] < found.low) | (truth[found.rows] > found.high)).mean())
    assert np.mean(missed) <= 0.05 + 3 * np.std(missed) / np.sqrt(len(missed))
    assert np.mean(naive) > np.mean(missed)


def test_other_references_give_nearly_the_same_list():
    gap = np.random.default_rng(1).gamma(1.5, 2, 300)
    everyone = np.ones(300, bool)
    one, other = (RecordRisk().list_rows(references(32, gap, seed=s), everyone, most=300, **EVERY) for s in (1, 2))
    places = [np.argsort(found.rows) for found in (one, other)]
    assert spearmanr(*places).statistic > 0.9


def test_the_naive_twin():
    """Row by row, with Python's own sums: the gap's mean over its spread, where rows are all alike in spread."""
    gap = np.linspace(0, 6, 50)
    given = references(64, gap, seed=3)
    found = RecordRisk().list_rows(given, np.ones(50, bool), most=50, alpha=1e-6)
    for row, value in zip(found.rows, found.value, strict=True):
        odds, inside = given.log_odds[:, row], given.included[:, row]
        spread = np.sqrt((odds[inside].var() * inside.sum() + odds[~inside].var() * (~inside).sum()) / 62)
        assert value == pytest.approx(
            norm.cdf((odds[inside].mean() - odds[~inside].mean()) / spread / 2**0.5), abs=0.06
        )


def test_only_rows_with_enough_models_on_either_side_are_listed():
    given = references(4, np.full(30, 9.0))
    log_odds, included = given.log_odds.copy(), given.included.copy()
    included[:, 7] = [True, True, True, False]
    lopsided = ReferenceScores(log_odds, included, (-1,) * 4)
    among = np.zeros(30, bool)
    among[[3, 7, 9]] = True
    found = RecordRisk().list_rows(lopsided, among, most=10, **EVERY)
    assert sorted(found.rows) == [3, 9]
    assert RecordRisk().lacking(lopsided) is None


def test_two_models_are_too_few_and_it_says_so():
    assert "needs 2 reference models" in RecordRisk().lacking(references(2, np.ones(5)))
    among = np.zeros(5, bool)
    assert list(RecordRisk().list_rows(references(8, np.ones(5)), among, most=10, **EVERY).rows) == []
