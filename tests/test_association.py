"""Associations of embeddings: oracles by hand, and an encoder that has one planted."""

import numpy as np
import pytest

from attacks.fairness.association import EmbeddingAssociation
from redteam.auditing.fairness.associations import CONTEXTS, TESTS
from redteam.core import StatisticsError
from redteam.data import Examples
from redteam.models.initial import initial_model
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessProbe
from redteam.statistics.association import associate, contextual, effect_size, permutation_p, pooled
from redteam.targets.model import ModelTarget

X, Y = [[1, 0], [0.8, 0.6]], [[0, 1], [0.6, 0.8]]
A, B = [[1, 0]], [[0, 1]]


def vectors(rows):
    return [np.array([row], dtype=float) for row in rows]


def test_the_oracle_by_hand():
    x, y = (np.array([row[0] - row[1] for row in rows]) for rows in (X, Y))
    assert effect_size(x, y) == pytest.approx(1.4411533842)
    assert permutation_p(x, y, seed=0) == (pytest.approx(2 / 6), True)
    found = associate(vectors(X), vectors(Y), vectors(A * 2), vectors(B * 2), alpha=0.05, seed=0)
    assert found.effect.value == pytest.approx(1.4411533842)
    assert (found.p, found.exact) == (pytest.approx(2 / 6), True)


def test_pooling_by_hand():
    mean, error, p = pooled(np.array([-1, 0.5, 2]), np.array([0.1, 0.2, 0.4]))
    assert (mean, error, p) == (
        pytest.approx(0.4303220537),
        pytest.approx(0.8397306303),
        pytest.approx(0.6083, abs=1e-4),
    )
    mean, error, _ = pooled(np.array([0.2, 0.5, 0.9]), np.array([0.1, 0.2, 0.4]))
    assert (mean, error) == (pytest.approx(0.3857142857), pytest.approx(0.2390457219))


def test_p_is_as_small_as_it_says_where_nothing_is_associated():
    rng = np.random.default_rng(0)
    found = [permutation_p(rng.normal(size=6), rng.normal(size=6), seed=0)[0] for _ in range(200)]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.065)


def test_ceats_own_p_shrinks_with_its_draws():
    rng = np.random.default_rng(3)
    lists = [[rng.normal(size=(6, 8)) for _ in range(8)] for _ in range(4)]
    for words in (lists[0], lists[2]):  # a little nearer to each other than the rest
        for each in words:
            each[:, 0] += 0.5
    lists = [[each / np.linalg.norm(each, axis=1, keepdims=True) for each in words] for words in lists]
    few, many = (contextual(*lists, draws=draws, seed=0) for draws in (20, 2000))
    assert many[1] < few[1] / 10


def test_one_word_is_no_association():
    with pytest.raises(StatisticsError, match="two words or more"):
        associate(vectors(X[:1]), vectors(Y), vectors(A * 2), vectors(B * 2), alpha=0.05, seed=0)


def target():
    words = sorted({word for _, *lists in TESTS for some in lists for word in some})
    texts = tuple(CONTEXTS[(i + k) % len(CONTEXTS)].format(word) for k in range(4) for i, word in enumerate(words))
    rows = Examples(np.arange(len(texts)), texts, tuple("ab"[i % 2] for i in range(len(texts))))
    initial = initial_model("tiny", rows, learn_from=rows, seed=0, layers=1)
    return ModelTarget(initial.bundle(), name="model"), rows


def test_an_association_that_is_planted_is_found():
    rng = np.random.default_rng(0)
    x, y, a, b = ([rng.normal(size=(3, 8)) + side for _ in range(10)] for side in (1, -1, 1, -1))
    unit = [[each / np.linalg.norm(each, axis=1, keepdims=True) for each in words] for words in (x, y, a, b)]
    found = associate(*unit, alpha=0.05, seed=0)
    assert found.effect.low > 1
    assert found.p < 0.001


def test_an_encoder_is_described_in_each_kind_of_text_and_nothing_is_judged():
    model, rows = target()
    answer = EmbeddingAssociation(ceat=True).measure(model, FairnessProbe(rows=rows), lambda *_: 0.05, AttackContext(0))
    assert answer.evidence == ()
    name = TESTS[0][0]
    found = {each.measure: each for each in answer.numbers if each.subject == name}
    for kind in ("input embeddings", "our sentences", "the texts of DATA"):
        effect = found[f"effect, {kind}"]
        assert effect.interval.low <= effect.value <= effect.interval.high
        assert 0 < found[f"p of exchanging words (drawn), {kind}"].value <= 1
    said = [measure for measure in found if measure.startswith("p, CEAT")]
    assert said
    assert all("it shrinks with their number and proves nothing" in measure for measure in said)
