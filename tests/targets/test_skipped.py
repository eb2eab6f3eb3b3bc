"""What a target refuses is left out on both sides and counted; what its answers really show decides what is run."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from conftest import RuleTarget, learnable, run_redteam, sentences
from loopback import send, serve
from scipy.stats import fisher_exact

from redteam.auditing.run import audit
from redteam.auditing.scoring import ScoreCache
from redteam.auditing.settings import AuditSettings
from redteam.auditing.skipped import without_refused
from redteam.core import TargetError
from redteam.data import Examples, Split
from redteam.policy import DEFAULT
from redteam.policy.judge import judge
from redteam.report.values import AuditReport
from redteam.statistics import same_share
from redteam.targets.function import FunctionTarget
from redteam.targets.saved import load_scores
from redteam.targets.target import Access

TODAY = date(2026, 1, 1)
LABELS = ("a", "b", "c")
MEMBERS, OTHERS = learnable(800, seed=1), learnable(800, seed=2)
SPLIT = Split.of(MEMBERS, OTHERS)


def served(memorised=(), refused=(), *, hard=None):
    """A function that knows the label by its word, is surer of some texts, and answers None for others."""
    memorised, refused = frozenset(memorised), frozenset(refused)

    def answer(texts):
        rows = []
        for text in texts:
            rng = np.random.default_rng([*text.encode()])
            p = 0.2 * rng.dirichlet(np.ones(3))
            p[LABELS.index(text[0]) if text[0] in LABELS else 0] += 0.8
            if text in memorised:
                p = 0.001 * p + 0.999 * (p == p.max())
            rows.append(None if text in refused else p.tolist() if hard is None else hard(p))
        return rows

    return FunctionTarget(answer, labels=LABELS, name="served")


def verdict(report, **changes):
    limits = DEFAULT.limits[:1]  # none on a TPR is kept without reference models
    return judge(report, replace(DEFAULT, **{"limits": limits} | changes), today=TODAY)


class TestAudits:
    def test_texts_are_left_out_on_both_sides_and_counted(self):
        refused = MEMBERS.texts[:12] + OTHERS.texts[:9]
        report = audit(served(refused=refused), SPLIT)
        assert (report.data.members, report.data.nonmembers) == (788, 791)
        assert (report.data.skipped_members, report.data.skipped_nonmembers) == (12, 9)
        assert {(e.members, e.nonmembers) for e in report.evidence} == {(788, 791)}
        result = verdict(report)
        assert result.exit_code == 0
        assert "served: refused 12 members and 9 non-members, which are left out" in result.notes
        assert AuditReport.from_json(report.to_json()) == report
        alone = audit(served(), Split.of(MEMBERS.take(range(12, 800)), OTHERS.take(range(9, 800))))
        assert alone.accuracy == report.accuracy
        assert {e.id: e.interval.value for e in alone.evidence if e.metric == "auc"} == pytest.approx(
            {e.id: e.interval.value for e in report.evidence if e.metric == "auc"}
        )

    def test_a_leak_beside_them_is_found(self):
        report = audit(served(MEMBERS.texts, refused=MEMBERS.texts[:5]), SPLIT)
        assert verdict(report).exit_code == 1

    @pytest.mark.parametrize(("members", "others"), [(41, 0), (0, 41), (200, 200), (800, 0)])
    def test_more_than_the_limit_of_either_side_ends_the_audit(self, members, others):
        target = served(refused=MEMBERS.texts[:members] + OTHERS.texts[:others])
        with pytest.raises(TargetError, match="refused") as caught:
            audit(target, SPLIT)
        assert "\n" not in str(caught.value)
        if members + others == 41:
            assert "more than 0.05 of a side" in str(caught.value)
            assert "--max-skipped 0.06" in str(caught.value)

    def test_the_limit_can_be_raised(self):
        target = served(refused=MEMBERS.texts[:60] + OTHERS.texts[:61])
        report = audit(target, SPLIT, settings=AuditSettings(max_skipped=0.1))
        assert verdict(report).exit_code == 0

    def test_refusals_of_one_side_alone_are_no_pass(self):
        """What is left out may be all that leaks."""
        result = verdict(audit(served(refused=MEMBERS.texts[:30]), SPLIT))
        assert result.exit_code == 2
        assert "refuses 30 of 800 members and 0 of 800 non-members, which is no chance" in result.problems[0]

    def test_with_users_and_random_inclusion(self):
        def users(examples, side):
            return replace(examples, users=tuple(f"{side}{i // 4}" for i in range(len(examples))))

        split = Split.of(users(MEMBERS, "m"), users(OTHERS, "n"), randomised=True, inclusion=0.5)
        assert split.unit == "user"
        refused = MEMBERS.texts[:5] + OTHERS.texts[:6]  # of the first user on either side all rows
        report = audit(served(refused=refused), split)
        assert {(e.members, e.nonmembers) for e in report.evidence if e.metric == "auc"} == {(199, 199)}
        assert (report.users.members, report.users.nonmembers) == (199, 199)

    @pytest.mark.parametrize(("of_members", "differ"), [(range(24), False), (range(0, 800, 40), True)])
    def test_refusals_of_users_differ_over_users(self, of_members, differ):
        """All 24 rows of three users say little; one row each of 20 users, of one side alone, cannot be chance."""

        def users(examples, side):
            return replace(examples, users=tuple(f"{side}{i // 8}" for i in range(len(examples))))

        split = Split.of(users(MEMBERS, "m"), users(OTHERS, "n"), randomised=True, inclusion=0.5)
        assert (split.unit, split.users.members) == ("user", 100)
        report = audit(served(refused=[MEMBERS.texts[i] for i in of_members]), split)
        assert AuditReport.from_json(report.to_json()) == report
        problems = [each for each in verdict(report).problems if "refuses" in each]
        assert len(problems) == differ

    def test_draws_of_texts_keep_their_place(self):
        split = replace(SPLIT, randomised=True, inclusion=0.5, alone=np.arange(1600) % 7 > 0)
        kept = without_refused(split, frozenset(MEMBERS.texts[:3] + OTHERS.texts[:2]), most=0.1, name="t")
        assert kept.alone.tolist() == (np.delete(np.arange(1600), [0, 1, 2, 800, 801]) % 7 > 0).tolist()
        assert (kept.members.texts, kept.nonmembers.texts) == (MEMBERS.texts[3:], OTHERS.texts[2:])


class TestCache:
    def test_refusals_are_kept_and_taken_up(self, tmp_path):
        rows = sentences(1500, seed=1)
        refused = frozenset(rows.texts[::100])
        calls, lives = [], [1200]

        def answer(texts):
            calls.extend(texts)
            if len(calls) > lives[0]:
                raise KeyboardInterrupt
            return [None if t in refused else [0.5, 0.3, 0.2] for t in texts]

        def opened():
            return FunctionTarget(answer, labels=LABELS, name="f")

        with pytest.raises(KeyboardInterrupt):
            ScoreCache(opened(), folder=tmp_path, max_skipped=0.05).answered(rows)
        calls.clear()
        lives[0] = 10**6
        cache = ScoreCache(opened(), folder=tmp_path, max_skipped=0.05)
        there = cache.answered(rows)
        assert cache.resumed == 1024
        assert len(calls) < 1000  # what was left, a sample, and a batch in another order
        assert (~there).sum() == len(refused)
        with pytest.raises(TargetError, match="refused 15 of 1500 texts"):
            cache.log_probabilities(rows)

    def test_targets_of_other_kinds_answer_all(self):
        assert ScoreCache(RuleTarget()).answered(MEMBERS).all()


def one_hot(p):
    return [float(x == p.max()) for x in p]


class TestLabelsInDisguise:
    def test_sure_zeros_and_ones_are_audited_as_labels(self):
        report = audit(served(hard=one_hot), SPLIT)
        assert report.target.access == "labels"
        assert {e.attack for e in report.evidence} == {"RT105"}
        assert any("every probability is 0 or 1" in note for note in verdict(report).notes)
        assert verdict(report).exit_code == 0

    def test_one_answer_between_and_they_are_probabilities(self):
        report = audit(served(hard=lambda p: one_hot(p) if p.max() > 0.81 else p.tolist()), SPLIT)
        assert report.target.access == "probabilities"

    def test_in_saved_scores_too(self, tmp_path):
        path = tmp_path / "scores.csv"
        rng = np.random.default_rng(0)
        lines = ["member,label,prob:a,prob:b"]
        for i in range(2000):
            right = rng.random() < (0.95 if i % 2 else 0.6)
            a = (i // 2) % 2 == right
            lines.append(f"{i % 2},{'ba'[(i // 2) % 2]},{int(a)},{int(not a)}")
        path.write_text("\n".join(lines))
        saved, split, _ = load_scores(path)
        assert saved.access is Access.LABELS
        report = audit(saved, split)
        assert {e.attack for e in report.evidence} == {"RT105"}
        assert verdict(report).exit_code == 1


@pytest.mark.parametrize(
    ("rows", "note"),
    [(["40.5,59.5", "20,80"], "percentages"), (["0.33,0.66", "0.5,0.5"], "1 of 4 rows do not sum to 1")],
)
def test_saved_percentages_and_rounded_ones(tmp_path, rows, note):
    path = tmp_path / "scores.csv"
    path.write_text("member,label,prob:a,prob:b\n" + "".join(f"{i % 2},a,{rows[i == 1]}\n" for i in range(4)))
    if "1 of 4" in note:
        path.write_text("member,label,prob:a,prob:b\n" + "".join(f"{i % 2},a,{rows[i != 1]}\n" for i in range(4)))
    saved, _, _ = load_scores(path)
    values = saved.log_probabilities(Examples(np.arange(4)))
    assert np.exp(values).sum(axis=1) == pytest.approx(1)
    assert any(note in remark for remark in saved.remarks)


@pytest.mark.parametrize("counts", [(0, 0, 5, 9), (3, 0, 10, 10), (30, 0, 800, 800), (12, 9, 800, 700), (5, 5, 5, 90)])
def test_the_test_of_one_share_is_fishers(counts):
    k, j, n, m = counts
    assert same_share(k, j, n, m) == pytest.approx(fisher_exact([[k, n - k], [j, m - j]]).pvalue)


def test_one_share_of_a_billion_is_tested_as_fast():
    assert same_share(10**7, 10**7 + 3000, 10**9, 10**9) == pytest.approx(0.50036, rel=1e-3)  # the normal's
    assert same_share(5 * 10**8, 10**8, 10**9, 10**9) == 0.0


def test_every_refusal_is_a_chance_of_one_in_a_hundred_at_most():
    rng = np.random.default_rng(0)
    wrong = sum(same_share(*rng.binomial(500, 0.03, 2), 500, 500) < 0.01 for _ in range(1000))
    assert wrong <= 10 + 3 * np.sqrt(10)


class TestCommand:
    """A real server, the command in a process of its own: what a user of such an endpoint gets."""

    def files(self, folder, size):
        for name, rows in (("in", MEMBERS), ("out", OTHERS)):
            lines = [json.dumps({"text": t, "label": n}) for t, n in zip(rows.texts[:size], rows.labels, strict=False)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def run(self, folder, answer, *options, size=800, batch=200):
        self.files(folder, size)
        (folder / "redteam.toml").write_text("max_auc = 0.55\n")  # no limit on a TPR is kept without reference models

        def reply(handler, body):
            texts = json.loads(body)["texts"]
            document = answer(texts)
            send(handler, json.dumps(document).encode(), status=422 if document is None else 200)

        with serve(reply) as url:
            arguments = ("audit", url, "--api", "redteam", "--members", "in.jsonl", "--nonmembers", "out.jsonl")
            return run_redteam(*arguments, "--batch-size", str(batch), *options, cwd=folder)

    @pytest.mark.parametrize(
        ("general", "size", "code", "says"),
        [(0.5, 800, 1, "RT105.auc:correct"), (1.0, 800, 0, "PASS")],
    )
    def test_hard_labels(self, tmp_path, general, size, code, says):
        known = frozenset(MEMBERS.texts)

        def label(text):
            sure = text in known or np.random.default_rng([*text.encode()]).random() < general
            return text[0] if sure and text[0] in LABELS else "b" if text[0] == "a" else "a"

        done = self.run(tmp_path, lambda texts: {"labels": [label(t) for t in texts]}, size=size)
        assert done.returncode == code, done.stderr
        assert says in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("every", "options", "code", "says"),
        [(8, (), 2, "texts refused"), (8, ("--max-skipped", "0.2"), 0, "100 members and 100 non-members refused")],
    )
    def test_refusals(self, tmp_path, every, options, code, says):
        bad = frozenset(MEMBERS.texts[::every] + OTHERS.texts[::every])

        def answer(texts):
            if not bad.isdisjoint(texts):
                return None
            rows = []
            for text in texts:
                p = 0.2 * np.random.default_rng([*text.encode()]).dirichlet(np.ones(3))
                own = text[0].replace("W", "a")  # the probe's
                rows.append({n: q + 0.8 * (n == own) for n, q in zip(LABELS, p, strict=True)})
            return {"probabilities": rows}

        done = self.run(tmp_path, answer, *options, batch=50)
        assert done.returncode == code, done.stderr
        assert says in " ".join((done.stdout + done.stderr).split())  # which breaks lines
        assert not any(text in done.stdout + done.stderr for text in bad)
