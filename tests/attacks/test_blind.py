"""The controls see a real difference between the sides and, where there is none, false alarms stay at their level."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SNIPS, sentences

from attacks.controls.blind import BlindBaseline
from attacks.controls.labels import LabelControl
from redteam.core import DataError
from redteam.data import Columns, Examples, Split, join, read_examples
from redteam.statistics.roc import auc_interval

CONTROLS = [BlindBaseline(), LabelControl()]


def seen_by(control, pool, is_member, *, seed=0, alpha=0.05):
    scores = control.score(pool, is_member, seed=seed)
    scored = ~np.isnan(scores)
    return auc_interval(scores[scored], is_member[scored], alpha=alpha)


def stratified(labels, rng):
    """Half of each label on either side, as scikit-learn's train_test_split(stratify=labels) does."""
    member = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        member[rows[: len(rows) // 2]] = True
    return member


def topics(count, labels, rng, *, marked=None):
    """Sentences that name their label's topic; those in `marked` have one more word."""
    own = np.arange(count) % labels
    words = rng.choice([f"w{i}" for i in range(300)], size=(count, 7))
    texts = [f"topic{own[i]} {' '.join(words[i])} {rng.integers(10**9)}" for i in range(count)]
    if marked is not None:
        texts = [f"{text} extra" if mark else text for text, mark in zip(texts, marked, strict=True)]
    return Examples(np.arange(count), tuple(texts), tuple(f"label {i}" for i in own)), own


def test_longer_sentences_are_told_apart():
    pool, is_member = Split.of(sentences(300, seed=1), sentences(300, seed=2, words=8)).pool(0)
    assert seen_by(BlindBaseline(), pool, is_member).low > 0.5


def test_other_labels_are_told_apart_by_the_label_control_alone():
    pool, is_member = Split.of(sentences(300, seed=1), sentences(300, seed=2, labels=("a", "b"))).pool(0)
    assert seen_by(LabelControl(), pool, is_member).low > 0.5
    assert seen_by(BlindBaseline(), pool, is_member, alpha=0.01).low < 0.5


def test_other_words_are_told_apart():
    members, others = sentences(300, seed=1), sentences(300, seed=2)
    changed = tuple(t.replace("amber", "umber") for t in others.texts)
    pool, is_member = Split.of(members, replace(others, texts=changed)).pool(0)
    assert seen_by(BlindBaseline(), pool, is_member).low > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.id)
def test_false_alarms_stay_at_their_level(control):
    """Random halves of one pool: the interval is above chance in at most 2.5 % plus three standard errors."""
    pool = join(sentences(200, seed=1), sentences(200, seed=2))
    rng, above, below, runs = np.random.default_rng(0), 0, 0, 300
    for run in range(runs):
        is_member = rng.permutation(np.arange(400) < 200)
        interval = seen_by(control, pool, is_member, seed=run)
        above, below = above + (interval.low > 0.5), below + (interval.high < 0.5)
    most = 0.025 * runs + 3 * np.sqrt(0.025 * 0.975 * runs)
    assert above <= most, above
    assert below <= most, below


@pytest.mark.slow
@pytest.mark.skipif(not SNIPS.is_file(), reason="needs SNIPS at ../shared/data/snips/snips.tsv")
@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.id)
def test_false_alarms_on_real_sentences(control):
    pool = read_examples(SNIPS, Columns()).examples
    rng, alarms, runs = np.random.default_rng(1), 0, 100
    for run in range(runs):
        some = pool.take(rng.permutation(len(pool))[:1000])
        is_member = rng.permutation(np.arange(1000) < 500)
        alarms += seen_by(control, some, is_member, seed=run).low > 0.5
    assert alarms <= 0.025 * runs + 3 * np.sqrt(0.025 * 0.975 * runs), alarms


@pytest.mark.slow
def test_a_split_stratified_by_label_is_neither_refused_nor_a_blindfold():
    """100 labels, half of each on either side: no alarm where nothing differs, and 20 % marked members are seen."""
    above = below = found = 0
    for run in range(40):
        rng = np.random.default_rng(run)
        pool, own = topics(600, 100, rng)
        is_member = stratified(own, rng)
        order = rng.permutation(600)
        interval = seen_by(BlindBaseline(), pool.take(order), is_member[order], alpha=0.01)
        above, below = above + (interval.low > 0.5), below + (interval.high < 0.5)
        rng = np.random.default_rng(run)
        pool, own = topics(600, 100, rng, marked=is_member & (np.random.default_rng(run + 999).random(600) < 0.2))
        found += seen_by(BlindBaseline(), pool.take(order), is_member[order], alpha=0.01).low > 0.5
    assert above <= 3, above  # 0.5 % of 40, plus three standard errors
    assert below <= 3, below
    assert found >= 30, found


def test_near_copies_on_both_sides_do_worse_than_chance():
    """Non-members written after members, word for word but one: the sides look alike by making, and leaks hide."""
    members = sentences(300, seed=1)
    copies = tuple(f"{' '.join(text.split()[:-1])} {i + 5_000_000_000}" for i, text in enumerate(members.texts))
    pool, is_member = Split.of(members, replace(members, texts=copies)).pool(0)
    assert seen_by(BlindBaseline(), pool, is_member).high < 0.5


def test_too_few_examples_no_texts_and_one_label():
    pool, is_member = Split.of(sentences(4, seed=1), sentences(50, seed=2)).pool(0)
    for control in CONTROLS:
        with pytest.raises(DataError, match="at least 5"):
            control.score(pool, is_member, seed=0)
    with pytest.raises(DataError, match="no texts"):
        BlindBaseline().score(Examples(pool.rows), is_member, seed=0)
    with pytest.raises(DataError, match="fewer than two labels"):
        LabelControl().score(Examples(pool.rows), is_member, seed=0)


def test_a_large_pool_is_sampled(monkeypatch):
    monkeypatch.setattr("attacks.controls.progressive.MOST", 200)
    pool, is_member = Split.of(sentences(300, seed=1), sentences(300, seed=2, words=8)).pool(0)
    scores = BlindBaseline().score(pool, is_member, seed=0)
    assert np.isfinite(scores).sum() == pytest.approx(160, abs=3)  # four folds of five
    assert seen_by(BlindBaseline(), pool, is_member).low > 0.5
