"""Scores from reference models against their definitions, a row at a time, and against numbers of other projects."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import digamma, log_expit, logsumexp, polygamma
from scipy.stats import norm, t

from redteam.core import StatisticsError
from redteam.statistics.membership.likelihood import (
    curve_ratio,
    lira,
    lira_offline,
    moderated_sides,
    moderated_t,
    shared_spread_ratio,
    spread_of,
)
from redteam.statistics.membership.moments import moments, offset, ratio, ratio_offline

RECORDED = json.loads(Path(__file__).with_name("recorded_reference_scores.json").read_text(encoding="utf-8"))


def drawn(models, rows, *, seed=0, lift=1.0, paired=True):
    """Log-odds of a target and of references, where `lift` is what training on a row adds."""
    rng = np.random.default_rng(seed)
    included = rng.random((models, rows)) < 0.5
    if paired:
        included[1::2] = ~included[: models - models % 2 : 2]
    hard, member = rng.normal(2, 2, rows), rng.random(rows) < 0.5
    log_odds = hard + rng.normal(0, 0.7, (models, rows)) + lift * included
    return hard + rng.normal(0, 0.7, rows) + lift * member, log_odds, included, member


def sides(log_odds, included, i):
    return log_odds[included[:, i], i], log_odds[~included[:, i], i]


def prior_of(squares, freedom):
    """The prior's degrees of freedom and variance, by bisection; rows have all the same degrees of freedom."""
    d = freedom / 2
    logs = np.array([np.log(s / freedom + 1e-9) - digamma(d) + np.log(d) for s in squares])
    excess = logs.var() - float(polygamma(1, d))
    prior = 1e6
    if excess > 0:
        low, high = 1e-3, 1e6
        for _ in range(200):
            prior = np.sqrt(low * high)
            low, high = (prior, high) if polygamma(1, prior / 2) > excess else (low, prior)
    return prior, np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))


def probability(log_odds):
    return 1 / (1 + np.exp(-np.asarray(log_odds)))


class TestDefinitions:
    """The naive twin of each score: a loop over rows."""

    target, log_odds, included, _ = drawn(8, 50)
    found = moments(log_odds, included)

    def test_moments(self):
        for i in range(50):
            inside, outside = sides(self.log_odds, self.included, i)
            assert self.found.mean_in[i] == pytest.approx(inside.mean())
            assert self.found.mean_out[i] == pytest.approx(outside.mean())
            assert self.found.squares_in[i] == pytest.approx(inside.var() * len(inside))
            assert self.found.squares_out[i] == pytest.approx(outside.var() * len(outside))
            assert self.found.freedom[i] == 6

    def test_offset_and_ratios(self):
        made = offset(self.target, self.found)
        online, offline = ratio(self.target, self.log_odds), ratio_offline(self.target, self.log_odds, self.included)
        for i in range(50):
            inside, outside = sides(self.log_odds, self.included, i)
            p = probability(self.target[i])
            assert made[i] == pytest.approx(self.target[i] - (inside.mean() + outside.mean()) / 2)
            assert online[i] == pytest.approx(np.log(p / probability(self.log_odds[:, i]).mean()))
            assert offline[i] == pytest.approx(np.log(p / (0.65 * probability(outside).mean() + 0.35)))

    def test_lira(self):
        one, pooled = lira(self.target, self.found), lira(self.target, self.found, pooled=True)
        half, half_pooled = lira_offline(self.target, self.found), lira_offline(self.target, self.found, pooled=True)
        left = [sides(self.log_odds, self.included, i) for i in range(50)]
        spread = [np.concatenate([each[side] - each[side].mean() for each in left]).std() for side in (0, 1)]
        for i, (inside, outside) in enumerate(left):
            x = self.target[i]
            expected = norm.logpdf(x, inside.mean(), inside.std()) - norm.logpdf(x, outside.mean(), outside.std())
            assert one[i] == pytest.approx(expected)
            expected = norm.logpdf(x, inside.mean(), spread[0]) - norm.logpdf(x, outside.mean(), spread[1])
            assert pooled[i] == pytest.approx(expected)
            assert half[i] == pytest.approx(-norm.logsf(x, outside.mean(), outside.std()))
            assert half_pooled[i] == pytest.approx(-norm.logsf(x, outside.mean(), spread[1]))

    def test_moderated_t(self):
        squares = [sum(side.var() * len(side) for side in sides(self.log_odds, self.included, i)) for i in range(50)]
        prior, typical = prior_of(squares, 6)
        made = moderated_t(self.target, self.found)
        for i in range(50):
            inside, outside = sides(self.log_odds, self.included, i)
            variance = (prior * typical + squares[i]) / (prior + 6)
            parts = [
                t.logpdf(self.target[i], prior + 6, side.mean(), np.sqrt(variance * (1 + 1 / len(side))))
                for side in (inside, outside)
            ]
            assert made[i] == pytest.approx(parts[0] - parts[1], rel=1e-6)

    def test_moderated_sides(self):
        left = [sides(self.log_odds, self.included, i) for i in range(50)]
        priors = [prior_of([each[side].var() * 4 for each in left], 3) for side in (0, 1)]
        made = moderated_sides(self.target, self.found)
        for i, each in enumerate(left):
            parts = []
            for (prior, typical), side in zip(priors, each, strict=True):
                scale = np.sqrt((prior * typical + side.var() * 4) / (prior + 3) * (1 + 1 / 4))
                parts.append(t.logpdf(self.target[i], prior + 3, side.mean(), scale))
            assert made[i] == pytest.approx(parts[0] - parts[1], rel=1e-6)


