"""Epsilon in an audit: only where membership was random, on fair inclusion of texts that stood alone, paid for."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership.loss import LossThreshold
from redteam.auditing.epsilon import DELTA, Canaries, fair_canaries
from redteam.auditing.plan import make_plan
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.core import DataError, ReportError
from redteam.data import Split, join
from redteam.policy import DEFAULT, Policy
from redteam.report import Limit
from redteam.report.reading import require_consistent
from redteam.report.values import AuditReport, Budget, Guarantee
from redteam.statistics import attainable_epsilon
from redteam.statistics.epsilon import one_run
from redteam.statistics.thresholds import SingleSplit

ROWS = sentences(3000, seed=1)
ATTACKS = (LossThreshold(),)
BUDGET = Budget(1.0, 1e-4, "example", "add or remove one", "a test's word")


def drawn(inclusion=0.5, rows=ROWS, seed=0, **more):
    included = np.random.default_rng(seed).random(len(rows)) < inclusion
    inside, outside = rows.take(np.flatnonzero(included)), rows.take(np.flatnonzero(~included))
    return Split.of(inside, outside, **{"randomised": True, "inclusion": inclusion, **more})


def epsilons(report):
    return [evidence for evidence in report.evidence if evidence.metric == "epsilon"]


def test_random_inclusion_gives_an_epsilon_and_it_shares_the_error():
    split = drawn()
    report = audit(RuleTarget(split.members), split, settings=AuditSettings(alpha=0.06, fprs=(0.1, 0.01)))
    found = epsilons(report)
    assert [each.id for each in found[:2]] == ["RT101.epsilon:loss", "RT102.epsilon:confidence"]
    assert len(found) == 6
    assert len(report.evidence) == 6 * 4
    shares = {share.id: share.error for share in report.multiplicity.shares}
    assert shares["RT103.epsilon:neighbours"] == pytest.approx(0.8 * 0.06 / 4)
    assert shares["RT101.epsilon:loss"] == pytest.approx(0.2 * 0.06 / 4 / 2)
    assert {each.delta for each in found} == {DELTA}
    loss = found[0]
    assert 2 < loss.interval.low == loss.interval.value < loss.interval.high == loss.attainable
    assert (loss.members, loss.nonmembers) == (len(split.members), len(split.nonmembers))
    assert "A low bound is not evidence of privacy" in report.multiplicity.method
    assert AuditReport.from_json(report.to_json()) == report
    require_consistent(report, source="report")


@pytest.mark.parametrize("inclusion", [0.5, 0.8])
def test_a_target_that_learnt_nothing_shows_nothing(inclusion):
    split = drawn(inclusion)
    above = sum(
        each.interval.low > 0
        for seed in range(6)
        for each in epsilons(audit(RuleTarget(seed=seed), split, ATTACKS, settings=AuditSettings(seed=seed)))
    )
    assert above == 0  # each is wrong once in 60


def test_the_guarantee_says_at_which_delta():
    report = audit(RuleTarget(), drawn(), ATTACKS, guarantee=Guarantee(BUDGET, replace(BUDGET, delta=1e-3)))
    assert {each.delta for each in epsilons(report)} == {1e-3}
    assert "epsilon" in report.multiplicity.method


def test_unfair_inclusion_is_thinned():
    split = drawn(0.8)
    (found,) = epsilons(audit(RuleTarget(split.members), split, ATTACKS))
    assert found.members == pytest.approx(600, abs=75)
    assert found.nonmembers == len(split.nonmembers)
    assert found.interval.low > 1


def test_a_text_that_stood_there_twice_is_no_canary():
    again = ROWS.take(range(500))
    split = drawn(rows=ROWS)
    twice = Split.of(
        join(split.members, again.take([i for i, t in enumerate(again.texts) if t in set(split.members.texts)])),
        join(split.nonmembers, again.take([i for i, t in enumerate(again.texts) if t in set(split.nonmembers.texts)])),
        randomised=True,
        inclusion=0.5,
    )
    pool, is_member = twice.pool(3)
    canaries = fair_canaries(twice, is_member, None, seed=3)
    assert isinstance(canaries, Canaries)
    assert {pool.texts[i] for i in np.flatnonzero(~canaries.kept)} == set(again.texts)
    assert canaries.members + canaries.nonmembers == 2500 == canaries.kept.sum()


def test_without_texts_a_repeated_row_could_be_anywhere_so_there_is_no_epsilon():
    split = drawn()
    bare = Split.of(
        replace(split.members, texts=None), replace(split.nonmembers, texts=None), randomised=True, inclusion=0.5
    )
    said = fair_canaries(bare, bare.pool(0)[1], None, seed=0)
    assert said == "without the texts nothing tells which of them stood in the data more than once"


@pytest.mark.parametrize(("seed", "n"), [(0, 1154), (0, 300), (3, 700)])
def test_thinned_canaries_lean_to_neither_side_in_the_audits_of_one_size(seed, n):
    """Lots that follow from seed and size have an offset of some sqrt(kept) that is the same in every audit."""
    rows, rng, excess, kept = ROWS.take(range(n)), np.random.default_rng(5), 0, 0
    for _ in range(60):
        included = rng.random(n) < 0.9
        inside, outside = rows.take(np.flatnonzero(included)), rows.take(np.flatnonzero(~included))
        split = Split.of(inside, outside, randomised=True, inclusion=0.9)
        canaries = fair_canaries(split, split.pool(seed)[1], None, seed=seed)
        assert fair_canaries(split, split.pool(seed)[1], None, seed=seed).kept.tolist() == canaries.kept.tolist()
        excess += canaries.members - canaries.nonmembers
        kept += canaries.members + canaries.nonmembers
    assert abs(excess) < 4 * np.sqrt(kept)


def test_the_lots_differ_between_data_of_one_size_and_between_salts():
    split, others = drawn(0.9), drawn(0.9, rows=sentences(3000, seed=2))
    is_member = split.pool(0)[1]
    lots = [fair_canaries(each, is_member, None, seed=0).kept for each in (split, others, replace(split, salt="ab"))]
    assert all((lots[0] != each).sum() > 50 for each in lots[1:])


def test_a_leak_that_scores_members_low_is_an_epsilon_too():
    split = drawn()
    _, is_member = split.pool(0)
    canaries = fair_canaries(split, is_member, None, seed=0)
    scores = np.random.default_rng(0).normal(3.0 * is_member, 1.0)
    upright, turned = (
        canaries.measure("RT101", "loss", sign * scores, is_member, alpha=0.05, seed=0) for sign in (1, -1)
    )
    assert turned.interval.low == pytest.approx(upright.interval.low, abs=0.5)
    assert turned.interval.low > 3
    assert turned.attainable == upright.attainable


def test_without_random_inclusion_there_is_no_epsilon():
    split = drawn(randomised=False)
    report = audit(RuleTarget(split.members), split, ATTACKS)
    assert (report.grade, epsilons(report), report.multiplicity.intervals) == ("B", [], 2)
    assert "epsilon" not in report.grade_reason + report.multiplicity.method


def test_inclusion_of_unknown_probability_gives_none_and_say_so():
    split = drawn(inclusion=0.5)
    report = audit(RuleTarget(split.members), replace(split, inclusion=None), ATTACKS)
    assert (report.grade, epsilons(report)) == ("A", [])
    assert (
        "no epsilon is measured: the probability with which examples were included is not known" in report.grade_reason
    )


def test_too_few_canaries_of_fair_inclusion_give_none_and_say_so():
    rows = sentences(60, seed=4)
    split = Split.of(rows.take(range(58)), rows.take([58, 59]), randomised=True, inclusion=0.97)
    report = audit(RuleTarget(), split, ATTACKS)
    assert epsilons(report) == []
    assert "stood in the data once and were included with probability 1/2" in report.grade_reason


def test_a_callers_word_is_not_called_a_draw():
    said = audit(RuleTarget(), drawn(), ATTACKS).grade_reason
    assert "taken on the caller's word, nothing was drawn again" in said
    assert "drawn again from the ledger's" in audit(RuleTarget(), drawn(redrawn=True), ATTACKS).grade_reason


@pytest.mark.parametrize("inclusion", [0.0, 1.0, float("nan")])
def test_an_inclusion_that_is_no_probability_is_refused(inclusion):
    with pytest.raises(DataError, match="inclusion is"):
        Split.of(ROWS.take(range(9)), ROWS.take(range(9, 20)), randomised=True, inclusion=inclusion)


@pytest.mark.parametrize("sizes", [(2, 0), (1, 2), (5, 7), (60, 50), (1000, 400), (20_000, 20_000)])
@pytest.mark.parametrize("delta", [0.0, 1e-9, 1e-5, 1e-3, 0.4])
def test_the_attainable_bound_is_that_of_the_bound(sizes, delta):
    members, others = max(sizes[0], 1), max(sizes[1], 1)
    scores = np.arange(float(members)), -np.arange(float(others))
    for alpha in (0.05, 0.001):
        most = one_run(*scores, delta=delta, alpha=alpha, threshold=SingleSplit(seed=1)).attainable
        assert attainable_epsilon(members, others, alpha=alpha, delta=delta) == pytest.approx(most, abs=1e-7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"delta": None}, "at delta None"),
        ({"delta": 1e-3}, "is attainable"),
        ({"attainable": 9.0}, "is attainable"),
        ({"members": 5000}, "is of more examples"),
        ({"members": 3}, "is attainable"),
    ],
)
def test_an_edited_epsilon_is_found_out(change, said):
    split = drawn()
    report = audit(RuleTarget(split.members), split, ATTACKS)
    *rest, last = report.evidence
    edited = replace(report, evidence=(*rest, replace(last, **change)))
    with pytest.raises(ReportError, match=said):
        require_consistent(edited, source="report")


def test_a_plan_tells_what_epsilon_could_show():
    split, policy = drawn(), Policy((Limit("epsilon", 8.0, delta=1e-5),))
    text = make_plan(RuleTarget(), split, ATTACKS, policy, AuditSettings()).text
    assert "up to 0.017 for a number" in text
    assert "epsilon    at delta 1e-05: " in text
    assert "max_epsilon 8 at delta 1e-05: CANNOT be proven broken by this sample" in text
    low = make_plan(RuleTarget(), split, ATTACKS, Policy((Limit("epsilon", 2.0, delta=1e-5),)), AuditSettings()).text
    assert "max_epsilon 2 at delta 1e-05: can be proven broken" in low
    exact = Guarantee(BUDGET, replace(BUDGET, delta=1e-7))
    text = make_plan(RuleTarget(), split, ATTACKS, policy, AuditSettings(), guarantee=exact).text
    assert "CANNOT be proven broken at delta 1e-07" in text
    text = make_plan(RuleTarget(), replace(split, randomised=False), ATTACKS, DEFAULT, AuditSettings()).text
    assert "epsilon    not measured: examples were not included at random" in text
