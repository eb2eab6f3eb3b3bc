"""Whole users: drawn as a whole, measured by all their rows, with intervals over users."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import RuleTarget, sentences

from attacks.membership.loss import LossThreshold
from redteam.auditing.epsilon import fair_canaries
from redteam.auditing.run import audit
from redteam.core import DataError, ReportError
from redteam.data import Columns, Examples, Split, join, read_examples, text_key
from redteam.data.grouping import Grouping
from redteam.data.ledger import assign_membership
from redteam.data.units import divide_users, guessed_users, number_users, stand_together
from redteam.formats import blind_spots
from redteam.policy.judge import judge
from redteam.policy.reading import load_policy
from redteam.report.reading import require_consistent
from redteam.report.values import Budget, Guarantee
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.statistics.roc import auc_interval, tpr_at_fpr

TODAY = date(2026, 1, 1)


def owned(count, rows, *, seed):
    """Sentences of so many users with so many rows each."""
    examples = sentences(count * rows, seed=seed)
    return replace(examples, users=tuple(f"u{seed}-{i % count}" for i in range(count * rows)))


def drawn(examples, *, unit, seed=0):
    """Include rows at random, and divide as a ledger does."""
    sides = assign_membership(examples, holdout=0.5, seed=seed, unit=unit)
    inside, outside = examples.take(sides["members"]), examples.take(sides["nonmembers"])
    return Split.of(inside, outside, randomised=True, redrawn=True, inclusion=0.5, salt="00" * 16, unit=unit)


class TestAssignment:
    def test_all_rows_of_a_user_fall_on_one_side_whatever_else_is_there(self):
        examples = owned(200, 7, seed=1)
        sides = assign_membership(examples, holdout=0.4, reference=0.2, seed=3, key="k", unit="user")
        users = {side: {examples.users[row] for row in rows} for side, rows in sides.items()}
        assert sum(map(len, users.values())) == 200
        assert sum(map(len, sides.values())) == 1400
        assert 10 < len(users["reference"]) < 70
        order = np.random.default_rng(0).permutation(1400)[:900]
        fewer = assign_membership(examples.take(order), holdout=0.4, reference=0.2, seed=3, key="k", unit="user")
        assert {examples.users[row] for row in fewer["members"]} <= users["members"]
        assert assign_membership(examples, holdout=0.4, reference=0.2, seed=4, key="k", unit="user") != sides

    def test_users_have_sides_of_their_own_and_not_those_of_their_texts(self):
        examples = owned(4000, 1, seed=1)
        examples = replace(examples, users=examples.texts)
        inside = [
            set(assign_membership(examples, holdout=0.5, seed=0, unit=unit)["members"]) for unit in ("example", "user")
        ]
        assert 850 < len(inside[0] & inside[1]) < 1150

    def test_names_that_differ_in_white_space_or_composition_are_one_user(self):
        names = ("José", " José ", "Jose\u0301")
        examples = replace(sentences(3, seed=1), users=names)
        for seed in range(20):
            assert (
                sum(bool(rows) for rows in assign_membership(examples, holdout=0.5, seed=seed, unit="user").values())
                == 1
            )
        assert number_users(names).tolist() == [0, 0, 0]

    def test_a_row_without_a_user_is_refused_but_not_that_of_a_canary(self):
        examples = replace(sentences(3, seed=1), users=("a", "  ", "b"))
        with pytest.raises(DataError, match="row 2 names no user"):
            assign_membership(examples, holdout=0.5, unit="user", seed=0)
        assign_membership(examples, holdout=0.5, unit="user", seed=0, planted=frozenset([1]))
        with pytest.raises(DataError, match="name the column of users"):
            assign_membership(sentences(3, seed=1), holdout=0.5, unit="user", seed=0)


class TestSplits:
    @pytest.mark.parametrize(("unit", "found"), [("example", "example"), ("user", "user")])
    def test_how_the_rows_were_divided_is_found_out(self, unit, found):
        examples = owned(100, 6, seed=1)
        sides = assign_membership(examples, holdout=0.5, seed=1, unit=unit)
        split = Split.of(examples.take(sides["members"]), examples.take(sides["nonmembers"]))
        assert split.unit == found
        assert (split.users.both > 80) == (unit == "example")
        assert split.users.members + split.users.nonmembers + split.users.both == 100
        assert split.users.most == 6

    def test_rows_by_themselves_are_seldom_taken_for_users_and_users_never_for_rows(self):
        rng = np.random.default_rng(0)
        wrong = missed = 0
        for _ in range(2000):
            sizes = rng.integers(1, 9, 60)
            owners = np.repeat(np.arange(60), sizes)
            share = rng.uniform(0.2, 0.8)
            wrong += stand_together(owners, rng.random(len(owners)) < share)
            missed += not stand_together(owners, np.repeat(rng.random(60) < share, sizes))
        assert wrong <= 4  # 1 in 30,000 where sums are normal
        assert missed == 0

    def test_users_on_both_sides_of_a_split_by_users_are_left_out(self):
        examples = owned(60, 5, seed=1)
        inside = [i for i, user in enumerate(examples.users) if int(user.split("-")[1]) < 30 or i == 59]
        outside = [i for i in range(300) if i not in inside]
        split = Split.of(examples.take(inside), examples.take(outside))
        assert (split.unit, split.users.members, split.users.nonmembers, split.users.both) == ("user", 30, 29, 1)
        assert (len(split.members), len(split.nonmembers)) == (150, 145)
        with pytest.raises(DataError, match="1 users have rows on both sides: no random split of whole users"):
            Split.of(examples.take(inside), examples.take(outside), randomised=True)

    def test_what_is_left_of_a_user_does_not_depend_on_how_sides_were_drawn(self):
        """A text that many say stays with those on one side only, if it goes where they differ: that tells the side."""
        examples = owned(40, 4, seed=1)
        rng = np.random.default_rng(1)
        texts = list(examples.texts)
        for i in rng.choice(160, 60, replace=False):
            texts[i] = f"yes {rng.integers(12)}"
        examples = replace(examples, texts=tuple(texts))
        left = {}
        for seed in range(30):
            together = drawn(examples, unit="user", seed=seed).pool(0)[0]
            for user in set(together.users):
                mine = frozenset(t for t, u in zip(together.texts, together.users, strict=True) if u == user)
                left.setdefault(user, set()).add(mine)
        assert {len(found) for found in left.values()} == {1}

    def test_counts_by_a_naive_twin(self):
        rng = np.random.default_rng(5)
        for _ in range(50):
            owners, words = rng.integers(0, 8, 30), rng.integers(0, 25, 30)
            owners = np.unique(owners, return_inverse=True)[1]
            keys = [b"%d" % word for word in words]
            cut = int(rng.integers(2, 28))
            found = divide_users(owners, keys[:cut], keys[cut:], [b"3"])
            both = set(owners[:cut]) & set(owners[cut:])
            mine = [i for i in range(30) if owners[i] not in both]
            alone = [i for i in mine if words[i] != 3 and len(set(owners[words == words[i]])) == 1]
            first = [i for i in alone if not any(words[j] == words[i] for j in alone if j < i)]
            assert (found.inside, [cut + i for i in found.outside]) == (
                [i for i in first if i < cut],
                [i for i in first if i >= cut],
            )
            assert found.moved == len({words[i] for i in mine} - {words[i] for i in alone})
            assert found.duplicates == len(alone) - len(first)

    def test_rows_must_all_name_their_user_and_users_must_be_enough(self):
        inside, outside = owned(20, 3, seed=1), owned(20, 3, seed=2)
        gap = replace(inside, users=("", *inside.users[1:]))
        with pytest.raises(DataError, match="row 1 of 120 has no user"):
            Split.of(gap, outside)
        with pytest.raises(DataError, match="rows do not say whose they are"):
            Split.of(replace(inside, users=None), outside, unit="user")
        one = replace(inside, users=("a",) * 60)
        with pytest.raises(DataError, match="1 users who are members: an audit needs at least 2 of either"):
            Split.of(one, outside)


class TestColumns:
    def test_a_guessed_column_must_be_meant(self):
        assert guessed_users(("u",) * 30, "user", named=False)[0] is None
        assert guessed_users(("user", "assistant") * 30, "user", named=False)[0] is None
        known = tuple(f"u{i}" for i in range(30))
        assert guessed_users(known, "user", named=False) == (known, ())
        users, notes = guessed_users((*known, ""), "user", named=False)
        assert users is None
        assert notes == (
            "column 'user' is not taken for the user of a row, since 1 rows name no user; --user-column says otherwise",
        )
        assert guessed_users((*known, ""), "user", named=True)[0] == (*known, "")

    def test_the_reader_says_which_it_took(self, tmp_path):
        path = tmp_path / "data.csv"
        path.write_text("text,label,user\n" + "".join(f"t{i},x,u{i % 20}\n" for i in range(40)))
        reading = read_examples(path, Columns())
        assert reading.columns.user == "user"
        assert "user = 'user'" in reading.notes[0]
        path.write_text("text,label,user\n" + "".join(f"t{i},x,u{i % 3}\n" for i in range(40)))
        reading = read_examples(path, Columns())
        assert (reading.columns.user, reading.examples.users) == (None, None)
        assert "it names 3 users" in reading.notes[1]
        assert read_examples(path, Columns(user="user")).examples.users is not None


class TestScores:
    def test_a_user_scores_the_mean_of_her_rows_and_equal_rows_tie_exactly(self):
        pool = Examples(np.arange(7), users=("a", "b", "a", "c", "b", "c", "c"))
        member = np.array([1, 0, 1, 1, 0, 1, 1], dtype=bool)
        units = Grouping.of(pool, member, "user")
        assert units.is_member.tolist() == [True, False, True]
        assert units.score(np.array([1.0, 2, 3, 4, 5, 6, 8])).tolist() == [2.0, 3.5, 6.0]
        assert units.score(np.full(7, 0.1)).tolist() == [0.1, 0.1, 0.1]
        assert np.isnan(units.score(np.array([np.nan, 2, 3, 4, 5, 6, 8]))[0])
        part = units.within(np.array([3, 0, 5]))
        assert (part.is_member.tolist(), part.score(np.array([4.0, 1, 6])).tolist()) == ([True, True], [1.0, 5.0])


class TestAudits:
    def test_users_are_measured_over_users(self):
        examples = owned(300, 5, seed=1)
        split = drawn(examples, unit="user")
        inside = split.members.take(range(0, len(split.members), 5))
        target = RuleTarget(inside)
        report = audit(target, split, (LossThreshold(),))
        assert report.grade == "A"
        assert "every user was included independently at random, drawn again" in report.grade_reason
        assert {e.unit for e in report.evidence} == {"user"} == {report.unit}
        assert (report.data.members + report.data.nonmembers, report.users.both) == (1500, 0)
        pool, member = split.pool(0)
        units, scores = Grouping.of(pool, member, split.unit), -target.losses(pool)
        means = [
            scores[[i for i, u in enumerate(pool.users) if u == user]].mean() for user in dict.fromkeys(pool.users)
        ]
        found = {e.id: e for e in report.evidence}
        each = found["RT101.user.auc:loss"].interval.alpha
        naive = area_interval(rank(np.array(means), units.is_member), alpha=each, low_share=0.9)
        assert found["RT101.user.auc:loss"].interval.value == pytest.approx(naive.value)
        assert found["RT101.user.auc:loss"].interval.low == pytest.approx(naive.low)
        each = found["RT101.user.tpr@0.01:loss"].interval.alpha
        tpr = tpr_at_fpr(np.array(means), units.is_member, fpr=0.01, alpha=2 * each, seed=0)
        assert found["RT101.user.tpr@0.01:loss"].interval.high == pytest.approx(tpr.high)
        sizes = report.users.members, report.users.nonmembers
        assert sum(sizes) == 300
        assert {(e.members, e.nonmembers) for e in report.evidence if e.metric != "epsilon"} == {sizes}
        assert found["RT101.user.epsilon:loss"].interval.low > 0.2
        assert report.users.rows_auc == pytest.approx(auc_interval(scores, member, alpha=0.05).value)
        assert sum(leak.members for leak in report.classes) > sizes[0]  # a user counts in each label that she has
        assert all(leak.members <= sizes[0] for leak in report.classes)
        require_consistent(report, source="it")
        seen = report.accuracy.by_user
        assert (seen.users, seen.evidence >= 20) == (sizes[0], True)
        fewer = replace(report, accuracy=replace(report.accuracy, by_user=replace(seen, users=7)))
        with pytest.raises(ReportError, match="accuracy is of another number of users"):
            require_consistent(fewer, source="it")
        forged = replace(report, users=replace(report.users, members=sizes[0] + 1))
        with pytest.raises(ReportError, match="another number of users"):
            require_consistent(forged, source="it")
        mixed = replace(report, evidence=(replace(report.evidence[0], unit="example"), *report.evidence[1:]))
        with pytest.raises(ReportError, match="some numbers are of examples and some of users"):
            require_consistent(mixed, source="it")

    @pytest.mark.parametrize("unit", ["example", "user"])
    def test_one_row_for_each_user_is_the_audit_of_rows_exactly(self, unit):
        examples = owned(600, 1, seed=1)
        split = drawn(examples, unit=unit)
        bare = [replace(side, users=None) for side in (split.members, split.nonmembers)]
        rows = Split.of(*bare, randomised=True, redrawn=True, inclusion=0.5, salt="00" * 16)
        target = RuleTarget(split.members, share=0.3)
        by_user, by_row = (replace(audit(target, each), created="") for each in (split, rows))
        assert by_user.users.most == 1
        assert replace(by_user, users=None) == by_row
        assert any(e.metric == "epsilon" for e in by_row.evidence)

    def test_rows_with_sides_of_their_own_are_of_grade_a_and_nothing_is_said_of_users(self):
        split = drawn(owned(40, 20, seed=1), unit="example")
        report = audit(RuleTarget(), split)
        assert report.grade == "A"
        assert report.grade_reason.endswith(
            "that is about single rows: 40 of 40 users have rows on both sides, so for a user nothing is measured, at "
            "any grade"
        )
        assert {e.unit for e in report.evidence} == {"example"}
        assert any(line.startswith("what all rows of a user together tell") for line in blind_spots(report))

    def test_a_guarantee_for_examples_sets_no_delta_for_users(self):
        budget = Budget(3.0, 1e-7, "example", "add or remove one", "RDP")
        split = drawn(owned(100, 3, seed=1), unit="user")
        marks = Grouping.of(*split.pool(0), "user").is_member
        assert fair_canaries(split, marks, Guarantee(budget, budget), seed=0).delta == 1e-5
        users = replace(budget, unit="user")
        assert fair_canaries(split, marks, Guarantee(users, users), seed=0).delta == 1e-7

    def test_controls_look_at_users_and_do_not_learn_whose_rows_are_whose(self):
        """Each user has words of her own: a control over rows that learned them would refuse every honest split."""
        rng = np.random.default_rng(3)
        words = [[f"w{i}x{j}" for j in range(3)] for i in range(120)]
        owners = np.repeat(np.arange(120), 12)
        texts = tuple(" ".join([*rng.choice(words[i], 2), str(n)]) for n, i in enumerate(owners))
        labels = tuple("ab"[n % 2] for n in range(len(owners)))
        examples = Examples(np.arange(len(owners)), texts, labels, users=tuple(f"u{i}" for i in owners))
        member = np.repeat(rng.random(120) < 0.5, 12)
        halves = examples.take(np.flatnonzero(member)), examples.take(np.flatnonzero(~member))
        report = audit(RuleTarget(labels=("a", "b")), Split.of(*halves))
        assert (report.grade, report.unit) == ("B", "user")
        bare = Split.of(*(replace(half, users=None) for half in halves))
        assert audit(RuleTarget(labels=("a", "b")), bare).grade == "C"

    def test_a_split_that_differs_is_still_found_out_by_users(self):
        inside, outside = owned(150, 4, seed=1), owned(150, 4, seed=2)
        inside = replace(inside, texts=tuple(f"{text} indeed" for text in inside.texts))
        assert audit(RuleTarget(), Split.of(inside, outside)).grade == "C"

    def test_groups_are_shown_and_not_judged(self):
        inside, outside = sentences(400, seed=1), sentences(400, seed=2)
        known = inside.take(range(0, 400, 2))
        sides = [replace(side, groups=tuple("xy"[i % 2] for i in range(400))) for side in (inside, outside)]
        report = audit(RuleTarget(known), Split.of(*sides))
        assert [(leak.label, leak.members, leak.nonmembers) for leak in report.groups] == [
            ("x", 200, 200),
            ("y", 200, 200),
        ]
        assert report.groups[0].auc.low > 0.9
        assert report.groups[1].auc.low < 0.5 < report.groups[1].auc.high
        assert report.groups[0].auc.alpha == 0.05 / 2
        assert len(report.judged) == report.multiplicity.intervals

    def test_a_leak_about_users_is_a_leak(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        split = drawn(owned(1500, 2, seed=1), unit="user")
        found = judge(audit(RuleTarget(split.members), split), load_policy(None, today=TODAY), today=TODAY)
        assert found.exit_code == 1
        assert found.findings[0].id.startswith("RT101.user.")


def test_a_text_of_two_users_is_left_out_of_both_and_stays_in_the_training():
    examples = owned(30, 3, seed=1)
    texts = list(examples.texts)
    texts[0] = texts[1]  # u1-0 and u1-1
    pool = join(
        *(lambda split: (split.members, split.nonmembers))(drawn(replace(examples, texts=tuple(texts)), unit="user"))
    )
    assert text_key(texts[0]) not in {text_key(text) for text in pool.texts}
    assert len(pool) == 88


class TestSpelling:
    @pytest.mark.parametrize("spell", [str.upper, "{}.0".format, "00{}".format])
    def test_users_on_both_sides_in_another_spelling_are_refused(self, spell):
        """Else they count as 60 users on one side alone, and what is measured of users says nothing about them."""
        names = [f"u{i}" if spell is str.upper else str(i) for i in range(60)]

        def side(users, word):
            texts = tuple(f"{word} {i}" for i in range(300))
            return Examples(np.arange(300), texts, ("a",) * 300, users=tuple(users[i % 60] for i in range(300)))

        inside = side(names, "in")
        with pytest.raises(DataError, match="60 of 60 users of the members are among the non-members in another spell"):
            Split.of(inside, side([spell(name) for name in names], "out"))
        assert Split.of(inside, side(names, "out")).users.both == 60
        others = [spell(name) for name in names[:29]] + [f"x{i}" for i in range(31)]  # ids that case tells apart
        assert Split.of(inside, side(others, "out")).users.both == 0
