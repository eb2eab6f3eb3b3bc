"""RT901 sees a real difference between the sides and, where there is none, false alarms stay at their level."""

import numpy as np
import pytest
from conftest import SNIPS, sentences

from attacks.controls.blind import BlindControl
from redteam.data import Columns, Split, join, read_examples
from redteam.errors import DataError
from redteam.statistics.roc import auc_interval


def control_interval(pool, is_member, *, seed=0, alpha=0.05):
    scores = BlindControl().score(pool, is_member, seed=seed)
    scored = ~np.isnan(scores)
    return auc_interval(scores[scored], is_member[scored], alpha=alpha)


@pytest.mark.parametrize(
    "other",
    [sentences(300, seed=2, words=8), sentences(300, seed=2, labels=("a", "b"))],
    ids=["longer sentences", "other labels"],
)
def test_sides_that_differ_are_told_apart(other):
    pool, is_member = Split.of(sentences(300, seed=1), other).pool(0)
    assert control_interval(pool, is_member).low > 0.5


def test_other_words_are_told_apart():
    members, others = sentences(300, seed=1), sentences(300, seed=2)
    changed = tuple(t.replace("amber", "umber") for t in others.texts)
    pool, is_member = Split.of(members, type(others)(others.rows, changed, others.labels)).pool(0)
    assert control_interval(pool, is_member).low > 0.5


@pytest.mark.slow
def test_false_alarms_stay_at_their_level():
    """Random halves of one pool: the interval is above chance in at most 2.5 % plus three standard errors."""
    pool = join(sentences(200, seed=1), sentences(200, seed=2))
    rng, alarms, runs = np.random.default_rng(0), 0, 300
    for run in range(runs):
        is_member = rng.permutation(np.arange(400) < 200)
        alarms += control_interval(pool, is_member, seed=run).low > 0.5
    assert alarms <= 0.025 * runs + 3 * np.sqrt(0.025 * 0.975 * runs), alarms


@pytest.mark.slow
@pytest.mark.skipif(not SNIPS.is_file(), reason="needs SNIPS at ../shared/data/snips/snips.tsv")
def test_false_alarms_on_real_sentences():
    pool = read_examples(SNIPS, Columns()).examples
    rng, alarms, runs = np.random.default_rng(1), 0, 100
    for run in range(runs):
        some = pool.take(rng.permutation(len(pool))[:1000])
        is_member = rng.permutation(np.arange(1000) < 500)
        alarms += control_interval(some, is_member, seed=run).low > 0.5
    assert alarms <= 0.025 * runs + 3 * np.sqrt(0.025 * 0.975 * runs), alarms


def test_too_few_examples_and_no_texts():
    pool, is_member = Split.of(sentences(4, seed=1), sentences(50, seed=2)).pool(0)
    with pytest.raises(DataError, match="at least 5"):
        BlindControl().score(pool, is_member, seed=0)
    with pytest.raises(DataError, match="no texts"):
        BlindControl().score(type(pool)(pool.rows), is_member, seed=0)
