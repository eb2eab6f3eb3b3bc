from dataclasses import replace
from datetime import date

import pytest

from redteam.core import PolicyError
from redteam.policy.judge import judge
from redteam.policy.reading import DEFAULT, Limit, Policy, Waiver
from redteam.report.values import (
    Accuracy,
    AuditReport,
    Budget,
    ClassLeak,
    ControlResult,
    DataSummary,
    Evidence,
    Failure,
    Guarantee,
    Multiplicity,
    TargetSummary,
    UserAccuracy,
)
from redteam.statistics import Interval

TODAY = date(2026, 7, 1)
AUC = Policy((Limit("auc", 0.6),))
EPSILON = Policy((Limit("epsilon", 8.0, delta=1e-5),))


def evidence(low, high, metric="auc", *, attack="RT101", signal="loss", fpr=None, attainable=None, n=1000):
    attainable = {"auc": 0.99, "tpr": 0.9}.get(metric, 100.0) if attainable is None else attainable
    interval = Interval((low + high) / 2, low, high, 0.05)
    return Evidence(attack, signal, metric, interval, n, n, attainable, fpr, 1e-5 if metric == "epsilon" else None)


def report(*found, grade="B", controls=True, failures=(), guarantee=None, name="model.pt"):
    return AuditReport(
        target=TargetSummary(name, "bundle", "probabilities", 2, None),
        data=DataSummary(1000, 1000, 0, 0, 0),
        grade=grade,
        grade_reason="because",
        multiplicity=Multiplicity(0.05, 1, 0.05, "none"),
        evidence=found,
        failures=failures,
        controls=(ControlResult("RT901", Interval(0.5, 0.45, 0.55, 0.05), reads_texts=True),) if controls else (),
        classes=(),
        classes_signal=None,
        exposed=(),
        guarantee=guarantee,
        seed=0,
        created="2026-06-30",
        tool_version="0",
    )


def guarantee(nominal, accounted):
    budget = Budget(nominal, 1e-5, "example", "add or remove one", "RDP")
    return Guarantee(budget, replace(budget, epsilon=accounted))


def verdict(found, policy=AUC, baseline=None, **changes):
    return judge(replace(found, **changes), policy, today=TODAY, baseline=baseline)


# One limit, one interval


@pytest.mark.parametrize(
    ("low", "high", "outcome", "code"),
    [
        (0.61, 0.7, "exceeded", 1),
        (0.5, 0.6, "within", 0),  # the limit itself is allowed
        (0.6, 0.7, "inconclusive", 0),  # and so it is not proven broken
        (0.5, 0.61, "inconclusive", 0),
    ],
)
def test_a_limit_is_exceeded_within_or_inconclusive(low, high, outcome, code):
    judged = verdict(report(evidence(low, high)))
    assert [check.outcome for check in judged.checks] == [outcome]
    assert judged.exit_code == code
    assert judged.status == {0: "pass", 1: "leak"}[code]
    assert bool(judged.notes) == (outcome == "inconclusive")


def test_strict_turns_inconclusive_into_a_problem():
    judged = verdict(report(evidence(0.5, 0.61)), replace(AUC, strict=True))
    assert (judged.exit_code, judged.status, judged.notes) == (2, "inconclusive", ())
    assert judged.problems[0].startswith("strict: max_auc 0.6 is not settled by RT101.auc:loss")


def test_a_sample_that_could_never_fail_is_a_problem_with_the_size_it_takes():
    judged = verdict(report(evidence(0.4, 0.9, attainable=0.6, n=8)))
    assert [check.outcome for check in judged.checks] == ["underpowered"]
    assert judged.exit_code == 2
    assert "cannot be judged on 8 members and 8 non-members" in judged.problems[0]
    assert "audit at least 7 members" in judged.problems[0]


