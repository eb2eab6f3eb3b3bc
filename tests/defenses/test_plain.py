"""Plain training learns what can be learned, sees every row once an epoch, and promises nothing."""

import itertools

import numpy as np
import pytest
from conftest import WORDS, sentences

from defenses.plain import Plain
from defenses.training import _schedule, batches_of_like_length
from redteam.data import Examples
from redteam.models.starting import start_model


def separable(count, *, seed):
    """The first word decides the label."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, size=count)
    texts = tuple(f"{WORDS[f]} {' '.join(rng.choice(WORDS[3:], size=4))}" for f in first)
    return Examples(np.arange(count), texts, tuple("abc"[f] for f in first))


@pytest.mark.parametrize("spec", ["tiny", "bilstm"])
def test_it_learns(spec):
    train, test = separable(400, seed=1), separable(300, seed=2)
    start = start_model(spec, train, learn_from=train, seed=0)
    trained = Plain(epochs=6, batch_size=16, learning_rate=3e-3).fit(start, train, seed=0)
    assert trained.guarantee is None
    target = trained.target
    right = target.predict(test) == ["abc".index(label) for label in test.labels]
    assert right.mean() > 0.95
    assert not start.model.training


def test_a_training_does_not_depend_on_what_ran_before():
    rows = sentences(40, seed=1)
    plain = Plain(epochs=1, batch_size=8)
    digests = set()
    for noise in range(2):
        start = start_model("tiny", rows, learn_from=rows, seed=0)
        np.random.default_rng(noise).normal(size=noise)
        digests.add(plain.fit(start, rows, seed=3).bundle.digest())
    assert len(digests) == 1
    start = start_model("tiny", rows, learn_from=rows, seed=0)
    assert plain.fit(start, rows, seed=4).bundle.digest() not in digests


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
        shares = [_schedule(step, steps) for step in range(steps)]
        assert max(shares) == 1
        assert min(shares) > 0
        top = shares.index(1)
        assert shares[top:] == sorted(shares[top:], reverse=True)
        assert shares[: top + 1] == sorted(shares[: top + 1])


def test_settings():
    assert Plain().parameters() == {
        "epochs": None,
        "batch_size": None,
        "learning_rate": None,
        "weight_decay": 0.01,
    }
    assert (Plain.id, Plain.name) == ("RD100", "plain")
