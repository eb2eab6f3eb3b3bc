"""Leave-one-out in closed form against leaving out, and many rows against few."""

import numpy as np
import pytest

from redteam.statistics.membership.neighbours import (
    PENALTIES,
    NeighbourKernel,
    _cut,
    agreement,
    label_means,
    similarity,
)
from redteam.statistics.membership.regression import hinges, logistic_weights, unexplained


def rows(count, *, topics=12, labels=4, dimensions=16, seed=0, spread=0.3):
    """Vectors in clusters, a label for each cluster, and a score that the clusters share."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, dimensions))
    topic = rng.integers(0, topics, count)
    vectors = centres[topic] + spread * rng.standard_normal((count, dimensions))
    scores = rng.normal(0, 2, topics)[topic] + rng.normal(0, 1, count)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), topic % labels, scores


def left_out(kernel, scores, penalty):
    """The naive twin: for each row a ridge regression on all the others, of scores less the mean of all."""
    centred, predicted = scores - scores.mean(), np.empty(len(scores))
    for i in range(len(scores)):
        rest = np.delete(np.arange(len(scores)), i)
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + penalty * np.eye(len(rest)), centred[rest])
        predicted[i] = kernel[i, rest] @ weights
    return centred - predicted


def test_what_is_own_is_what_the_other_rows_do_not_predict():
    vectors, labels, scores = rows(60)
    kernel = similarity(vectors, labels, vectors, labels)
    choices = [left_out(kernel, scores, penalty) for penalty in PENALTIES]
    best = min([*choices, scores - scores.mean()], key=lambda left: np.mean(left**2))
    made = NeighbourKernel(vectors, labels)
    np.testing.assert_allclose(made.own(scores), best, atol=1e-9)
    np.testing.assert_allclose(made.shared(scores) + made.own(scores), scores)


def test_the_kernel_is_that_of_the_definition():
    vectors, labels, _ = rows(8)
    made = similarity(vectors, labels, vectors, labels)
    for i in range(8):
        for j in range(8):
            near, same = np.exp(6 * (vectors[i] @ vectors[j] - 1)), labels[i] == labels[j]
            assert made[i, j] == pytest.approx(0.3 * same + 0.3 * near + same * near)


def test_scores_without_anything_shared_lose_their_mean_alone():
    vectors, labels, _ = rows(200)
    scores = np.random.default_rng(5).standard_normal(200)
    assert np.abs(NeighbourKernel(vectors, labels).own(scores) - (scores - scores.mean())).max() < 0.5


@pytest.mark.parametrize(("block", "most"), [(900, 0.02), (60, 0.2)])
def test_blocks_give_nearly_the_numbers_of_all_rows(block, most):
    """What differs, as a share of the spread: little where a block holds a label, more where labels are cut."""
    vectors, labels, scores = rows(900, spread=0.6, labels=6)
    exact = NeighbourKernel(vectors, labels).own(scores)
    made = NeighbourKernel(vectors, labels, most_exact=100, landmarks=150, block=block).own(scores)
    assert np.std(made - exact) < most * np.std(exact)


def test_one_block_of_all_rows_is_exact():
    vectors, labels, scores = rows(80, labels=1)
    made = NeighbourKernel(vectors, labels, most_exact=1, landmarks=10)
    np.testing.assert_allclose(made.own(scores), NeighbourKernel(vectors, labels).own(scores), atol=1e-8)


def test_blocks_hold_every_row_once_and_one_label_each():
    vectors, labels, _ = rows(300)
    blocks = _cut(vectors, labels, 20)
    assert sorted(np.concatenate(blocks)) == list(range(300))
    assert max(map(len, blocks)) <= 20
    assert all(len(set(labels[block])) == 1 for block in blocks)


def test_with_every_row_a_landmark_the_numbers_are_the_same():
    vectors, labels, scores = rows(120)
    made = NeighbourKernel(vectors, labels, most_exact=1, landmarks=120)
    np.testing.assert_allclose(made.own(scores), NeighbourKernel(vectors, labels).own(scores), atol=1e-5)


def test_landmarks_do_not_depend_on_the_order_of_rows():
    vectors, labels, scores = rows(300)
    order = np.random.default_rng(1).permutation(300)
    some = {"most_exact": 10, "landmarks": 80, "block": 40}
    one = NeighbourKernel(vectors, labels, **some).own(scores)
    other = NeighbourKernel(vectors[order], labels[order], **some).own(scores[order])
    np.testing.assert_allclose(one[order], other, atol=1e-8)


def test_agreement_is_that_of_the_definition():
    vectors, labels, _ = rows(40, spread=1.0)
    made = np.column_stack(agreement(vectors, labels))
    for i in range(40):
        cosine = {j: float(vectors[i] @ vectors[j]) for j in range(40) if j != i}
        near = sorted(cosine, key=cosine.get, reverse=True)[:15]
        weight = {j: np.exp(10 * (cosine[j] - 1)) for j in near}
        share = sum(weight[j] for j in near if labels[j] == labels[i]) / sum(weight.values())
        own = max(cosine[j] for j in cosine if labels[j] == labels[i])
        other = max(cosine[j] for j in cosine if labels[j] != labels[i])
        np.testing.assert_allclose(made[i], [share, own, other, own - other], atol=1e-12)


def test_agreement_among_a_part_of_the_rows():
    vectors, labels, _ = rows(400)
    all_rows, some = agreement(vectors, labels), agreement(vectors, labels, most=200)
    assert np.corrcoef(all_rows[1], some[1])[0, 1] > 0.8
    assert all(np.isfinite(part).all() for part in some)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_one_label_alone_and_labels_of_one_row_stay_finite(labels):
    vectors, _, scores = rows(4)
    own = np.array(labels)
    assert np.isfinite(np.column_stack(agreement(vectors, own))).all()
    assert np.isfinite(NeighbourKernel(vectors, own).own(scores)).all()
    assert np.isfinite(label_means(scores, own)).all()


def test_label_means_leave_the_row_out():
    scores, labels = np.array([1.0, 2.0, 6.0, 5.0]), np.array([0, 0, 0, 1])
    mean = scores.mean()
    expected = [(8 + 2 * mean) / 4, (7 + 2 * mean) / 4, (3 + 2 * mean) / 4, mean]
    np.testing.assert_allclose(label_means(scores, labels), expected)


def test_unexplained_is_left_one_out():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((50, 2)), rng.standard_normal(50)
    y = y + x[:, 0] ** 2
    design = np.column_stack([np.ones(50), *(hinges(column) for column in x.T)])
    penalty = np.diag([0.0, *[1.0] * (design.shape[1] - 1)])
    for i, left in enumerate(unexplained(y, list(x.T))):
        rest = np.delete(np.arange(50), i)
        weights = np.linalg.solve(design[rest].T @ design[rest] + penalty, design[rest].T @ y[rest])
        assert left == pytest.approx(y[i] - design[i] @ weights)


def test_logistic_regression_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 3))
    y = rng.random(300) < 1 / (1 + np.exp(-x[:, 0]))
    made = logistic_weights(x, y, strength=10.0)
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(made, [*peer.intercept_, *peer.coef_[0]], atol=1e-5)


@pytest.mark.parametrize("how", [{}, {"most_exact": 100, "landmarks": 20, "block": 100}])
def test_how_far_a_kernel_is_changes_nothing(monkeypatch, how):
    monkeypatch.setattr("redteam.statistics.membership.neighbours._PART_ROWS", 50)
    vectors, labels, scores = rows(300)
    heard = []
    told = NeighbourKernel(vectors, labels, progress=lambda *far: heard.append(far), **how)
    assert heard[0][0] == 0 < heard[1][0] < heard[-1][0] == heard[-1][1]
    np.testing.assert_array_equal(told.own(scores), NeighbourKernel(vectors, labels, **how).own(scores))