@pytest.mark.parametrize(
    ("n", "most", "lacks"),
    [
        ((300, 50), 0.2, "audit at least 83 non-members, or limit the TPR at an FPR of 0.042 or more"),
        ((300, 5), 0.3, "audit at least 163 non-members, or limit the TPR at an FPR of 0.292 or more"),
        ((2, 50), 0.4, "audit at least 7 members and 218 non-members"),
        ((2, 500), 0.4, "audit at least 7 members"),
    ],
)
def test_only_what_is_lacking_is_asked_for(n, most, lacks):
    tpr = replace(evidence(0.0, 0.9, attainable=0.0), metric="tpr", fpr=0.01, members=n[0], nonmembers=n[1])
    problems = verdict(report(tpr), Policy((Limit("tpr", most, fpr=0.01),))).problems
    problem = next(each for each in problems if "cannot be judged on" in each)
    assert problem.endswith(f"not even a perfect attack would prove anything (RT101.tpr@0.01:loss); {lacks}")


def test_a_sample_that_could_never_fail_does_not_pass_for_being_narrow():
    assert verdict(report(evidence(0.5, 0.55, attainable=0.58))).exit_code == 2


def test_signals_of_one_size_share_one_problem():
    found = [evidence(0.4, 0.9, attainable=0.6, signal=name) for name in ("a", "b", "c")]
    judged = verdict(report(*found))
    assert sum("cannot be judged" in problem for problem in judged.problems) == 1
    assert "RT101.auc:a and 2 more" in judged.problems[0]


def test_sizes_are_only_told_where_they_are_known():
    policy = Policy((Limit("exposure", 5.0),))
    judged = verdict(report(evidence(1, 4, "exposure", attainable=4.0)), policy)
    assert judged.exit_code == 2
    assert "plant longer secrets" in judged.problems[0]
    judged = verdict(report(evidence(0, 4, "exposure", attainable=0.0)), policy)
    assert "plant more canaries" in judged.problems[0]


def test_nan_never_passes():
    odd = replace(evidence(0.5, 0.55), attainable=float("nan"))
    assert verdict(report(odd)).exit_code == 2
    assert verdict(report(evidence(0.5, 0.55)), Policy((Limit("auc", float("nan")),))).exit_code == 2


def test_an_fpr_is_matched_whatever_its_last_digit():
    policy = Policy((Limit("tpr", 0.5, fpr=0.1 + 0.2),))
    assert verdict(report(evidence(0.1, 0.2, "tpr", fpr=0.3)), policy, not_kept={}).exit_code == 0


def test_a_limit_without_evidence_is_a_problem_that_says_what_to_do():
    judged = verdict(report(evidence(0.5, 0.55)), Policy((Limit("auc", 0.6), Limit("tpr", 0.01, fpr=0.001))))
    assert judged.exit_code == 2
    assert judged.problems == (
        "max_tpr 0.01 at FPR 0.001: the report has no TPR at FPR 0.001: audit again with --fpr 0.001",
    )


@pytest.mark.parametrize("metric", ["exposure", "extraction_rate", "epsilon", "auc"])
def test_every_metric_without_evidence_is_a_problem(metric):
    policy = Policy((Limit(metric, 0.5, delta=1e-5 if metric == "epsilon" else None),))
    assert verdict(report(evidence(0.0, 0.1, "tpr", fpr=0.01)), policy).exit_code == 2


def test_an_empty_report_never_passes():
    assert verdict(report(), DEFAULT).exit_code == 2
    assert verdict(report(), Policy()).exit_code == 2
    assert "no attack's evidence was judged" in verdict(report(), Policy()).problems[-1]


# Findings


def test_a_finding_says_in_plain_words_what_was_shown():
    judged = verdict(report(evidence(0.91, 0.95)))
    (finding,) = judged.findings
    assert finding.message == (
        "an outsider who thresholds loss tells members from non-members: AUC 0.93 [0.91, 0.95], limit 0.60"
    )
    assert (finding.id, finding.rule, finding.state) == ("RT101.auc:loss", "RT101.auc", "proven")
    assert "differential privacy" in finding.remedy


