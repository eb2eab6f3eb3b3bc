"""Whose silence keeps a limit: an attack without reference models names too few members for its silence to count."""

import json
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from attacks.membership.references import ReferenceModels
from redteam.auditing.keeping import AS_HOPED, held_open, not_kept, weaker_than
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.registry import discover_attacks
from redteam.policy.judge import judge
from redteam.policy.reading import DEFAULT
from redteam.report import Limit
from redteam.report.reading import load_report
from redteam.report.values import AuditReport
from redteam.targets.target import Access

TODAY = date(2026, 7, 1)
SAFE = AuditReport.from_json((ROOT / "tests" / "formats" / "golden" / "safe.json").read_text(encoding="utf-8"))


def judged(report, **changes):
    return judge(report, replace(DEFAULT, **changes), today=TODAY)


def context(models):
    nothing = np.zeros((models, 0))
    return AttackContext(0, reference_scores=ReferenceScores(nothing, nothing.astype(bool), (-1,) * models))


def attack(**attributes):
    kind = type("One", (Attack,), {"id": "RT198", "score": lambda *_: {}, **attributes})
    return kind()


@pytest.mark.parametrize(
    ("models", "attributes", "why"),
    [
        (0, {}, "attacks with reference models find several times the members"),
        (0, {"uses_references": True}, "attacks with reference models find several times the members"),
        (2, {"uses_references": True}, "2 reference models find too few of the members, 4 or more settle it"),
        (8, {}, "RT198 makes no use of the 8 reference models"),
    ],
)
def test_an_attack_with_fewer_than_four_references_keeps_no_limit_on_a_tpr(models, attributes, why):
    found = not_kept([attack(**attributes)], "RT198", context(models), AS_HOPED)
    assert list(found) == ["tpr"]
    assert why in found["tpr"]


def test_four_references_keep_every_limit_and_so_does_an_attack_that_says_it_needs_none():
    assert not_kept([attack(uses_references=True)], "RT198", context(4), AS_HOPED) == {}
    assert not_kept([attack(keeps_alone=("tpr",))], "RT198", context(0), AS_HOPED) == {}
    assert not_kept([], None, context(0), None) == {}


def test_references_that_do_not_answer_as_the_target_does_keep_nothing():
    one = attack(uses_references=True)
    for slope in (0.5, 2.0):
        found = not_kept([one], "RT198", context(8), replace(AS_HOPED, slope=slope))
        assert found == {"tpr": "the reference models do not answer as the target would: train them like it"}
    unknown = not_kept([one], "RT198", context(8), replace(AS_HOPED, slope=None))
    assert unknown["tpr"].startswith("the reference models say too little of each other's rows to see whether")
    unseen = not_kept([one], "RT198", context(8), None)
    assert unseen["tpr"].startswith("from labels alone nobody sees")


def test_a_limit_that_nobody_keeps_is_open_and_says_what_would_do():
    weak = replace(SAFE, not_kept={"tpr": "somebody should look again"})
    assert judged(SAFE).exit_code == 0
    found, strictly = judged(weak), judged(weak, strict=True)
    said = "max_tpr 0.05 at FPR 0.01 is not settled: somebody should look again"
    assert (found.exit_code, found.problems) == (0, ())
    assert said in found.notes
    assert (strictly.exit_code, strictly.problems) == (2, (f"strict: {said}",))
    assert {check.outcome for check in found.checks if ".tpr" in check.id} == {"weaker"}
    assert judged(weak, limits=DEFAULT.limits[1:]).exit_code == 2  # where it is the only limit nothing was judged
    assert judged(weak, limits=DEFAULT.limits[:1]).exit_code == 0  # a limit on the AUC alone is kept
    assert judged(weak, limits=(Limit("tpr", 0.001, fpr=0.01),)).exit_code == 1  # and a proven leak is one all the same


def test_of_reports_from_before_this_was_known_their_references_decide(tmp_path):
    document = json.loads(SAFE.to_json())
    del document["not_kept"]
    for references, code in ((0, 2), (2, 2), (8, 0)):  # under strict
        (tmp_path / "r.json").write_text(json.dumps(document | {"references": references}), encoding="utf-8")
        old = load_report(tmp_path / "r.json")
        assert old.not_kept is None
        assert judged(old, strict=True).exit_code == code
    assert any("audit again with --references 8" in note for note in judged(replace(SAFE, not_kept=None)).notes)


def test_a_sample_too_small_is_still_told_so():
    small = SimpleNamespace(members=15, nonmembers=15, attainable=0.0)
    evidence = tuple(replace(each, **vars(small)) if each.metric == "tpr" else each for each in SAFE.evidence)
    found = judged(replace(SAFE, evidence=evidence, not_kept={"tpr": "why"}))
    assert found.exit_code == 2
    assert any("cannot be judged on 15 members" in problem for problem in found.problems)


def test_an_attack_that_was_named_in_place_of_a_stronger_one_keeps_no_limit():
    known = {each.id: each for each in discover_attacks()}

    def line(*ids, access=Access.PROBABILITIES, references=False):
        return weaker_than([known[each] for each in ids], access, references=references)

    assert line("RT101") == "limits are settled by RT101, a weaker attack than RT102 and RT103, which was not asked"
    assert "RT104" in line("RT103", references=True)
    assert line("RT101", "RT103") is line("RT104", references=True) is line("RT101", access=Access.LOSSES) is None
    held = held_open(SAFE, line("RT101"))
    assert judged(SAFE).exit_code == 0
    for limits in (DEFAULT.limits, DEFAULT.limits[:1], DEFAULT.limits[1:]):
        assert judged(held, limits=limits).exit_code == 2
    assert judged(held, limits=(Limit("auc", 0.5),)).exit_code == judged(SAFE, limits=(Limit("auc", 0.5),)).exit_code
    assert AuditReport.from_json(held.to_json()) == held  # the gate judges the same


def test_another_score_than_the_strongest_keeps_no_limit():
    for form in ("lira_offline", "local", "stacked"):
        found = not_kept([ReferenceModels(form=form)], "RT104", context(8), AS_HOPED)
        assert found["auc"] == found["tpr"] == f"RT104 gave the score {form}, and form=best may find more"
    assert not_kept([ReferenceModels()], "RT104", context(8), AS_HOPED) == {}
