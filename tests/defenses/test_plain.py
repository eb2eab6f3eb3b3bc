"""Plain training learns what can be learned, sees every row once an epoch, and promises nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from conftest import WORDS, sentences

from defenses.dpsgd import DPSGD
from defenses.edpsgd import EDPSGD
from defenses.plain import Plain
from defenses.regularised.early_stopping import EarlyStopping
from defenses.regularised.label_smoothing import LabelSmoothing
from defenses.training import batches_of_like_length, schedule
from redteam.data import Examples
from redteam.models.initial import initial_model


def separable(count, *, seed):
    """The first word decides the label."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, size=count)
    texts = tuple(f"{WORDS[f]} {' '.join(rng.choice(WORDS[3:], size=4))}" for f in first)
    return Examples(np.arange(count), texts, tuple("abc"[f] for f in first))


@pytest.mark.parametrize("spec", ["tiny", "bilstm"])
def test_it_learns(spec):
    train, test = separable(400, seed=1), separable(300, seed=2)
    initial = initial_model(spec, train, learn_from=train, seed=0)
    trained = Plain(epochs=6, batch_size=16, learning_rate=3e-3).fit(initial, train, seed=0)
    assert trained.guarantee is None
    target = trained.target
    right = target.predict(test) == ["abc".index(label) for label in test.labels]
    assert right.mean() > 0.95
    assert not initial.model.training


def test_a_training_does_not_depend_on_what_ran_before():
    rows = sentences(40, seed=1)
    plain = Plain(epochs=1, batch_size=8)
    digests = set()
    for noise in range(2):
        initial = initial_model("tiny", rows, learn_from=rows, seed=0)
        np.random.default_rng(noise).normal(size=noise)
        digests.add(plain.fit(initial, rows, seed=3).bundle.digest())
    assert len(digests) == 1
    initial = initial_model("tiny", rows, learn_from=rows, seed=0)
    assert plain.fit(initial, rows, seed=4).bundle.digest() not in digests


def test_batches_hold_every_row_once_and_texts_of_like_length():
    lengths = [int(n) for n in np.random.default_rng(0).integers(3, 60, size=3210)]
    batches = list(batches_of_like_length(lengths, 32, seed=1))
    assert sorted(itertools.chain(*batches)) == list(range(3210))
    assert max(map(len, batches)) == 32
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    assert batches == list(batches_of_like_length(lengths, 32, seed=1))
    assert batches != list(batches_of_like_length(lengths, 32, seed=2))
    middles = [lengths[batch[0]] for batch in batches]
    assert abs(np.corrcoef(middles[:-1], middles[1:])[0, 1]) < 0.5  # short and long batches take turns


def test_the_learning_rate_rises_and_falls():
    for steps in (1, 2, 3, 10, 1000):
        shares = [schedule(step, steps) for step in range(steps)]
        assert max(shares) == 1
        assert min(shares) > 0
        top = shares.index(1)
        assert shares[top:] == sorted(shares[top:], reverse=True)
        assert shares[: top + 1] == sorted(shares[: top + 1])


def test_many_labels_get_the_steps_they_take():
    """With three passes, as for few labels, twelve labels stay near chance."""
    words = [f"{first}{last}" for first in ("al", "be", "ga") for last in ("pa", "ko", "mi", "tu")]
    labels = tuple(words[i % 12] for i in range(144))
    rows = Examples(np.arange(144), tuple(f"{word} {WORDS[i % 7]} {i}" for i, word in enumerate(labels)), labels)
    right = []
    for how in (Plain(3, 32), Plain()):
        target = how.fit(initial_model("tiny", rows, learn_from=rows, seed=0), rows, seed=0).target
        right.append(float((np.array(target.labels)[target.predict(rows)] == np.array(labels)).mean()))
    assert right[0] < 0.4
    assert right[1] > 0.95


def test_what_is_given_is_kept_and_the_rest_follows_from_rows_and_labels():
    rows = separable(60, seed=0)
    initial = initial_model("tiny", rows, learn_from=rows, seed=0)
    assert Plain(2, 16, 1e-2).settled(initial, 5000) == Plain(2, 16, 1e-2)
    assert Plain(0).settled(initial, 5000) == Plain(0, 32, 1e-3)
    assert Plain().settled(initial, 5000) == Plain(3, 32, 1e-3)  # three labels: few steps suffice
    many = replace(initial, labels=tuple(map(str, range(77))))
    assert Plain().settled(many, 2500) == Plain(30, 32, 1e-3)
    assert Plain().settled(many, 2500).settled(many, 9) == Plain(30, 32, 1e-3)
    assert Plain().settled(replace(many, pretrained=True), 2500).epochs == 15
    assert EarlyStopping().settled(many, 2500).epochs == 60
    assert LabelSmoothing().settled(many, 2500).epochs == 30
    for private in (EDPSGD(), DPSGD()):
        found = private.settled(many, 2500)
        assert (found.batch_size, found.weights) == (2500, "classifier")
        assert found.epochs > private.settled(initial, 2500).epochs == 10
        assert private.settled(replace(many, pretrained=True), 2500).weights == "biases"
        mean = replace(many, pretrained=True, learning_rate=2e-4, pooled=True)
        found = private.settled(mean, 2500)
        assert (found.batch_size, found.weights, found.epochs) == (2500, "classifier", 10)
        assert (found.learning_rate, found.settled(mean, 2500)) == (pytest.approx(0.1), found)
        larger = private.settled(mean, 40_960)
        assert (larger.batch_size, larger.learning_rate) == (4096, pytest.approx(0.1 / 5**0.5))  # five times the steps
        assert replace(private, weights="biases", batch_size=7).settled(mean, 2500).batch_size == 7
        assert replace(private, weights="all", epochs=4).settled(many, 2500).epochs == 4


def test_settings():
    assert Plain().parameters() == {
        "epochs": None,
        "batch_size": None,
        "learning_rate": None,
        "weight_decay": 0.01,
    }
    assert (Plain.id, Plain.name) == ("RD100", "plain")