def test_a_bound_near_its_limit_is_shown_with_the_digits_it_takes():
    (finding,) = verdict(report(evidence(0.60004, 0.7))).findings
    assert "[0.6000, 0.7000]" not in finding.message
    assert "[0.60004, 0.70000], limit 0.60000" in finding.message


def test_the_worst_finding_comes_first():
    found = [evidence(0.62, 0.7, signal="a"), evidence(0.9, 0.95, signal="b"), evidence(0.7, 0.8, signal="c")]
    assert [finding.id[-1] for finding in verdict(report(*found)).findings] == ["b", "c", "a"]


def test_a_fingerprint_outlives_the_numbers_but_not_the_target():
    def key(low, name="model.pt", signal="loss"):
        return verdict(report(evidence(low, 0.95, signal=signal), name=name)).findings[0].fingerprint

    assert key(0.7) == key(0.9)
    assert len({key(0.7), key(0.7, "other.pt"), key(0.7, signal="entropy")}) == 3
    assert len(key(0.7)) == 64


def test_a_leak_beats_every_problem():
    judged = verdict(report(evidence(0.9, 0.95), failures=(Failure("RT102", "failed", "boom"),)))
    assert (judged.exit_code, judged.status, len(judged.problems)) == (1, "leak", 1)


# Grades, failures, requirements, controls


def test_grade_c_refuses_membership_even_where_numbers_are_there():
    judged = verdict(report(evidence(0.9, 0.95), grade="C"))
    assert (judged.exit_code, judged.findings) == (2, ())
    assert [check.outcome for check in judged.checks] == ["inadmissible"]
    assert "grade C" in judged.problems[0]


def test_grade_c_does_not_hide_an_extraction():
    found = report(evidence(0.5, 0.9, "extraction_rate"), grade="C")
    assert verdict(found, Policy((Limit("extraction_rate", 0.0),))).exit_code == 1


@pytest.mark.parametrize(("kind", "code"), [("failed", 2), ("refused", 2), ("not_applicable", 0)])
def test_a_failure_is_a_problem_unless_the_attack_does_not_apply(kind, code):
    judged = verdict(report(evidence(0.5, 0.55), failures=(Failure("RT104", kind, "no reference"),)))
    assert judged.exit_code == code
    assert any("no reference" in line for line in (*judged.problems, *judged.notes))


@pytest.mark.parametrize("kind", ["failed", "refused", "not_applicable"])
def test_a_required_attack_must_have_given_evidence(kind):
    policy = replace(AUC, require=("RT104",))
    judged = verdict(report(evidence(0.5, 0.55), failures=(Failure("RT104", kind, "no reference"),)), policy)
    assert judged.exit_code == 2
    assert judged.problems == (f"RT104 is required and gave no evidence: {kind}: no reference",)


def test_a_required_attack_that_broke_on_one_signal_is_not_said_to_have_given_nothing():
    found = report(evidence(0.5, 0.55), failures=(Failure("RT101", "failed", "margin: no scores"),))
    judged = verdict(found, replace(AUC, require=("RT101",)))
    assert judged.problems == ("RT101 is required and did not give all of its evidence: failed: margin: no scores",)


def test_requirements_are_met_by_evidence_and_by_controls():
    policy = replace(AUC, require=("RT101", "RT901"))
    assert verdict(report(evidence(0.5, 0.55)), policy).exit_code == 0
    judged = verdict(report(evidence(0.5, 0.55), controls=False), policy)
    assert judged.problems == ("RT901 is required and gave no evidence: it is not in the report: audit again with it",)


def test_a_split_without_a_control_is_taken_on_trust_but_not_under_strict():
    trusted = report(evidence(0.5, 0.55), controls=False)
    judged = verdict(trusted)
    assert judged.exit_code == 0
    assert "taken on trust" in judged.notes[0]
    assert verdict(trusted, replace(AUC, strict=True)).exit_code == 2
    assert verdict(trusted, replace(AUC, strict=True), grade="A").exit_code == 0


