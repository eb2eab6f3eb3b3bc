"""RT106: surer than non-members of like text, where known non-members tell what to expect, and nothing elsewhere."""

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership.quantile import QuantileRegression
from redteam.auditing.run import audit
from redteam.core import StatisticsError
from redteam.data import Split
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.context import AttackContext
from redteam.statistics.area import area, area_interval
from redteam.statistics.membership.neighbours import PENALTIES
from redteam.statistics.membership.quantiles import Labelled, NonMemberModel, check_calibrated
from redteam.statistics.ranking import rank
from redteam.targets.target import Access


def drawn(count, *, seed, topics=10, dimensions=8, shift=0.0):
    """Rows whose log-odds depend on their topic."""
    centres = np.random.default_rng(0).standard_normal((topics, dimensions)) + shift
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, topics, count)
    vectors = centres[topic] + 0.3 * rng.standard_normal((count, dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hard = np.random.default_rng(1).normal(0, 2, topics)[topic]
    return Labelled(vectors, topic % 3), hard + 0.5 * rng.standard_normal(count)


def test_the_expectation_is_that_of_a_gaussian_process():
    """The naive twin: a row at a time, penalty by penalty."""
    known, odds = drawn(40, seed=2)
    rows, of_rows = drawn(5, seed=3)
    kernel, centred, fits = known.near(known), odds - odds.mean(), []
    for penalty in PENALTIES:
        left, width = np.empty(40), np.empty(40)
        for i in range(40):
            rest = np.delete(np.arange(40), i)
            solved = np.linalg.inv(kernel[np.ix_(rest, rest)] + penalty * np.eye(39))
            left[i] = centred[i] - kernel[i, rest] @ solved @ centred[rest]
            width[i] = kernel[i, i] + penalty - kernel[i, rest] @ solved @ kernel[rest, i]
        fits.append((np.mean(left**2), penalty, np.mean(left**2 / width)))
    _, penalty, scale = min(fits)
    solved, near = np.linalg.inv(kernel + penalty * np.eye(40)), rows.near(known)
    made = NonMemberModel(known, odds).surprise(rows, of_rows)
    for i in range(5):
        width = 1.6 + penalty - near[i] @ solved @ near[i]
        expected = (of_rows[i] - odds.mean() - near[i] @ solved @ centred) / np.sqrt(scale * width)
        assert made[i] == pytest.approx(expected)


def test_it_finds_members_that_their_topic_hides():
    known, odds = drawn(300, seed=4)
    rows, of_rows = drawn(400, seed=5)
    member = np.random.default_rng(6).random(400) < 0.5
    of_rows = of_rows + 1.0 * member
    assert area(rank(of_rows, member)) < 0.75
    assert area(rank(NonMemberModel(known, odds).surprise(rows, of_rows), member)) > 0.85


def test_quantiles_that_are_right_pass_nearly_always_and_wrong_ones_do_not():
    passed = 0
    for seed in range(40):
        check_calibrated(*drawn(160, seed=10 + seed))
        passed += 1
    assert passed == 40
    known, odds = drawn(400, seed=9)
    odds = np.where(np.arange(400) % 2, odds + 3.0, odds)  # the second half is of another source
    with pytest.raises(StatisticsError, match="quantiles are off"):
        check_calibrated(known, odds)


def test_known_non_members_of_other_texts_are_refused():
    known, odds = drawn(200, seed=7)
    model = NonMemberModel(known, odds)
    model.check_like(drawn(300, seed=8)[0])
    far = np.random.default_rng(1).standard_normal((300, 8))
    with pytest.raises(StatisticsError, match="100% of the audited rows have other texts"):
        model.check_like(Labelled(far / np.linalg.norm(far, axis=1, keepdims=True), np.zeros(300, dtype=np.int64)))


def test_few_non_members_are_refused():
    with pytest.raises(StatisticsError, match="99 non-members kept apart: at least 100"):
        check_calibrated(*drawn(99, seed=1))


def test_no_leak_is_found_where_there_is_none():
    pool, is_member = Split.of(sentences(100, seed=1), sentences(100, seed=2)).pool(0)
    context = AttackContext(0, encoder=hashed_ngrams(), nonmembers=sentences(120, seed=9))
    scores = QuantileRegression().score(RuleTarget(), pool, context)["quantile"]
    rng = np.random.default_rng(3)
    seen = [area_interval(rank(scores, rng.permutation(is_member)), alpha=0.05) for _ in range(100)]
    assert sum(not each.low <= 0.5 <= each.high for each in seen) <= 11  # of a binomial of 5, once in 200


def test_it_applies_where_non_members_are_kept_apart(monkeypatch):
    monkeypatch.setattr("redteam.auditing.run.public_encoder", lambda *_: hashed_ngrams())
    attack, members = QuantileRegression(), sentences(100, seed=1)
    assert "kept apart" in attack.applies(Access.WEIGHTS, AttackContext(0, encoder=hashed_ngrams()))
    with_them = Split.of(members, sentences(100, seed=2), sentences(120, seed=3))
    report = audit(RuleTarget(members), with_them, [attack], controls=())
    assert next(e for e in report.evidence if e.metric == "auc").interval.low > 0.8
    without = Split.of(members, sentences(100, seed=2))
    report = audit(RuleTarget(members), without, [attack], controls=())
    assert [(f.attack, f.kind) for f in report.failures] == [("RT106", "failed")]
