"""The exact test of whether a model learned anything: against scipy's binomial, and its level."""

import math

import numpy as np
import pytest
from scipy import stats

from redteam.auditing.breakdown import accuracy_by_user
from redteam.report.values import Accuracy
from redteam.statistics import ALPHA, fewest_right, has_learned, least_share, surely_worse, users_show, wealth


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


class TestUsers:
    """Where rows are of users who have several, each user counts once."""

    def test_a_model_that_answers_by_user_is_not_taken_for_a_trained_one(self):
        """It knows nothing: for all rows of a user it answers one label, drawn blindly; rows seem to show more."""
        rng, by_rows, by_users = np.random.default_rng(0), 0, 0
        for _ in range(400):
            users = np.repeat(np.arange(40), 25)
            favourite, answer = rng.integers(3, size=40), rng.integers(3, size=40)
            own = np.where(rng.random(1000) < 0.8, favourite[users], rng.integers(3, size=1000))
            right = answer[users] == own
            by_rows += has_learned(int(right.sum()), 1000, np.bincount(own).max() / 1000)
            seen = accuracy_by_user(right, own, [str(user) for user in users])
            by_users += Accuracy(right.mean(), 0.3, np.bincount(own).max() / 1000, seen).shows_learning(1000)
        assert by_rows > 2 * ALPHA * 400  # the fault: rows of a user are no independent draws
        assert by_users <= ALPHA * 400

    def test_the_best_constant_answer_shows_nothing(self):
        own, users = np.repeat([0, 1, 1], 40), [str(i % 12) for i in range(120)]
        seen = accuracy_by_user(own == 1, own, users)
        assert seen.evidence <= 1
        assert not users_show(seen.evidence)

    @pytest.mark.parametrize(("users", "labels", "right"), [(10, 77, 0.95), (10, 2, 0.99), (20, 2, 0.8), (40, 2, 0.7)])
    def test_a_good_model_counts_as_trained(self, users, labels, right):
        rng = np.random.default_rng(1)
        own = rng.integers(labels, size=users * 50)
        seen = accuracy_by_user(rng.random(len(own)) < right, own, [str(i % users) for i in range(len(own))])
        assert users_show(seen.evidence)
        assert least_share(users, seen.commonest) < right

    def test_shares_are_means_over_users_and_the_commonest_label_is_of_the_same_rows(self):
        right, own = np.array([1, 1, 1, 0, 0], bool), np.array([0, 0, 0, 1, 2])
        seen = accuracy_by_user(right, own, ["a", "a", "a ", "b", "b"])
        assert (seen.users, seen.right, seen.commonest) == (2, 0.5, 0.5)

    def test_users_with_one_row_each_are_rows(self):
        assert accuracy_by_user(np.ones(3, bool), np.arange(3), ["a", "b", "c"]) is None
        assert accuracy_by_user(np.ones(3, bool), np.arange(3), None) is None

    def test_wealth_is_the_mean_over_stakes_of_a_product(self):
        shares = [0.9, 0.2, 0.7, 1.0, 0.0]
        products = [math.prod(1 + stake / 0.3 * (s - 0.3) for s in shares) for stake in (0.1, 0.3, 0.5, 0.7, 0.9)]
        assert wealth(shares, 0.3) == pytest.approx(np.mean(products))
        assert wealth([1.0] * 100_000, 0.01) == 1e12
        for bad in ([math.nan] * 50, []):
            assert not users_show(wealth(bad, 0.3))
        assert wealth([1.0] * 50, 1.0) == wealth([1.0] * 50, 0.0) == 0

    def test_too_few_users_show_nothing(self):
        assert least_share(2, 0.5) is None
        assert 0.5 < least_share(20, 0.5) < 0.8
