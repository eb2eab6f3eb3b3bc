"""Stacked scores, their fidelity and their forecast, on references that differ by region as models of texts do."""

from dataclasses import replace

import numpy as np
import pytest

from redteam.statistics.area import area, area_interval
from redteam.statistics.membership.fidelity import SAME_RECIPE, fidelity_slope, forecast
from redteam.statistics.membership.likelihood import lira, moderated_t
from redteam.statistics.membership.moments import moments, offset
from redteam.statistics.membership.neighbours import NeighbourKernel, agreement
from redteam.statistics.membership.stacking import (
    ReferenceTable,
    local_score,
    other_recipe_score,
    stack,
    stacked_score,
)
from redteam.statistics.ranking import rank


def drawn(models, *, rows=300, lift=1.2, seed=0, topics=25):
    """Models whose log-odds differ by topic, by chance: vectors, labels, a table of references, and one more model."""
    rng = np.random.default_rng(seed)
    centres, topic = rng.standard_normal((topics, 12)), rng.integers(0, topics, rows)
    vectors = centres[topic] + 0.4 * rng.standard_normal((rows, 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hard = rng.normal(2, 2, rows)

    def model(included):
        return hard + rng.normal(0, 1, topics)[topic] + rng.normal(0, 0.6, rows) + lift * included

    included = np.array([rng.permutation(rows) < rows // 2 for _ in range(models)])
    included[1::2] = ~included[: models - models % 2 : 2]
    partner = tuple((k ^ 1) if (k ^ 1) < models else -1 for k in range(models))
    table = ReferenceTable(np.array([model(each) for each in included]), included, partner)
    member = rng.permutation(rows) < rows // 2
    return vectors, topic % 5, table, model(member), member


def world(models, **options):
    """The same with the rows as neighbours."""
    vectors, labels, *rest = drawn(models, **options)
    return NeighbourKernel(vectors, labels), agreement(vectors, labels), *rest


def found_by(scores, member):
    return area(rank(scores, member))


def best(target, table, rows, fit):
    return stacked_score(target, table, rows) if len(table) >= 4 else local_score(target, table, rows, fit)


@pytest.mark.parametrize(("models", "least"), [(1, 0.68), (2, 0.73), (3, 0.73), (4, 0.78), (8, 0.80)])
def test_references_find_more_than_the_offset_and_more_the_more_there_are(models, least):
    rows, fit, table, target, member = world(models)
    made = found_by(best(target, table, rows, fit), member)
    assert made > least
    assert made > found_by(offset(target, table.moments()), member) + 0.03


@pytest.mark.parametrize("models", [1, 2, 4, 8])
def test_nothing_is_found_where_nothing_leaks(models):
    """The target was trained on none of it: over new draws of members, no more intervals miss one half than may."""
    rows, fit, table, target, _ = world(models, lift=0.0)
    rng = np.random.default_rng(9)
    for form in (best, lambda t, r, n, f: other_recipe_score(t, r, n, f)):
        scores = form(target, table, rows, fit)
        members = (rng.permutation(300) < 150 for _ in range(100))
        seen = [area_interval(rank(scores, member), alpha=0.05) for member in members]
        assert sum(not each.low <= 0.5 <= each.high for each in seen) <= 11  # of a binomial of 5, once in 200


@pytest.mark.parametrize("models", [8, 16, 32])
def test_rows_whose_models_differ_in_and_out_are_told_at_least_as_well_as_by_lira(models):
    """As with words that only one text has: models that know a row agree on it, the others each say something else."""
    rng = np.random.default_rng(4)
    rows, _, table, _, member = world(models, rows=600)
    spread = np.where(np.vstack([table.included, member]), 0.1, 1.0) * np.exp(rng.normal(0, 0.5, 600))
    said = rng.normal(0, 1, 600) + 0.2 * np.vstack([table.included, member])
    said = said + spread * rng.standard_normal(spread.shape)
    table, target = ReferenceTable(said[:-1], table.included, table.partner), said[-1]
    stack = found_by(stacked_score(target, table, rows), member)
    for pooled in (False, True):
        assert stack >= found_by(lira(target, table.moments(), pooled=pooled), member) - 0.005
    assert stack > found_by(moderated_t(target, table.moments()), member) + 0.05


def test_a_variance_of_each_side_is_left_out_where_a_side_has_none():
    """Six models that were trained on nearly nothing: no row is known by two of those that are left of them."""
    rows, _, table, target, _ = world(6, rows=60)
    few = np.zeros_like(table.included)
    few[np.arange(6), np.arange(6)] = True
    assert np.isfinite(stacked_score(target, ReferenceTable(table.log_odds, few, (-1,) * 6), rows)).all()


def test_a_reference_that_plays_the_target_is_scored_without_itself_and_its_complement():
    *_, table, _, _ = world(6, rows=40)
    left = table.others(2)
    assert len(left) == 4
    np.testing.assert_array_equal(left.log_odds, table.log_odds[[0, 1, 4, 5]])
    np.testing.assert_array_equal(left.included, table.included[[0, 1, 4, 5]])


def test_the_offset_of_one_model_more_is_that_of_its_row():
    _, _, table, target, _ = world(4, rows=40)
    found = moments(table.log_odds, table.included)
    np.testing.assert_allclose(offset(target, found), target - table.moments().middle)
    assert np.isfinite(moderated_t(target, found)).all()


class TestFidelity:
    """How the target's log-odds rise with the references'."""

    @pytest.mark.parametrize("models", [2, 4, 8])
    def test_models_of_one_recipe_have_slope_one(self, models):
        for seed in range(5):
            *_, table, target, _ = drawn(models, rows=2000, topics=400, seed=seed)
            slope = fidelity_slope(target, table)
            assert SAME_RECIPE[0] < slope < SAME_RECIPE[1]
            assert slope == pytest.approx(1, abs=0.12)

    def test_another_recipe_shows(self):
        *_, table, target, _ = drawn(6, rows=2000, topics=400)
        assert fidelity_slope(0.5 * target, table) == pytest.approx(0.5, abs=0.06)
        assert fidelity_slope(2 * target, table) == pytest.approx(2, abs=0.24)

    def test_one_reference_has_nothing_to_be_compared_with(self):
        *_, table, target, _ = drawn(1)
        assert fidelity_slope(target, table) is None

    def test_references_that_say_the_same_of_all_rows(self):
        *_, table, target, _ = drawn(2)
        assert (
            fidelity_slope(target, ReferenceTable(np.ones_like(table.log_odds), table.included, table.partner)) is None
        )


def test_where_the_recipe_is_another_one_the_regression_finds_more_than_the_middle():
    rows, fit, table, target, member = world(8)
    overfitted = ReferenceTable(2.5 * table.log_odds, table.included, table.partner)
    regression = found_by(other_recipe_score(target, overfitted, rows, fit), member)
    assert regression > found_by(offset(target, overfitted.moments()), member) + 0.1
    assert regression > 0.75


def test_the_forecast_is_what_the_attack_finds():
    rows, fit, table, target, member = world(8, rows=400)
    told = forecast(table, lambda one, rest: best(one, rest, rows, fit))
    assert told.shape == (8,)
    assert told.mean() == pytest.approx(found_by(best(target, table, rows, fit), member), abs=0.04)


def test_of_one_pair_nothing_is_forecast():
    rows, fit, table, _, _ = world(2, rows=60)
    assert len(forecast(table, lambda one, rest: best(one, rest, rows, fit))) == 0


@pytest.mark.parametrize("models", [1, 2, 4, 8])
def test_where_training_makes_models_less_sure_members_are_told_all_the_same(models):
    rows, fit, table, target, member = world(models, rows=600, lift=-1.2)
    assert table.moments().direction == -1
    assert found_by(target, member) < 0.5
    assert found_by(best(target, table, rows, fit), member) > 0.65
    assert found_by(other_recipe_score(target, table, rows, fit), member) > 0.65


@pytest.mark.parametrize("models", [1, 2, 8])
def test_chance_does_not_turn_the_direction(models):
    assert [drawn(models, lift=0.0, seed=seed, topics=200)[2].moments().direction for seed in range(8)] == [1.0] * 8


@pytest.mark.parametrize("models", [4, 8])
def test_references_that_remember_nothing_do_not_hide_what_the_target_remembers(models):
    """Weights learned from such references are noise, by which members were told no better than by lot."""
    rng = np.random.default_rng(3)
    rows, fit, table, _, member = world(models)
    difficulty = rng.normal(1.0, 2.0, 300)
    said = difficulty + 0.7 * rng.standard_normal((models + 1, 300))
    blank, target = replace(table, log_odds=said[:-1]), said[-1] + member
    made = stack(target, blank, rows)
    assert not made.learned
    np.testing.assert_array_equal(made.score, local_score(target, blank, rows, fit))
    assert found_by(made.score, member) > 0.75
    telling = replace(table, log_odds=said[:-1] + table.included)
    assert stack(target, telling, rows).learned