# Epsilon and the guarantee


def test_an_attack_never_bounds_epsilon_from_above():
    found = report(evidence(0.1, 0.5, "epsilon"), evidence(0.5, 0.55), grade="A")
    for policy in (EPSILON, Policy((*AUC.limits, *EPSILON.limits)), replace(EPSILON, strict=True)):
        judged = verdict(found, policy)
        assert judged.checks[-1].outcome == "inconclusive"
        assert (judged.exit_code, judged.status, judged.findings, judged.notes) == (2, "inconclusive", (), ())
        (problem,) = judged.problems
        assert "an attack never bounds epsilon from above" in problem
        assert problem.endswith("No guarantee meets the limit: train with DP-SGD")


def test_a_model_without_a_guarantee_is_no_better_off_than_one_that_says_what_it_accounts_for():
    close, honest = evidence(3.9, 5, "epsilon"), evidence(0.1, 0.5, "epsilon")
    assert verdict(report(close, grade="A"), Policy((Limit("epsilon", 4.0, delta=1e-5),))).exit_code == 2
    assert verdict(report(honest, grade="A", guarantee=guarantee(10, 10)), EPSILON).exit_code == 2


def test_a_guarantee_settles_what_an_attack_cannot():
    found = report(evidence(0.1, 0.5, "epsilon"), grade="A", guarantee=guarantee(6, 6))
    judged = verdict(found, replace(EPSILON, strict=True))
    assert judged.exit_code == 0
    assert [(check.id, check.outcome) for check in judged.checks] == [
        ("RT101.epsilon:loss", "within"),
        ("guarantee.epsilon", "within"),
    ]


def test_a_guarantee_above_the_limit_is_no_proven_leak_and_no_pass():
    found = report(evidence(0.1, 0.5, "epsilon"), grade="A", guarantee=guarantee(2, 12))
    judged = verdict(found, EPSILON)
    assert (judged.exit_code, judged.findings) == (2, ())
    assert "accounts for epsilon 12" in judged.problems[0]
    assert "quote the second" in " ".join(judged.notes)


def test_epsilon_without_evidence_or_guarantee_is_a_problem():
    assert "neither an epsilon" in verdict(report(evidence(0.5, 0.55)), EPSILON).problems[0]


def test_epsilon_is_only_judged_on_grade_a():
    found = report(evidence(9, 12, "epsilon"), evidence(0.5, 0.55))
    policy = Policy((*AUC.limits, *EPSILON.limits))
    judged = verdict(found, policy)
    assert (judged.exit_code, judged.findings) == (2, ())
    assert "cannot be judged on evidence of grade B" in judged.problems[0]
    assert verdict(found, policy, guarantee=guarantee(6, 6)).exit_code == 0
    assert verdict(found, policy, grade="A").exit_code == 1


def test_a_paper_guarantee_alone_is_no_audit():
    assert verdict(report(guarantee=guarantee(1, 1)), EPSILON).exit_code == 2


@pytest.mark.parametrize(("nominal", "accounted", "admitted"), [(1, 6, 1), (6, 1, 1)])
def test_a_measurement_above_the_guarantee_is_a_finding_without_any_limit(nominal, accounted, admitted):
    found = report(
        evidence(2, 3, "epsilon"),
        evidence(2.5, 3, "epsilon", signal="entropy"),
        evidence(0.5, 0.55),
        grade="A",
        guarantee=guarantee(nominal, accounted),
    )
    judged = verdict(found)
    (finding,) = judged.findings
    assert (judged.exit_code, finding.id, finding.rule) == (1, "claim:epsilon", "claim.epsilon")
    assert (finding.limit, finding.interval.low) == (admitted, 2.5)
    assert verdict(found, grade="B").findings == ()


