"""Whether references answer as the target would: by membership for reports, blindly for attacks."""

import numpy as np
import pytest

from attacks.membership.references import best_form
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.fidelity import fidelity
from redteam.statistics.membership.fidelity import SAME_RECIPE, WIDEST, fidelity_slope, forecast, slopes_of_one_recipe
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
    assert same.slope == pytest.approx(1, abs=0.05)
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
    """The slope on their mean falls with the noise of few references, by half of it here."""
    target, _, references = simulate(6, models=models, noise=2.0)
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
    assert fidelity(target, np.ones(8, bool), references).loss is None
    one = ReferenceScores(references.log_odds[:1], references.included[:1], (-1,))
    assert fidelity(target, is_member, one).slope is None
    assert not fidelity(target, is_member, one).same_recipe
    assert not len(forecast(table(one), simplest))


def test_the_attack_and_the_report_go_by_one_slope_and_one_window():
    for stretch in (0.5, 0.8, 0.9, 1.0, 1.3, 1.4, 2.0):
        target, is_member, references = simulate(7, stretch=stretch)
        found, known = fidelity(target, is_member, references), table(references)
        assert (found.slope, found.window) == (fidelity_slope(target, known), slopes_of_one_recipe(known))
        assert (best_form(MODELS, found.slope, found.window) == "other_recipe") == (not found.same_recipe)


def test_the_window_is_as_wide_as_references_differ_and_no_wider_than_that():
    assert slopes_of_one_recipe(table(simulate(8)[2])) == SAME_RECIPE
    *_, references = simulate(9)
    stretched = np.array([1.6, 1.6, 0.7, 0.7, 1.0, 1.0, 1.0, 1.0])[:, None] * references.log_odds
    low, high = slopes_of_one_recipe(ReferenceTable(stretched, references.included, references.partner))
    assert WIDEST[0] <= low < 0.8 < 1.5 < high <= WIDEST[1]
    four = ReferenceTable(stretched[:4], references.included[:4], references.partner[:4])
    low, high = slopes_of_one_recipe(four)
    assert WIDEST[0] <= low < 0.8 < 1.5 < high <= WIDEST[1]
    two = ReferenceTable(stretched[:2], references.included[:2], references.partner[:2])
    assert slopes_of_one_recipe(two) == SAME_RECIPE


@pytest.mark.parametrize("models", [4, 8])
def test_models_that_are_sure_of_every_row_have_no_slope_on_each_other(models):
    """What is left of their log-odds is noise of whatever size, over which any slope may come out."""
    rng = np.random.default_rng(12)
    included = np.array([side for _ in range(models // 2) for side in [rng.permutation(60) < 30]])
    included = np.stack([included, ~included], axis=1).reshape(models, 60)
    for _ in range(20):
        spread = np.exp(rng.normal(-1, 1.5, (models + 1, 1)))  # of one recipe, measured: 0.06 to 2.3
        odds = 5 + spread * rng.normal(size=(models + 1, 60))
        references = ReferenceScores(odds[1:], included, tuple(i ^ 1 for i in range(models)))
        found = fidelity(odds[0], included[0], references)
        assert found.slope is None
        assert "no slope" in found.words
        assert not found.same_recipe


def test_references_that_know_nothing_of_each_other_are_of_no_recipe():
    """As a file of noise in the place of scores: nothing that an attack with it misses may count."""
    target, is_member, references = simulate(10)
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=references.log_odds.shape)
        found = fidelity(target, is_member, ReferenceScores(noise, references.included, references.partner))
        assert not found.same_recipe


def test_the_slope_is_that_of_a_line_fitted_to_each_pair():
    target, _, references = simulate(11, rows=300)
    odds, known = references.log_odds, table(references)
    apart = [(i, j) for i in range(MODELS) for j in range(MODELS) if j not in (i, i ^ 1)]
    among = np.mean([np.polyfit(odds[j], odds[i], 1)[0] for i, j in apart])
    own = np.mean([np.polyfit(each, target, 1)[0] for each in odds])
    assert fidelity_slope(target, known) == pytest.approx(own / among, rel=1e-9)
