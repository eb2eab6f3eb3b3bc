"""Splits whose labels differ a little are matched by label and audited; splits whose texts differ are refused."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from redteam.auditing.matching import match_by_label
from redteam.auditing.plan import make_plan
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.data import Examples, Split
from redteam.policy.reading import load_policy
from redteam.statistics.area import area, area_interval
from redteam.statistics.ranking import rank


def labelled(examples, counts, *, start=0):
    """Give so many of the examples each label."""
    labels = tuple(f"l{i}" for i, count in enumerate(counts) for _ in range(count))
    return replace(examples.take(range(len(labels))), labels=labels, rows=np.arange(start, start + len(labels)))


def declared(inside, outside, **texts):
    members = labelled(sentences(sum(inside), seed=1), inside)
    nonmembers = labelled(sentences(sum(outside), seed=2, **texts), outside, start=sum(inside))
    return Split.of(members, nonmembers)


def leaky(split):
    return RuleTarget(split.members, labels=("l0", "l1", "l2"))


class TestAudits:
    def test_labels_that_differ_a_little_are_matched_and_said(self):
        split = declared((400, 300, 200), (250, 300, 350))
        report = audit(leaky(split), split)
        assert report.grade == "B"
        assert (report.data.members, report.data.nonmembers) == (
            report.evidence[0].members,
            report.evidence[0].nonmembers,
        )
        assert report.data.members < 900
        left = f"{report.data.members} of 900 members and {report.data.nonmembers} of 900 non-members are left"
        assert f"; matched by label, {left}; before that RT902 saw AUC 0." in report.grade_reason
        assert (
            "RT901 and RT902 cannot tell the two sides apart without the target; RT901 saw AUC 0."
            in report.grade_reason
        )
        assert report.evidence[0].interval.low > 0.6  # the leak is found in what is left

    def test_texts_that_differ_are_refused_however_the_labels_stand(self):
        for outside in ((300, 300, 300), (250, 300, 350)):
            split = declared((400, 300, 200), outside, words=9)
            report = audit(leaky(split), split)
            assert (report.grade, report.evidence) == ("C", ())
            assert "RT901 tells members from non-members without the target, AUC " in report.grade_reason

    def test_alike_sides_are_left_as_they_are(self):
        split = declared((300, 300, 300), (310, 300, 290))
        report = audit(leaky(split), split)
        assert (report.grade, report.data.members, report.data.nonmembers) == ("B", 900, 900)
        assert "matched" not in report.grade_reason

    def test_a_label_of_one_side_is_left_out(self):
        split = declared((400, 400, 300), (400, 400, 0))
        report = audit(leaky(split), split)
        assert (report.grade, report.data.members) == ("B", 800)
        assert "; 1 label on one side only left out" in report.grade_reason

    def test_nothing_in_common(self):
        report = audit(leaky(declared((400,), (0, 400))), declared((400,), (0, 400)))
        assert report.grade == "C"
        assert "RT902 tells members from non-members" in report.grade_reason


class TestUsers:
    @staticmethod
    def split(inside, outside):
        """Users by what their rows are labelled, such as {"ab": 30}: thirty users with a row of each."""
        sides = []
        for name, counts in (("m", inside), ("n", outside)):
            people = [f"{labels}{i}" for labels, count in counts.items() for i in range(count)]
            rows = [(name + user, label) for user in people for label in user.rstrip("0123456789")]
            examples = sentences(len(rows), seed=len(sides) + 1)
            users, labels = zip(*rows, strict=True)
            sides.append(replace(examples, labels=labels, users=users))
        return Split.of(*sides)

    def test_are_kept_whole_with_the_same_labels_as_often(self):
        split = self.split({"ab": 60, "aa": 40, "abb": 7}, {"ab": 30, "aa": 60})
        left, found = match_by_label(split, seed=0)
        profiles = []
        for side, whole in ((left.members, split.members), (left.nonmembers, split.nonmembers)):
            rows = {user: sorted(np.array(whole.labels)[np.array(whole.users) == user]) for user in set(side.users)}
            assert sum(map(len, rows.values())) == len(side)  # nobody lost a row
            profiles.append(np.unique(["".join(labels) for labels in rows.values()], return_counts=True))
        assert (profiles[0][0] == profiles[1][0]).all()
        shares = [number / number.sum() for _, number in profiles]
        assert shares[0] == pytest.approx(shares[1], abs=1e-12)
        assert (left.users.members, left.users.nonmembers) == (found.members, found.nonmembers)
        assert (found.of_members, found.of_nonmembers, found.one_sided) == (107, 90, 1)
        assert str(found).startswith("users matched by the labels of their rows, ")
        assert str(found).endswith(" of 90 non-members are left; 1 label profile on one side only left out")

    def test_are_audited(self):
        split = self.split({"ab": 60, "aa": 80, "bb": 30}, {"ab": 60, "aa": 30, "bb": 80})
        report = audit(RuleTarget(split.members, labels=("a", "b")), split)
        assert report.grade == "B", report.grade_reason
        assert "; users matched by the labels of their rows, " in report.grade_reason
        assert (report.evidence[0].members, report.evidence[0].nonmembers) == (
            report.users.members,
            report.users.nonmembers,
        )
        assert report.evidence[0].interval.low > 0.6

    def test_of_whom_too_few_are_alike_are_refused(self):
        split = self.split({"ab": 9, "aaa": 100}, {"ab": 9, "bbb": 100})
        assert match_by_label(split, seed=0) is None
        assert audit(RuleTarget(split.members, labels=("a", "b")), split).grade == "C"


def test_a_plan_foresees_what_the_labels_do():
    policy, settings = load_policy(None, today=date(2026, 1, 1)), AuditSettings()
    split = declared((400, 300, 200), (250, 300, 350))
    told = make_plan(leaky(split), split, (), policy, settings).text
    left = audit(leaky(split), split).data
    assert f"labels     matched by label, {left.members} of 900 members and {left.nonmembers} of 900" in told
    assert f"examples   {left.members} members, {left.nonmembers} non-members" in told
    split = declared((400,), (0, 400))
    assert "labels     REFUSED: RT902 tells members" in make_plan(leaky(split), split, (), policy, settings).text
    split = declared((300, 300, 300), (310, 300, 290))
    assert "labels  " not in make_plan(leaky(split), split, (), policy, settings).text


class TestMatching:
    @pytest.mark.parametrize(
        ("inside", "outside"),
        [((900, 100), (40, 60)), ((67, 51, 3), (12, 9, 30)), ((30, 70, 15), (300, 90, 149)), ((500, 1), (300, 700))],
    )
    def test_shares_are_equal_to_the_row(self, inside, outside):
        split = declared(inside, outside)
        matched, found = match_by_label(split, seed=3)
        counts = [np.unique(side.labels, return_counts=True) for side in (matched.members, matched.nonmembers)]
        assert (counts[0][0] == counts[1][0]).all()
        shares = [number / number.sum() for _, number in counts]
        assert shares[0] == pytest.approx(shares[1], abs=1e-12)
        assert (len(matched.members), len(matched.nonmembers)) == (found.members, found.nonmembers)
        assert (found.of_members, found.of_nonmembers) == (sum(inside), sum(outside))
        assert set(matched.members.rows) <= set(split.members.rows)
        again = match_by_label(split, seed=3)[0]
        assert (again.members.rows == matched.members.rows).all()
        if found.members < found.of_members:
            assert (match_by_label(split, seed=4)[0].members.texts != matched.members.texts) or min(inside) == 1

    def test_little_is_lost_where_little_differs(self):
        _, found = match_by_label(declared((1020, 980), (505, 495)), seed=0)
        assert (found.members, found.nonmembers) == (1990, 995)

    def test_what_is_not_matched(self):
        split = declared((40, 20), (20, 40))
        assert match_by_label(split, seed=0) is not None
        assert match_by_label(replace(split, randomised=True), seed=0) is None
        rows = np.arange(40)
        assert match_by_label(Split.of(Examples(rows[:20]), Examples(rows[20:])), seed=0) is None
        assert match_by_label(declared((40, 3), (3, 40)), seed=0) is None  # too few would be left


def test_intervals_after_matching_hold_and_a_naive_audit_blames_the_model():
    """A score that knows the label and nothing else: 1/2 lies in 95 % of the intervals, and in none before matching."""
    rng, runs, alpha = np.random.default_rng(5), 400, 0.05
    effect, missed, blamed, values = np.array([0.0, 1.0, 3.0]), 0, 0, []
    for run in range(runs):
        # each side is a free draw of labels, whose shares differ
        inside = np.bincount(rng.choice(3, 300, p=[0.2, 0.3, 0.5]), minlength=3)
        outside = np.bincount(rng.choice(3, 200, p=[0.4, 0.3, 0.3]), minlength=3)
        sides = [np.repeat(np.arange(3), counts) for counts in (inside, outside)]
        scores = [effect[labels] + rng.normal(size=len(labels)) for labels in sides]
        members, nonmembers = (
            Examples(np.arange(len(labels)), labels=tuple(f"l{label}" for label in labels)) for labels in sides
        )
        matched, _ = match_by_label(Split.of(members, nonmembers), seed=run)
        left = [scores[0][matched.members.rows], scores[1][matched.nonmembers.rows]]
        whole, part = (rank(np.concatenate(s), np.arange(len(s[0]) + len(s[1])) < len(s[0])) for s in (scores, left))
        interval = area_interval(part, alpha=alpha)
        values.append(area(part))
        missed += not interval.low <= 0.5 <= interval.high
        blamed += area_interval(whole, alpha=alpha).low > 0.5
    assert missed <= alpha * runs + 3 * np.sqrt(alpha * (1 - alpha) * runs), missed
    assert blamed > 0.9 * runs, blamed
    assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / np.sqrt(runs)
