"""Leakage by group: found where one group alone is memorised, absent where nobody is, shared like other numbers."""

from dataclasses import replace
from datetime import date

import pytest
from conftest import RuleTarget, sentences

from attacks.membership.loss import LossThreshold
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.data import Split
from redteam.policy import Policy
from redteam.policy.judge import judge
from redteam.report import Limit
from redteam.report.metrics import metric
from redteam.report.reading import require_consistent

LIMITS = (Limit("auc", 0.9), Limit("auc_by_group", 0.7), Limit("auc_group_gap", 0.2))


def grouped(seed, groups=("few", "many", "many")):
    rows = sentences(240, seed=seed)
    return replace(rows, groups=tuple(groups[i % len(groups)] for i in range(240)))


@pytest.fixture(scope="module")
def split():
    return Split.of(grouped(1), grouped(2))


def audited(split, target, limits=LIMITS):
    settings = AuditSettings(fprs=(), limits=limits)
    report = audit(target, split, (LossThreshold(),), controls=(), settings=settings)
    require_consistent(report, source="here")
    return report, {each.metric: each for each in report.evidence}


def test_a_group_that_is_memorised_alone_is_found(split):
    members = split.members
    of_few = members.take([i for i in range(len(members)) if members.groups[i] == "few"])
    report, found = audited(split, RuleTarget(of_few))
    assert found["auc_by_group"].interval.low > 0.8
    assert found["auc_group_gap"].interval.low > 0.2
    assert found["auc"].interval.high < 0.9
    verdict = judge(report, Policy(LIMITS, allow_untrained=True), today=date(2026, 1, 1))
    assert {finding.rule for finding in verdict.findings} == {"RT101.auc_by_group", "RT101.auc_group_gap"}
    assert all(metric(each.metric).meaning(each) for each in report.evidence)


def test_nothing_is_found_where_nobody_is_memorised(split):
    report, found = audited(split, RuleTarget())
    assert found["auc_group_gap"].interval.low == 0
    assert found["auc_by_group"].interval.low < 0.6
    assert not judge(report, Policy(LIMITS, allow_untrained=True), today=date(2026, 1, 1)).findings


def test_the_error_is_shared_with_them(split):
    report, _ = audited(split, RuleTarget())
    assert [share.error for share in report.multiplicity.shares] == pytest.approx([0.05 / 3] * 3)
    without, found = audited(split, RuleTarget(), (Limit("auc", 0.9),))
    assert [share.error for share in without.multiplicity.shares] == [0.05]
    assert list(found) == ["auc"]


def test_a_limit_on_groups_that_the_data_does_not_name_is_no_pass():
    report, found = audited(Split.of(sentences(120, seed=1), sentences(120, seed=2)), RuleTarget())
    assert list(found) == ["auc"]
    problems = judge(report, Policy(LIMITS, allow_untrained=True), today=date(2026, 1, 1)).problems
    assert any("max_auc_by_group" in each and "group column" in each for each in problems)
