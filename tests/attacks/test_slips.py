"""RT105 with slips of the keyboard and with reference models: what labels alone tell."""

from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership._edits import edited
from attacks.membership.gap import Gap
from redteam.auditing.run import audit
from redteam.data import Split
from redteam.plugins.context import AttackContext
from redteam.policy import Limit, Policy
from redteam.policy.judge import judge
from redteam.statistics.area import area, area_interval
from redteam.statistics.ranking import rank
from redteam.targets.target import Access
from redteam.testing.examples import reference_scores

POOL, IS_MEMBER = Split.of(sentences(150, seed=1), sentences(150, seed=2)).pool(0)


class Robust:
    """Right on every text, and on changed ones as long as it withstands: members more slips than others."""

    kind, digest, access, name, labels = "rule", None, Access.LABELS, "robust", ("a", "b", "c")

    def __init__(self, pool, withstands):
        self.asked, self.known = [], {}
        for text, label, most in zip(pool.texts, pool.labels, withstands, strict=True):
            self.known |= {edited(text, count, seed=0): self.labels.index(label) for count in range(most + 1)}

    def predict(self, examples):
        self.asked.append(len(examples))
        own = [self.labels.index(label) for label in examples.labels]
        return np.array([self.known.get(t, (i + 1) % 3) for t, i in zip(examples.texts, own, strict=True)])


def withstanding(seed=0):
    """More slips of members than of others, by chance."""
    rng = np.random.default_rng(seed)
    return rng.poisson(2 + 2 * IS_MEMBER)


def test_the_score_is_how_many_slips_a_row_withstands():
    most = withstanding()
    remarks = []
    target = Robust(POOL, most)
    scores = Gap(slips=6).score(target, POOL, AttackContext(0, remark=remarks.append))["correct"]
    np.testing.assert_array_equal(scores, 1 + np.minimum(most, 6))
    assert remarks == ["asked for texts with up to 6 slips of the keyboard"]
    assert target.asked == [300, *(int((most >= count).sum()) for count in range(6))]


def test_it_finds_what_right_and_wrong_do_not_tell():
    target = Robust(POOL, withstanding())
    plain, slips = (Gap(slips=n).score(target, POOL, AttackContext(0))["correct"] for n in (0, 8))
    assert area(rank(plain, IS_MEMBER, may_tie=True)) == 0.5
    assert area_interval(rank(slips, IS_MEMBER, may_tie=True), alpha=0.01).low > 0.6


def test_no_round_is_begun_that_the_limit_of_requests_would_break_off():
    target, remarks = Robust(POOL, np.full(300, 9)), []
    scores = Gap(slips=8).score(target, POOL, AttackContext(0, requests=700, remark=remarks.append))["correct"]
    assert target.asked == [300, 300, 300]
    assert remarks == ["asked for texts with up to 2 slips of the keyboard"]
    assert set(scores) == {3.0}


def test_nothing_is_found_where_members_withstand_no_more():
    scores = Gap(slips=4).score(Robust(POOL, np.random.default_rng(5).poisson(2, 300)), POOL, AttackContext(0))[
        "correct"
    ]
    rng = np.random.default_rng(1)
    seen = [area_interval(rank(scores, rng.permutation(IS_MEMBER), may_tie=True), alpha=0.05) for _ in range(100)]
    assert sum(not each.low <= 0.5 <= each.high for each in seen) <= 11  # of a binomial of 5, once in 200


def test_what_reference_models_explain_is_taken_off():
    """Half of the rows are easy for every model: right on them says nothing."""
    rng = np.random.default_rng(2)
    easy = rng.random(300) < 0.5
    right = easy | IS_MEMBER | (rng.random(300) < 0.2)
    target = RuleTarget(POOL.take(np.flatnonzero(right).tolist()), labels=("a", "b", "c"))
    target.predict = lambda rows: np.where(right, *both_labels(rows))
    found = reference_scores(POOL, pairs=3)
    log_odds = np.where(easy, 6.0, -2.0) + rng.normal(0, 0.5, found.log_odds.shape)
    references = type(found)(log_odds, found.included, found.partner)
    plain = area(rank(Gap().score(target, POOL, AttackContext(0))["correct"], IS_MEMBER, may_tie=True))
    with_them = Gap().score(target, POOL, AttackContext(0, reference_scores=references))["correct"]
    assert area(rank(with_them, IS_MEMBER)) > plain + 0.05


def both_labels(rows):
    own = np.array([("a", "b", "c").index(label) for label in rows.labels])
    return own, (own + 1) % 3


@pytest.mark.parametrize("text", ["", "1234 56", "a", "play music", "héllo wörld ünd"])
def test_slips_are_nested_and_drawn_from_the_text(text):
    made = [edited(text, count, seed=3) for count in range(6)]
    assert made[0] == text
    assert made == [edited(text, count, seed=3) for count in range(6)]
    assert all(abs(len(a) - len(b)) <= 1 for a, b in pairwise(made))
    assert sum(a != b for a, b in pairwise(made)) == (0 if len(text) < 2 or text[0] == "1" else 5)


def test_the_reference_models_that_it_uses_count():
    """What a policy's require_references asks for is what the attack that ran made use of."""

    class Given:
        def scores(self, pool):
            return reference_scores(pool)

    split = Split.of(sentences(60, seed=1), sentences(60, seed=2))
    target = Robust(split.pool(0)[0], np.ones(120, dtype=int))
    with_them = audit(target, split, [Gap()], controls=(), references=Given())
    assert with_them.references == 4
    assert any("less what 4 reference models explain" in line for line in with_them.attack_notes)
    assert audit(target, split, [Gap()], controls=()).references == 0
    policy = Policy((Limit("auc", 0.55),), require_references=8)
    said = judge(with_them, policy, today=date(2026, 7, 1)).problems
    assert any(line.startswith("require_references = 8: the audit used 4") for line in said)