def test_a_refuted_guarantee_settles_nothing():
    found = report(evidence(2, 3, "epsilon"), grade="A", guarantee=guarantee(1, 1))
    waiver = Waiver("claim:epsilon", "known", date(2027, 1, 1))
    judged = verdict(found, replace(EPSILON, waivers=(waiver,)))
    assert [finding.state for finding in judged.findings] == ["waived"]
    assert (judged.exit_code, judged.status) == (2, "inconclusive")
    assert "the one that the report has is proven wrong" in judged.problems[0]
    assert [(check.id, check.outcome) for check in judged.checks] == [("RT101.epsilon:loss", "inconclusive")]


def at(delta, **changes):
    return replace(evidence(2, 3, "epsilon"), delta=delta, **changes)


@pytest.mark.parametrize(("delta", "proves"), [(1e-5, True), (1e-3, True), (1e-6, False), (None, False)])
def test_a_claim_is_only_broken_at_a_delta_that_is_no_smaller(delta, proves):
    """At a larger delta a mechanism has a smaller epsilon: measured at a smaller one, it may be within the claim."""
    found = report(at(delta), evidence(0.5, 0.55), grade="A", guarantee=guarantee(1, 1))
    judged = verdict(found)
    assert [finding.id for finding in judged.findings] == (["claim:epsilon"] if proves else [])
    assert judged.exit_code == (1 if proves else 2)
    if not proves:
        assert "does not compare" in judged.problems[0]


def test_the_claim_that_is_compared_is_the_one_that_is_broken():
    given = guarantee(1, 1.5)
    given = replace(given, nominal=replace(given.nominal, delta=1e-2))
    (finding,) = verdict(report(at(1e-5), evidence(0.5, 0.55), grade="A", guarantee=given)).findings
    assert finding.limit == 1.5
    assert "accounts for epsilon 1.5" in finding.message


@pytest.mark.parametrize(("delta", "code"), [(1e-5, 1), (1e-3, 1), (1e-6, 2), (None, 2)])
def test_a_limit_is_only_broken_at_a_delta_that_is_no_smaller(delta, code):
    judged = verdict(report(at(delta), grade="A"), Policy((Limit("epsilon", 1.0, delta=1e-5),)))
    assert judged.exit_code == code
    if code == 2:
        assert "cannot be held against RT101.epsilon:loss" in judged.problems[0]
        assert judged.checks[0].outcome == "inadmissible"


def test_a_guarantee_meets_a_limit_only_at_a_delta_that_is_no_larger():
    found = report(evidence(0.1, 0.5, "epsilon"), grade="A", guarantee=guarantee(6, 6))
    assert verdict(found, EPSILON).exit_code == 0
    judged = verdict(found, Policy((Limit("epsilon", 8.0, delta=1e-6),)))
    assert judged.exit_code == 2
    assert "accounts for epsilon 6 at delta 1e-05" in judged.problems[0]
    assert "raise max_delta" in judged.problems[0]
    assert verdict(found, Policy((Limit("epsilon", 8.0, delta=1e-4),))).exit_code == 0


def test_a_guarantee_at_a_smaller_delta_settles_what_the_measurement_cannot():
    exact = guarantee(6, 6)
    exact = Guarantee(*(replace(each, delta=1e-7) for each in (exact.nominal, exact.accounted)))
    found = report(at(1e-7), grade="A", guarantee=exact)
    assert verdict(found, EPSILON).exit_code == 0
    assert verdict(replace(found, guarantee=None), EPSILON).exit_code == 2


def of_unit(unit, epsilon=1):
    budgets = guarantee(epsilon, epsilon)
    return Guarantee(*(replace(each, unit=unit) for each in (budgets.nominal, budgets.accounted)))


