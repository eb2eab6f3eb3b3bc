"""Whether references answer as the target would: by membership for reports, blindly for attacks."""

import numpy as np
import pytest

from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.fidelity import fidelity
from redteam.statistics.membership.fidelity import fidelity_slope, forecast
from redteam.statistics.membership.moments import offset
from redteam.statistics.membership.stacking import ReferenceTable

ROWS, MODELS = 2000, 8


def simulate(seed, *, stretch=1.0, gap=1.0, noise=0.7, rows=ROWS, models=MODELS):
    """A target and references: each row has its own difficulty, which another recipe stretches."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(1.0, 2.0, rows)
    half = np.array([rng.permutation(rows) < rows // 2 for _ in range(models // 2)])
    included = np.array([side for each in half for side in (each, ~each)])
    odds = difficulty + gap * included + noise * rng.normal(size=included.shape)
    is_member = rng.random(rows) < 0.5
    target = stretch * difficulty + gap * is_member + noise * rng.normal(size=rows)
    return target, is_member, ReferenceScores(odds, included, tuple(i ^ 1 for i in range(models)))


def table(references):
    return ReferenceTable(references.log_odds, references.included, references.partner)


def simplest(target, references):
    return offset(target, references.moments())


def test_the_slope_of_the_same_recipe_is_near_one_and_others_lie_beyond():
    same = fidelity(*simulate(0))
    assert same.slope == pytest.approx(4 / (4 + 0.7**2 / 4), abs=0.05)  # noise of the means takes a little off
    assert same.relative == pytest.approx(1, abs=0.05)
    assert same.same_recipe
    for stretch in (0.5, 2.0):
        other = fidelity(*simulate(0, stretch=stretch))
        assert not other.same_recipe
        assert "ANOTHER RECIPE" in other.words


@pytest.mark.parametrize("stretch", [0.5, 0.75, 1.0, 1.5, 2.0])
def test_without_membership_the_slope_is_that_of_the_recipe(stretch):
    target, _, references = simulate(1, stretch=stretch)
    assert fidelity_slope(target, table(references)) == pytest.approx(stretch, abs=0.06)


@pytest.mark.parametrize("models", [2, 4, 16])
def test_how_many_references_there_are_does_not_move_it(models):
    """The slope itself falls with the noise of few references, by half of it here."""
    target, is_member, references = simulate(6, models=models, noise=2.0)
    assert fidelity(target, is_member, references).relative == pytest.approx(1, abs=0.1)
    assert fidelity_slope(target, table(references)) == pytest.approx(1, abs=0.1)


def test_who_is_a_member_does_not_move_the_blind_slope():
    found = []
    for gap in (0.0, 1.0, 3.0):
        target, _, references = simulate(2, gap=gap)
        found.append(fidelity_slope(target, table(references)))
    assert np.ptp(found) < 0.08


def test_accuracy_and_loss_are_those_of_rows_that_nobody_was_trained_on():
    target, is_member, references = simulate(3)
    right = ReferenceScores(references.log_odds, references.included, references.partner, references.log_odds > 0)
    found = fidelity(target, is_member, right, target > 0)
    outside = target[~is_member]
    assert found.accuracy[0] == (outside > 0).mean()
    assert found.loss[0] == pytest.approx(np.log1p(np.exp(-outside)).mean())
    assert found.loss[0] == pytest.approx(found.loss[1], abs=0.05)


def test_the_forecast_is_what_the_target_gives():
    from redteam.statistics.area import area
    from redteam.statistics.ranking import rank

    target, is_member, references = simulate(4)
    assert forecast(table(references), simplest).mean() == pytest.approx(
        area(rank(simplest(target, table(references)), is_member)), abs=0.02
    )


def test_the_middle_of_rows_with_one_side_only_is_moved_by_the_mean_gap():
    odds, inside = np.array([[2.0, 0.0, 5.0], [0.0, 2.0, 5.0]]), np.array([[True, False, True], [False, True, True]])
    assert ReferenceTable(odds, inside, (-1, -1)).moments().middle.tolist() == [1.0, 1.0, 4.0]


def test_too_little_to_compare_is_none():
    target, is_member, references = simulate(5, rows=8)
    assert fidelity(target, is_member, references).slope is None
    assert fidelity(target, np.ones(8, bool), references) is None
    one = ReferenceScores(references.log_odds[:1], references.included[:1], (-1,))
    assert not len(forecast(table(one), simplest))
