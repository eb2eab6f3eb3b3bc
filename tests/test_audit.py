"""The one pass: what is measured, what is refused, and that nothing that went wrong can look like a pass."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership.confidence import Confidence
from attacks.membership.loss import LossThreshold
from redteam.auditing.family import make_family
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.core import TargetError
from redteam.data import Examples, Split, join
from redteam.plugins.attack import Attack, suited
from redteam.plugins.registry import discover_attacks
from redteam.policy import DEFAULT, Policy
from redteam.policy.judge import judge
from redteam.policy.reading import load_policy
from redteam.report import Limit
from redteam.targets.target import Access

TODAY = date(2026, 1, 1)
MEMBERS, OTHERS = sentences(900, seed=1), sentences(900, seed=2)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no policy file: the built-in limits


def verdict(report, **changes):
    """Judge by the built-in limit on the AUC, since none on a TPR is kept without reference models.

    That a target answers at random, as `RuleTarget` does, is allowed.
    """
    policy = replace(load_policy(None, today=TODAY), limits=DEFAULT.limits[:1])
    return judge(report, replace(policy, **{"allow_untrained": True} | changes), today=TODAY)


class Broken(Attack):
    """An attack that goes wrong in a way of the test's choosing."""

    id, name, needs, signals = "RT199", "broken", Access.PROBABILITIES, ("one",)

    def __init__(self, answer):
        self.answer = answer

    def score(self, target, pool, context):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(len(pool))


def test_a_leak_is_proven_and_its_absence_passes():
    split = Split.of(MEMBERS, OTHERS)
    leaky, safe = audit(RuleTarget(MEMBERS), split), audit(RuleTarget(join(MEMBERS, OTHERS), share=0.8), split)
    assert (leaky.grade, safe.grade) == ("B", "B")
    assert verdict(leaky).exit_code == 1
    assert verdict(safe).exit_code == 0
    assert verdict(safe, allow_untrained=False).exit_code == 0
    untaught = verdict(
        audit(RuleTarget(), split), allow_untrained=False
    )  # it is right by chance alone, so that its silence says nothing
    assert (untaught.exit_code, len(untaught.problems)) == (2, 1)
    assert verdict(leaky, allow_untrained=False).exit_code == 1
    auc = next(e for e in leaky.evidence if e.rule == "RT101.auc")
    assert auc.interval.low > 0.95
    assert (auc.members, auc.nonmembers) == (900, 900)


def moved(report, identifier, value, low, high):
    """The report with another interval for one of its numbers."""
    evidence = tuple(
        replace(each, interval=replace(each.interval, value=value, low=low, high=high))
        if each.id == identifier
        else each
        for each in report.evidence
    )
    assert evidence != report.evidence
    return replace(report, evidence=evidence)


def shared(report):
    return {share.id: share.error for share in report.multiplicity.shares}


def test_the_error_is_shared_over_what_is_judged_and_most_is_for_the_strongest_attack():
    attacks = tuple(attack for attack in discover_attacks() if attack.id in ("RT101", "RT102"))
    settings = AuditSettings(alpha=0.06, fprs=(0.1, 0.01))
    report = audit(RuleTarget(), Split.of(MEMBERS, OTHERS), attacks, settings=settings)
    shares = shared(report)
    assert len(report.evidence) == (1 + 4) * 3
    assert len(shares) == report.multiplicity.intervals == 2 * 3
    assert sum(shares.values()) == pytest.approx(0.06)
    assert shares["RT102.auc:modified_entropy"] == pytest.approx(0.8 * 0.02) == report.multiplicity.each
    assert shares["RT101.tpr@0.01:loss"] == pytest.approx(0.2 * 0.02)
    assert {each.id for each in report.judged} == set(shares)
    assert all(each.interval.alpha == pytest.approx(shares.get(each.id, 0.06)) for each in report.evidence)
    assert report.multiplicity.primary == "RT102"
    assert "Bonferroni" in report.multiplicity.method