@pytest.mark.parametrize("unit", ["user", "client"])
def test_a_guarantee_for_users_is_not_refuted_by_what_is_measured_of_examples_and_never_passes_then(unit):
    assert verdict(report(evidence(0.1, 0.5, "epsilon"), grade="A", guarantee=of_unit(unit)), EPSILON).exit_code == 0
    judged = verdict(report(at(1e-5), grade="A", guarantee=of_unit(unit)), EPSILON)
    assert (judged.exit_code, judged.findings) == (2, ())
    assert f"epsilon 1 for each {unit} was measured, but for single examples" in judged.problems[0]


def of_users(found):
    return replace(found, unit="user")


@pytest.mark.parametrize("unit", ["user", "client"])
def test_a_guarantee_for_users_is_refuted_by_what_is_measured_of_users(unit):
    judged = verdict(report(of_users(at(1e-5)), grade="A", guarantee=of_unit(unit)), EPSILON)
    assert [finding.id for finding in judged.findings] == ["claim:epsilon"]
    calm = report(of_users(evidence(0.1, 0.5, "epsilon")), grade="A", guarantee=of_unit(unit))
    assert verdict(calm, EPSILON).exit_code == 0


def test_a_guarantee_for_examples_neither_passes_nor_is_refuted_by_what_is_measured_of_users():
    judged = verdict(report(of_users(at(1e-5)), grade="A", guarantee=of_unit("example")), EPSILON)
    assert (judged.exit_code, judged.findings) == (2, ())  # within the limit of 8, above the guarantee of 1
    assert judged.problems[0].startswith("max_epsilon 8 at delta 1e-05 is not met for users: the guarantee is for each")
    above = report(of_users(evidence(9, 12, "epsilon")), grade="A", guarantee=of_unit("example"))
    judged = verdict(above, EPSILON)
    assert [finding.id for finding in judged.findings] == ["RT101.user.epsilon:loss"]  # the limit is on users too
    assert "more privacy of a user was spent than allowed" in judged.findings[0].message


def test_limits_hold_for_users_and_findings_speak_of_them():
    judged = verdict(report(of_users(evidence(0.9, 0.95))), AUC)
    assert judged.exit_code == 1
    assert judged.findings[0].id == "RT101.user.auc:loss"
    assert "tells users whose rows were trained on from users whose rows were not" in judged.findings[0].message
    assert judged.findings[0].fingerprint != verdict(report(evidence(0.9, 0.95)), AUC).findings[0].fingerprint


def test_a_baseline_of_rows_excuses_no_leak_of_users():
    rows, users = report(evidence(0.9, 0.95)), report(of_users(evidence(0.9, 0.95)))
    assert verdict(users, AUC, baseline=users).exit_code == 0
    assert verdict(users, AUC, baseline=rows).exit_code == 1


def test_a_bound_on_epsilon_is_worded_as_one():
    judged = verdict(report(evidence(9, 12, "epsilon"), grade="A"), EPSILON)
    assert (
        "epsilon at least 9.00 (this sample could have shown up to 100.00) at delta 1e-05" in judged.findings[0].message
    )
    judged = verdict(report(evidence(0.1, 0.5, "epsilon"), grade="A"), EPSILON)
    assert "at least 0.10, limit 8.00" in judged.problems[0]
    assert "A low bound is not evidence of privacy." in judged.problems[0]


# Waivers and baselines


@pytest.mark.parametrize("identifier", ["RT101.auc", "RT101.auc:loss"])
def test_a_waiver_excuses_a_rule_or_one_signal_of_it(identifier):
    waiver = Waiver(identifier, "for the pilot", TODAY)
    judged = verdict(report(evidence(0.9, 0.95)), replace(AUC, waivers=(waiver,)))
    assert judged.exit_code == 0
    assert judged.findings[0].excuse == f"waived until {TODAY}: for the pilot"
    assert judged.notes == ()


