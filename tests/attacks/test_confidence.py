"""RT102's signals against the formulas written out, one row at a time."""

import numpy as np
import pytest

from attacks.membership.confidence import confidence_signals, rank_within
from redteam.statistics.roc import auc, auc_interval


def naive(p, own):
    """The four signals of one row, straight from the definitions, in extended precision."""
    p = p.astype(np.longdouble)
    entropy = -sum(x * np.log(x) for x in p if x > 0)
    others = [x for i, x in enumerate(p) if i != own]
    modified = -(1 - p[own]) * np.log(p[own]) - sum(x * np.log(1 - x) for x in others)
    return {"confidence": p[own], "entropy": -entropy, "modified_entropy": -modified, "margin": p[own] - max(others)}


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_signals_equal_their_definitions(classes):
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.ones(classes), size=200)
    own = rng.integers(0, classes, size=200)
    signals = confidence_signals(np.log(p), own)
    for i in range(200):
        for name, value in naive(p[i], own[i]).items():
            assert signals[name][i] == pytest.approx(float(value), rel=1e-9, abs=1e-12)


def test_the_order_survives_where_probabilities_round_to_one():
    """Losses of 1e-17 and 1e-18 both mean p = 1.0 in float64; modified entropy must still tell them apart."""
    rest = np.array([1e-17, 1e-18, 1e-30])
    log_p = np.column_stack([-rest, np.log(rest)])
    modified = confidence_signals(log_p, np.zeros(3, dtype=np.int64))["modified_entropy"]
    assert modified[0] < modified[1] < modified[2] <= 0


def test_a_confident_mistake_is_not_taken_for_a_member():
    log_p = np.log(np.array([[0.999, 0.001], [0.001, 0.999], [0.5, 0.5]]))
    signals = confidence_signals(log_p, np.zeros(3, dtype=np.int64))
    assert signals["entropy"][0] == pytest.approx(signals["entropy"][1])
    assert signals["modified_entropy"][1] < signals["modified_entropy"][2] < signals["modified_entropy"][0]


def test_a_probability_of_zero_stays_finite():
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[1.0, 0.0], [0.0, 1.0]]))
    for values in confidence_signals(log_p, np.zeros(2, dtype=np.int64)).values():
        assert np.isfinite(values).all()
        assert values[0] > values[1] or values[0] == values[1] == 0


def test_ranks_are_within_the_label_and_ties_share_one():
    own = np.tile([0, 1], 20)
    values = np.where(own == 0, np.arange(40.0), -1.0)
    values[1] = -2.0
    ranks = rank_within(own, values)
    np.testing.assert_allclose(ranks[own == 0], (np.arange(20) + 0.5) / 20)
    assert ranks[1] == 0.5 / 20
    np.testing.assert_allclose(ranks[3::2], 10.5 / 20)  # nineteen equal values in places 2 to 20


def test_rare_labels_are_ranked_together():
    own = np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(
        rank_within(own, np.array([5.0, 1.0, 7.0, 2.0, 6.0, 3.0])), (np.array([4, 1, 6, 2, 5, 3]) - 0.5) / 6
    )


def test_thresholds_of_their_own_find_what_one_threshold_hides():
    """One label is always near 1, the other always near 0: only within a label do members stand out."""
    rng = np.random.default_rng(0)
    own, member = rng.integers(0, 2, 4000), rng.random(4000) < 0.5
    values = 100.0 * own + rng.normal(size=4000) + 1.0 * member
    assert auc(values, member) < 0.65
    assert auc(rank_within(own, values), member) == pytest.approx(0.76, abs=0.02)  # Phi(1 / sqrt(2))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize("sizes", [(300, 300), (20, 20, 20, 540)])
def test_intervals_of_ranked_scores_keep_their_level(shift, sizes):
    """Ranking within a label makes scores depend on each other; the AUC interval must cover the truth all the same."""
    rng, runs, alpha = np.random.default_rng(7), 400, 0.05
    own = np.repeat(np.arange(len(sizes)), sizes)
    truth = true_auc(sizes, shift)
    misses = 0
    for _ in range(runs):
        member = rng.random(len(own)) < 0.5
        interval = auc_interval(rank_within(own, rng.normal(size=len(own)) + shift * member), member, alpha=alpha)
        misses += not interval.low <= truth <= interval.high
    assert misses <= alpha * runs + 3 * np.sqrt(alpha * (1 - alpha) * runs), misses


def true_auc(sizes, shift):
    """The AUC of a rank among infinitely many examples of the label, half of them members: the same for all labels."""
    rng = np.random.default_rng(0)
    member = np.arange(2_000_000) % 2 == 0
    return auc(rng.normal(size=len(member)) + shift * member, member)