def test_error_is_spent_only_on_what_a_policy_limits():
    attacks = tuple(attack for attack in discover_attacks() if attack.id in ("RT101", "RT102"))
    one = AuditSettings(limits=(Limit("auc", 0.55),))
    report = audit(RuleTarget(MEMBERS), Split.of(MEMBERS, OTHERS), attacks, settings=one)
    assert shared(report) == {
        "RT102.auc:modified_entropy": pytest.approx(0.04),
        "RT101.auc:loss": pytest.approx(0.01),
    }
    assert "RT101.tpr@0.01:loss" in {each.id for each in report.evidence}
    other = judge(report, Policy((Limit("tpr", 0.05, 0.01),)), today=TODAY)
    assert other.exit_code == 2
    assert any("described only" in problem for problem in other.problems)


def test_one_attack_alone_has_all_of_the_error():
    for access, only in ((Access.LOSSES, "RT101"), (Access.LABELS, "RT105")):
        able = [attack for attack in suited(discover_attacks(), access) if attack.needs in access]
        family = make_family(able, AuditSettings(), epsilon=False, claimed=False)
        assert family.primary == only
        assert [share.error for share in family.shares] == [0.025, 0.025]


def test_numbers_of_members_and_of_canaries_have_levels_of_their_own():
    attacks = [attack for attack in discover_attacks() if attack.id in ("RT101", "RT102")]
    planted = ("RT299.exposure:R=10", "RT299.extraction_rate:R=10")
    family = make_family(attacks, AuditSettings(), epsilon=False, claimed=False, planted=planted)
    assert family.of_canaries == pytest.approx(0.05 / 4)
    assert family.of_members == pytest.approx(0.8 * 0.05 / 4)  # which a plan holds limits on members against
    alone = make_family(attacks, AuditSettings(), epsilon=False, claimed=False)
    assert alone.of_members == pytest.approx(0.8 * 0.05 / 2)


def test_what_a_weaker_attack_misses_keeps_no_limit():
    attacks = tuple(attack for attack in discover_attacks() if attack.id in ("RT101", "RT102"))
    report = audit(RuleTarget(), Split.of(MEMBERS, OTHERS), attacks)
    checks = {check.id: check.outcome for check in judge(report, DEFAULT, today=TODAY).checks}
    assert checks["RT102.auc:modified_entropy"] == "within"
    assert checks["RT101.auc:loss"] == "weaker"
    weak = replace(report, evidence=tuple(each for each in report.evidence if each.attack == "RT101"))
    assert verdict(report).exit_code == 0
    assert verdict(weak).exit_code == 2


def test_a_weaker_attack_whose_best_guess_is_beyond_a_limit_leaves_it_open():
    attacks = tuple(attack for attack in discover_attacks() if attack.id in ("RT101", "RT102"))
    report = audit(RuleTarget(), Split.of(MEMBERS, OTHERS), attacks)
    more = moved(report, "RT101.auc:loss", 0.58, 0.54, 0.62)
    found = judge(more, replace(DEFAULT, allow_untrained=True), today=TODAY)
    assert {check.id: check.outcome for check in found.checks}["RT101.auc:loss"] == "inconclusive"
    assert any("max_auc 0.55 is not settled by RT101.auc:loss" in note for note in found.notes)
    strict = Policy(DEFAULT.limits[:1], allow_untrained=True, strict=True)
    assert judge(more, strict, today=TODAY).exit_code == 2
    assert judge(report, strict, today=TODAY).exit_code == 0


def test_a_signal_that_is_only_described_proves_nothing():
    attacks = tuple(attack for attack in discover_attacks() if attack.id in ("RT101", "RT102"))
    report = audit(RuleTarget(), Split.of(MEMBERS, OTHERS), attacks)
    assert verdict(moved(report, "RT102.auc:margin", 0.9, 0.85, 0.95)).exit_code == 0
    assert verdict(moved(report, "RT101.auc:loss", 0.9, 0.85, 0.95)).exit_code == 1