def test_a_waiver_of_one_signal_does_not_cover_another():
    waiver = Waiver("RT101.auc:loss", "for the pilot", TODAY)
    found = report(evidence(0.9, 0.95), evidence(0.9, 0.95, signal="entropy"))
    assert verdict(found, replace(AUC, waivers=(waiver,))).exit_code == 1


def test_a_waiver_that_is_not_needed_is_noted():
    policy = replace(AUC, waivers=(Waiver("RT101.auc", "old", TODAY),))
    assert "matches no finding" in verdict(report(evidence(0.5, 0.55)), policy).notes[0]


def test_an_expired_waiver_is_refused():
    policy = replace(AUC, waivers=(Waiver("RT101.auc", "old", date(2026, 6, 30)),))
    with pytest.raises(PolicyError, match="expired on 2026-06-30"):
        verdict(report(evidence(0.9, 0.95)), policy)


def test_a_leak_in_the_baseline_does_not_fail_but_stays_a_leak():
    before = report(evidence(0.7, 0.8))
    judged = verdict(report(evidence(0.75, 0.85)), baseline=before)
    assert (judged.exit_code, judged.findings[0].state) == (0, "baseline")
    assert "a leak that is known is still a leak" in judged.notes[0]
    assert judged.baseline


def test_a_leak_provably_worse_than_the_baseline_fails():
    assert verdict(report(evidence(0.81, 0.85)), baseline=report(evidence(0.7, 0.8))).exit_code == 1


@pytest.mark.parametrize(
    "before",
    [
        report(evidence(0.55, 0.95)),  # not proven then
        report(evidence(0.7, 0.99), grade="C"),
        report(evidence(0.7, 0.99), grade="A"),
        report(evidence(0.7, 0.99, signal="entropy")),
        report(),
    ],
)
def test_a_baseline_excuses_only_the_same_leak_proven_on_the_same_grade(before):
    assert verdict(report(evidence(0.75, 0.85)), baseline=before).exit_code == 1


def test_a_broken_claim_in_the_baseline_is_excused_only_for_the_same_claim():
    found = report(evidence(2, 3, "epsilon"), evidence(0.5, 0.55), grade="A", guarantee=guarantee(1, 1))
    assert verdict(found, baseline=found).exit_code == 0
    other = replace(found, guarantee=guarantee(0.5, 1))
    assert verdict(found, baseline=other).exit_code == 1


def test_a_baseline_of_another_target_is_noted():
    notes = verdict(report(evidence(0.5, 0.55)), baseline=report(name="old.pt")).notes
    assert "the baseline is of old.pt, this report of model.pt" in notes


def test_judging_is_repeatable():
    found = report(evidence(0.9, 0.95), evidence(0.5, 0.65, signal="entropy"))
    assert verdict(found) == verdict(found)


def test_an_auc_far_below_a_half_never_passes():
    """Swapped sides would otherwise turn every leak into a pass; of random inclusion, it is a leak turned round."""
    judged = verdict(report(evidence(0.2, 0.3)))
    assert (judged.exit_code, judged.checks[0].outcome) == (2, "reversed")
    assert any("swapped" in problem for problem in judged.problems)
    drawn = verdict(report(evidence(0.2, 0.3), grade="A"))
    assert drawn.exit_code == 1
    (finding,) = drawn.findings
    assert (finding.interval.low, finding.interval.high) == (0.7, 0.8)
    assert "the other way round" in finding.message
    only_tpr = Policy((Limit("tpr", 0.05, fpr=0.01),))
    assert verdict(report(evidence(0.46, 0.49), evidence(0.0, 0.01, "tpr", fpr=0.01)), only_tpr).exit_code == 2
    assert verdict(report(evidence(0.46, 0.49), grade="A")).exit_code == 0
    assert verdict(report(evidence(0.39, 0.55))).checks[0].outcome == "inconclusive"
    assert verdict(report(evidence(0.41, 0.55))).checks[0].outcome == "within"