def test_a_prior_is_found_where_variances_differ():
    """Rows whose variances are drawn from an inverse gamma distribution: its degrees of freedom come out."""
    from redteam.statistics.membership.likelihood import moderated

    rng = np.random.default_rng(1)
    d0, rows = 6.0, 20_000
    deviation = np.sqrt(d0 * 0.5 / rng.chisquare(d0, rows))
    included = np.arange(8)[:, None] % 2 == np.zeros(rows)
    freedom, variance = moderated(moments(rng.normal(0, 1, (8, rows)) * deviation, included))
    assert freedom[0] - 6 == pytest.approx(d0, rel=0.1)
    assert np.corrcoef(np.log(variance), np.log(deviation))[0, 1] > 0.7


@pytest.mark.parametrize("middle", [-900.0, -300.0, -40.0, 0.0, 3.0])
def test_the_ratio_is_that_of_logs_that_are_added(middle):
    rng = np.random.default_rng(3)
    target, log_odds = middle + rng.normal(0, 3, 50), middle + rng.normal(0, 3, (6, 50))
    expected = log_expit(target) - logsumexp(log_expit(log_odds), axis=0) + np.log(6)
    np.testing.assert_allclose(ratio(target, log_odds), expected, rtol=1e-12, atol=1e-12)


def test_the_ratio_still_ranks_rows_of_which_all_models_are_sure():
    """Where p is 1 but for 1e-18 its log, added up as it is, would be 0 for all."""
    sure = np.linspace(40, 60, 20)
    made = ratio(sure, np.tile(sure - 1.0, (4, 1)))
    np.testing.assert_allclose(made, np.exp(-sure) * (np.e - 1), rtol=1e-9)


def test_the_ratio_with_a_population_is_a_step_function_of_the_ratio_without():
    """RMIA's count over a population ranks rows as the ratio does."""
    made = ratio(np.array(RECORDED["target"]), np.array(RECORDED["log_odds"]))
    counted = np.array(RECORDED["privacyguard"]["rmia"])
    assert (np.diff(counted[np.argsort(made)]) >= 0).all()