def test_same_seed_same_report_and_no_training_text_in_it():
    split = replace(Split.of(MEMBERS, OTHERS), salt="00" * 16)
    first, again = (replace(audit(RuleTarget(MEMBERS), split), created="") for _ in range(2))
    assert first == again
    text = first.to_json()
    assert not any(sentence in text for sentence in MEMBERS.texts + OTHERS.texts)
    assert all(row.hash and row.text is None for row in first.exposed)
    assert {row.id for row in first.exposed} <= {f"row {i}" for i in range(1, 901)}
    shown = audit(RuleTarget(MEMBERS), split, settings=AuditSettings(show_text=True))
    assert {row.text for row in shown.exposed} <= set(MEMBERS.texts)


def test_hashes_need_the_salt():
    one, other = (
        audit(RuleTarget(MEMBERS), replace(Split.of(MEMBERS, OTHERS), salt=salt)).exposed[0].hash
        for salt in ("00" * 16, "01" * 16)
    )
    assert one != other
    assert audit(RuleTarget(MEMBERS), Split.of(MEMBERS, OTHERS)).exposed[0].hash is None


def test_every_text_is_asked_for_once():
    target = RuleTarget()
    audit(target, Split.of(MEMBERS, OTHERS))
    assert sorted(target.asked) == sorted(MEMBERS.texts + OTHERS.texts)


def test_sides_that_differ_without_the_model_are_refused():
    longer = sentences(900, seed=3, words=9)
    target = RuleTarget(MEMBERS)
    report = audit(target, Split.of(MEMBERS, longer))
    assert report.grade == "C"
    assert report.evidence == report.classes == report.exposed == ()
    asked = suited(discover_attacks(), RuleTarget().access)
    assert {f.attack for f in report.failures} == {attack.id for attack in asked}
    assert {f.kind for f in report.failures} == {"refused"}
    assert target.asked == []  # nothing is spent on numbers that would mean nothing
    assert verdict(report).exit_code == 2


def test_random_inclusion_outweighs_the_control_unless_it_is_certain():
    alike = replace(Split.of(MEMBERS, OTHERS), randomised=True)
    report = audit(RuleTarget(), alike)
    assert report.grade == "A"
    assert report.controls[0].auc.alpha == 0.001
    lying = replace(Split.of(MEMBERS, sentences(900, seed=3, words=9)), randomised=True)
    assert audit(RuleTarget(), lying).grade == "C"


def test_without_texts_the_split_is_on_trust_and_strict_refuses_that():
    class Saved(RuleTarget):
        access = Access.LOSSES

        def losses(self, examples):
            return np.random.default_rng(0).normal(size=5000)[examples.rows]

    rows = np.arange(5000)
    report = audit(Saved(), Split.of(Examples(rows[:2500]), Examples(rows[2500:])))
    assert report.grade == "B"
    assert "on trust" in report.grade_reason
    assert {(f.attack, f.kind) for f in report.failures} == {
        (name, "not_applicable") for name in ("RT901", "RT902", "RT102", "RT103", "RT104")
    }
    assert verdict(report).exit_code == 0
    assert verdict(report, strict=True).exit_code == 2
    assert verdict(report, require=("RT901",)).exit_code == 2


@pytest.mark.parametrize("access", [Access.LABELS, Access.LOSSES])
def test_an_attack_that_needs_more_than_the_target_gives_is_a_failure(access):
    target = RuleTarget()
    target.access = access
    report = audit(target, Split.of(MEMBERS, OTHERS), [Confidence()])
    assert report.evidence == ()
    (failure,) = report.failures
    assert (failure.attack, failure.kind) == ("RT102", "not_applicable")
    assert failure.reason == f"needs probabilities, the target gives {access.word}"
    assert verdict(report).exit_code == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (TargetError("service down"), "service down"),
        (lambda n: {"one": np.full(n, np.nan)}, "one: 1800 of 1800 scores are NaN"),
        (lambda n: {"one": np.ones(n)}, "one: all 1800 scores are equal"),
        (lambda n: {"one": np.arange(n - 1)}, "one: 1799 scores but 1800 membership flags"),
        (lambda n: {"other": np.arange(n)}, "one: the attack returned no scores for it"),
        (lambda n: {"one": np.ones((n, 2))}, "one: scores has shape (1800, 2)"),
    ],
)
def test_an_attack_that_breaks_is_a_failure_and_never_a_pass(answer, reason):
    report = audit(RuleTarget(), Split.of(MEMBERS, OTHERS), [LossThreshold(), Broken(answer)])
    (failure,) = report.failures
    assert failure.kind == "failed"
    assert failure.reason.startswith(reason)
    assert {e.attack for e in report.evidence} == {"RT101"}  # the other attack was not lost
    assert verdict(report).exit_code == 2
    leak = audit(RuleTarget(MEMBERS), Split.of(MEMBERS, OTHERS), [LossThreshold(), Broken(answer)])
    assert verdict(leak).exit_code == 1  # a proven leak cannot be undone by what broke beside it