def test_a_label_that_leaks_alone_is_named():
    """One overfitted label among many disappears in the AUC of all."""
    exposed = ClassLeak("secret\nlabel", 20, 20, Interval(1.0, 0.9, 1.0, 0.01))
    judged = verdict(report(evidence(0.5, 0.55)), classes=(exposed,))
    assert judged.exit_code == 0
    assert any(
        "taken alone, 1 label would be above max_auc 0.6, worst 'secret\\nlabel'" in note for note in judged.notes
    )
    assert verdict(report(evidence(0.5, 0.55)), replace(AUC, strict=True), classes=(exposed,)).exit_code == 2


class TestUntrained:
    """A model that learned nothing has nothing to leak: what does not come out of it is no pass."""

    def accurate(self, members, commonest, of=1000, policy=AUC, found=(0.45, 0.52)):
        data = DataSummary(of, 1000, 0, 0, 0)
        return verdict(report(evidence(*found)), policy, data=data, accuracy=Accuracy(members, 0.1, commonest))

    def test_labels_that_do_not_mean_the_same(self):
        """A leaky model with its label order rotated is wrong on its own members, and looks private."""
        judged = self.accurate(0.03, 0.2)
        assert judged.exit_code == 2
        assert "right on 3.0% of its own members, where always answering the commonest label" in judged.problems[0]

    @pytest.mark.parametrize(
        ("right", "of", "commonest", "code"),
        [
            (50, 2500, 45, 2),  # of 77 labels: 2 % right where the commonest label is 1.8 %
            (45, 2500, 45, 2),  # always one label
            (990, 1000, 200, 0),
            (24, 30, 12, 0),  # a small audit of a good model gets in
            (12, 30, 12, 2),
            (16, 30, 12, 2),  # by the tables: P[Bin(30, 0.4) >= 16] = 0.0971
            (17, 30, 12, 0),  # and 0.0481 for 17
            (30, 30, 30, 2),  # one label: no accuracy shows anything
            (1000, 1000, 970, 0),
        ],
    )
    def test_more_than_the_commonest_label_by_an_exact_test(self, right, of, commonest, code):
        judged = self.accurate(right / of, commonest / of, of)
        assert judged.exit_code == code
        assert sum("allow_untrained" in problem for problem in judged.problems) == (code == 2)
        allowed = self.accurate(right / of, commonest / of, of, replace(AUC, allow_untrained=True))
        assert allowed.exit_code == 0
        assert sum("allow_untrained" in note for note in allowed.notes) == (code == 2)

    @pytest.mark.parametrize(("evidence_for", "code"), [(19.9, 2), (20.0, 0), (float("nan"), 2), (0.0, 2)])
    def test_of_users_with_several_rows_each_user_counts_once(self, evidence_for, code):
        """On 1,000 rows 40 % against 20 % would be beyond doubt; of 40 users they are not."""
        seen = Accuracy(0.4, 0.1, 0.2, UserAccuracy(40, 0.39, 0.21, evidence_for))
        judged = verdict(report(evidence(0.45, 0.52)), AUC, data=DataSummary(1000, 1000, 0, 0, 0), accuracy=seen)
        assert judged.exit_code == code
        told = "right on 39.0% of the rows of each of 40 member users on average, not significantly more than the 21.0%"
        assert sum(told in problem for problem in judged.problems) == (code == 2)

    def test_a_proven_leak_stays_one(self):
        judged = self.accurate(0.02, 0.02, found=(0.7, 0.8))
        assert (judged.exit_code, len(judged.problems)) == (1, 1)

    def test_no_number_is_no_pass(self):
        for odd in (float("nan"), -0.1, 1.5):
            assert self.accurate(odd, 0.2).exit_code == 2
            assert self.accurate(0.9, odd).exit_code == 2

    def test_scores_without_predictions_are_judged_as_they_are(self):
        assert verdict(report(evidence(0.45, 0.52)), accuracy=None).exit_code == 0