class TestRecorded:
    """The same numbers as implementations that nobody here wrote; the file names them with their licences."""

    target, log_odds = np.array(RECORDED["target"]), np.array(RECORDED["log_odds"])
    included = np.array(RECORDED["included"]) == 1
    found = moments(log_odds, included)

    def test_tensorflow_privacy(self):
        theirs = RECORDED["tensorflow_privacy"]
        exact = {"rtol": 1e-9, "atol": 1e-9}
        np.testing.assert_allclose(lira(self.target, self.found), theirs["lira"], **exact)
        np.testing.assert_allclose(lira(self.target, self.found, pooled=True), theirs["lira_pooled"], **exact)
        np.testing.assert_allclose(offset(self.target, self.found), theirs["offset"], **exact)

    def test_privacyguard(self):
        theirs, population = RECORDED["privacyguard"], np.array(RECORDED["population_log_odds"])
        of_population = np.array(RECORDED["population_target"])
        np.testing.assert_allclose(lira(self.target, self.found), theirs["lira"], rtol=1e-9, atol=1e-9)
        online = ratio(self.target, self.log_odds)[:, None] > ratio(of_population, population)
        np.testing.assert_allclose(online.mean(axis=1), theirs["rmia"], atol=1e-9)
        largest = np.argsort(np.argsort(population, axis=0), axis=0) < 4  # it takes the other four of each row
        offline = ratio_offline(self.target, self.log_odds, self.included)[:, None] > ratio_offline(
            of_population, population, largest
        )
        np.testing.assert_allclose(offline.mean(axis=1), theirs["rmia_offline"], atol=1e-9)


@pytest.mark.parametrize("models", [1, 2, 3, 4, 8])
def test_scores_are_finite_where_a_side_is_empty(models):
    target, log_odds, included, _ = drawn(models, 60, paired=False)
    found = moments(log_odds, included)
    made = [offset(target, found), ratio(target, log_odds), ratio_offline(target, log_odds, included)]
    made += [curve_ratio(target, found)] if models > 1 else []
    made += (
        [score(target, found) for score in (lira, moderated_t, moderated_sides, lira_offline)] if models >= 4 else []
    )
    assert all(np.isfinite(scores).all() for scores in made)


def test_an_empty_side_is_the_other_one_moved_by_the_gap():
    log_odds = np.array([[1.0, 5.0, 2.0], [3.0, 1.0, 4.0]])
    included = np.array([[True, False, False], [True, True, False]])
    found = moments(log_odds, included)
    np.testing.assert_allclose(found.gap, [-4.0, -4.0, -4.0])
    np.testing.assert_allclose(found.mean_in, [2.0, 1.0, -1.0])


def test_a_variance_needs_two_models_on_a_side():
    target, log_odds, included, _ = drawn(2, 20)
    for score in (lira, lira_offline, moderated_t, moderated_sides):
        with pytest.raises(StatisticsError, match="take more references"):
            score(target, moments(log_odds, included))


def test_the_far_tail_keeps_its_order():
    _, log_odds, included, _ = drawn(8, 3)
    found = moments(log_odds, included)
    near, far = (lira_offline(found.mean_out + away, found, pooled=True) for away in (60.0, 70.0))
    assert (far > near).all()


def test_a_shared_spread_is_lira_pooled_but_for_the_error_of_the_means():
    target, log_odds, included, _ = drawn(6, 40, paired=False)
    found = moments(log_odds, included)
    left = [sides(log_odds, included, i) for i in range(40)]
    spread = [
        np.sqrt(
            sum(((each[side] - each[side].mean()) ** 2).sum() for each in left if len(each[side]))
            / sum(max(len(each[side]) - 1, 0) for each in left)
        )
        for side in (0, 1)
    ]
    np.testing.assert_allclose(spread_of(found), spread)
    made = shared_spread_ratio(target, found, spread_of(found))
    for i, (inside, outside) in enumerate(left):
        if not len(inside) or not len(outside):
            continue
        parts = [
            norm.logpdf(target[i], side.mean(), s * np.sqrt(1 + 1 / len(side)))
            for side, s in ((inside, spread[0]), (outside, spread[1]))
        ]
        assert made[i] == pytest.approx(parts[0] - parts[1])


def test_of_one_pair_there_is_no_spread():
    _, log_odds, included, _ = drawn(2, 20)
    assert spread_of(moments(log_odds, included)) is None