def test_a_control_that_breaks_refuses_a_split_but_not_random_inclusion(monkeypatch):
    from attacks.controls.blind import BlindBaseline

    monkeypatch.setattr(BlindBaseline, "score", lambda *a, **k: 1 / 0)
    split = Split.of(MEMBERS, OTHERS)
    report = audit(RuleTarget(), split)
    assert report.grade == "C"
    assert verdict(report).exit_code == 2
    included = audit(RuleTarget(), replace(split, randomised=True))
    assert included.grade == "A"
    assert verdict(included).exit_code == 2  # still a failure, and failures never pass


def test_a_target_that_answers_nonsense_ends_the_audit():
    class Nonsense(RuleTarget):
        def log_probabilities(self, examples):
            raise TargetError("3 of 10 answers are NaN")

    with pytest.raises(TargetError, match="NaN"):
        audit(Nonsense(), Split.of(MEMBERS, OTHERS))
    with pytest.raises(TargetError, match="labels unknown to the model"):
        audit(RuleTarget(labels=("a", "b")), Split.of(MEMBERS, OTHERS))


def test_a_sample_too_small_for_the_limits_cannot_pass():
    report = audit(RuleTarget(), Split.of(sentences(12, seed=1), sentences(12, seed=2)))
    result = verdict(report, limits=DEFAULT.limits)
    assert result.exit_code == 2
    assert any("cannot be judged on 12 members and 12 non-members" in problem for problem in result.problems)


def test_the_breakdown_by_label_is_corrected_and_sorted():
    members, others = (sentences(1200, seed=s, labels=("a", "b", "c")) for s in (1, 2))
    rare = Examples(np.arange(5), tuple(f"rare {i}" for i in range(5)), ("d",) * 5)
    from redteam.data import join

    known = members.take([i for i, label in enumerate(members.labels) if label == "b"])
    target = RuleTarget(known, labels=("a", "b", "c", "d"))
    report = audit(target, Split.of(join(members, rare), others))
    first, *rest = report.classes
    assert first.label == "b"
    assert first.auc.low > 0.9
    assert {leak.label: leak.auc for leak in rest}["d"] is None
    assert {leak.auc.alpha for leak in report.classes if leak.auc} == {0.05 / 3}


@pytest.mark.slow
def test_audits_without_a_leak_find_none():
    """100 audits of models that never saw either side: wrongly failed or refused at most 5 % plus three errors."""
    wrong = 0
    for seed in range(100):
        members, others = sentences(200, seed=2 * seed), sentences(200, seed=2 * seed + 1)
        report = audit(RuleTarget(seed=seed), Split.of(members, others))
        result = judge(report, Policy((Limit("auc", 0.5),)), today=TODAY)
        wrong += bool(result.findings) or report.grade == "C"
    assert wrong <= 5 + 3 * np.sqrt(100 * 0.05 * 0.95), wrong


def test_a_report_survives_its_json():
    report = audit(RuleTarget(MEMBERS), Split.of(MEMBERS, OTHERS))
    assert type(report).from_json(report.to_json()) == report
    assert json.loads(report.to_json())["format"] == "redteam.report/2"
