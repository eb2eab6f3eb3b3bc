import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from redteam.core import StatisticsError
from redteam.statistics import roc


@st.composite
def samples(draw):
    """Scores on few levels, so that most of them tie, with at least two members and two non-members."""
    step = draw(st.sampled_from([1.0, 0.1, 1e-12, 1e9]))
    top = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = draw(st.lists(st.integers(-top, top), min_size=4, max_size=60))
    flags = draw(st.lists(st.booleans(), min_size=len(scores) - 4, max_size=len(scores) - 4))
    scores[0], scores[1] = top, top - 1
    return np.array(scores) * step, np.array([True, False, True, False, *flags])


def naive_auc(scores, is_member):
    wins = 0.0
    for x in scores[is_member]:
        for y in scores[~is_member]:
            wins += 1.0 if x > y else 0.5 if x == y else 0.0
    return wins / (is_member.sum() * (~is_member).sum())


@settings(max_examples=300, deadline=None)
@given(samples())
def test_auc_equals_scikit_learn_and_the_naive_count(sample):
    scores, is_member = sample
    ours = roc.auc(scores, is_member)
    assert ours == pytest.approx(metrics.roc_auc_score(is_member, scores), abs=1e-12)
    assert ours == pytest.approx(naive_auc(scores, is_member), abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(samples())
def test_the_curve_equals_scikit_learn(sample):
    scores, is_member = sample
    theirs = metrics.roc_curve(is_member, scores, drop_intermediate=False)
    for mine, other in zip(roc.roc_curve(scores, is_member), theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(samples())
def test_each_point_of_the_curve_counts_scores_at_or_above_its_threshold(sample):
    scores, is_member = sample
    for fpr, tpr, threshold in zip(*roc.roc_curve(scores, is_member), strict=True):
        assert tpr == np.mean(scores[is_member] >= threshold)
        assert fpr == np.mean(scores[~is_member] >= threshold)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_alpha_is_refused(alpha):
    scores, is_member = np.arange(6.0), np.arange(6) > 2
    with pytest.raises(StatisticsError, match="alpha is"):
        roc.auc_interval(scores, is_member, alpha=alpha)
    with pytest.raises(StatisticsError, match="alpha is"):
        roc.tpr_at_fpr(scores, is_member, fpr=0.1, alpha=alpha, seed=0)


@pytest.mark.parametrize("fpr", [0.0, 1.0, float("nan")])
def test_an_impossible_fpr_is_refused(fpr):
    with pytest.raises(StatisticsError, match="fpr is"):
        roc.tpr_at_fpr(np.arange(6.0), np.arange(6) > 2, fpr=fpr, alpha=0.05, seed=0)


@settings(max_examples=300, deadline=None)
@given(samples(), st.floats(1e-6, 1 - 1e-6), st.floats(1e-6, 1 - 1e-6), st.integers(0, 5))
def test_every_interval_holds_its_value_and_stays_within_zero_and_one(sample, alpha, fpr, seed):
    scores, is_member = sample
    for found in (
        roc.auc_interval(scores, is_member, alpha=alpha),
        roc.tpr_at_fpr(scores, is_member, fpr=fpr, alpha=alpha, seed=seed),
    ):
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0
        assert found.alpha == alpha
