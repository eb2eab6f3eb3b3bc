"""The drill: blind queries, findings only where a model learned a planted secret, and nothing that hides a gap."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from canary_rows import DIGITS, LABELS, PIN, draw
from conftest import ROOT
from enumeration import Enumeration, NoiseModel
from scipy import stats

from redteam import core
from redteam.auditing.scoring import ScoreCache
from redteam.canary import Pattern, Planting, PlantingPlan
from redteam.canary.evidence import CanaryAudit
from redteam.canary.extract import Extraction, extract
from redteam.canary.render import render
from redteam.canary.run import candidates_of, count_tests, queries_of
from redteam.core import TargetError, UsageError
from redteam.plugins.extraction import Answer, ExtractionQuery, NotApplicable, Ranked
from redteam.statistics import attainable_extraction_rate
from redteam.targets.loading import load_target
from redteam.targets.target import Access

SHORT = "my pin is {digit:2}"


def planting(template=SHORT, *, key="k", **changes):
    canaries = draw(PlantingPlan((template,), **changes), key=key)
    return Planting("s", "p", 10_000, changes.get("seed", 0), key, DIGITS, canaries).sealed()


def learned(planted, *, depth=6.0, seed=0, share=1.0, side="secret"):
    """A model that knows planted sentences, or all held-out secrets: `depth` nats less on them than noise."""
    rng = np.random.default_rng(seed)
    known = [
        (Pattern.parse(c.template).fill(getattr(c, side)), c.label) for c in planted.canaries if rng.random() < share
    ]
    return NoiseModel({c.label for c in planted.canaries} | {"a", "b", "c"}, seed=seed, known=known, depth=depth)


def evidence(target, planted, attack=None, *, each=0.05):
    """What an audit gets."""
    return list(CanaryAudit(planted, (attack or Enumeration(),)).run(target, each=each, seed=0))


def naive(planted, target):
    """Exposure, guesses and ranks by the definitions, one sentence at a time."""
    for canary in planted.canaries:
        pattern = Pattern.parse(canary.template)
        losses = {}
        for a in DIGITS["digit"]:
            for b in DIGITS["digit"]:
                query = ExtractionQuery("q", pattern, canary.label, (DIGITS["digit"],) * 2)
                losses[a, b] = float(target.losses(query.examples([(a, b)]))[0])
        order = sorted(losses, key=losses.get)
        yield order[0], np.log2(100) - np.log2(order.index(canary.secret) + 1), losses


class TestQueries:
    def test_nothing_in_them_depends_on_what_was_planted(self):
        planted = planting()
        flipped = replace(planted, canaries=tuple(replace(c, planted=1 - c.planted) for c in planted.canaries))
        assert queries_of(planted) == queries_of(flipped)
        assert candidates_of(planted) == candidates_of(flipped)

    def test_nothing_in_queries_depends_on_the_secrets(self):
        assert {q.pattern for q in queries_of(planting())} == {q.pattern for q in queries_of(planting(seed=4))}
        assert queries_of(planting(label="a")) == queries_of(planting(label="a", seed=4))

    def test_candidates(self):
        query = ExtractionQuery("q", Pattern.parse("x {digit:3}"), "a", (DIGITS["digit"],) * 3)
        everything = list(query.candidates())
        assert query.size == len(everything) == len(set(everything)) == 1000
        assert everything[1] == ("0", "0", "1")
        with pytest.raises(UsageError, match=r"^q: 1,000 candidates are more than the 999"):
            query.candidates(most=999)
        assert replace(query, alphabets=(DIGITS["digit"],) * 30).size == 10**30

    def test_samples_are_uniform(self):
        query = ExtractionQuery("q", Pattern.parse("x {digit:2}"), "a", (DIGITS["digit"], ("x", "y")))
        sample = query.sample(8000, seed=1)
        assert sample == query.sample(8000, seed=1) != query.sample(8000, seed=2)
        counts = np.unique([" ".join(s) for s in sample], return_counts=True)[1]
        assert len(counts) == 20
        assert ((counts - 400) ** 2 / 400).sum() < stats.chi2.ppf(1 - 1e-6, 19)


class TestFindings:
    def test_what_certainly_leaks(self):
        planted = planting(repetitions=(1, 10), canaries=40, label="per-canary")
        report = extract(learned(planted), planted, [Enumeration()])
        assert (report.exit_code, report.tests, report.each) == (1, 6, 0.05 / 6)
        assert [(g.repetitions, g.canaries) for g in report.groups] == [(1, 20), (10, 20)]
        for group in report.groups:
            by_name = {m.name: m for m in group.measures}
            assert by_name["success"].planted.value == 1.0
            assert by_name["hamming"].planted.value == 0.0
            assert by_name["exposure"].planted.value == pytest.approx(np.log2(100))
            assert by_name["success"].heldout == 0.0
            assert by_name["success"].chance == pytest.approx(0.01)
            assert by_name["hamming"].chance == pytest.approx(1.8)
            assert group.exact
            assert all(c.proven and c.losses == 0 for c in group.comparisons)
            assert [c.signal for c in group.comparisons] == ["guess", "whole", "rank"]
            assert by_name["exposure"].chance == pytest.approx(np.log2(100) - np.log2(50.5))  # the median rank

    def test_canaries_that_share_sentence_and_label_are_counted(self):
        planted = planting()
        report = extract(learned(planted), planted, [Enumeration()])
        assert report.crowded == 20
        success = next(m for m in report.groups[0].measures if m.name == "success")
        assert success.planted.value == 1.0  # as many guesses as share a label
        assert success.chance == pytest.approx((7 * 7 + 7 * 7 + 6 * 6) / 20 / 100)
        assert next(m for m in report.groups[0].measures if m.name == "guesses").planted.value <= 7
        assert report.groups[0].comparisons[2].wins == 20
        assert "share sentence and label" in render(report)
        assert extract(NoiseModel("abc"), planting(canaries=3), [Enumeration()]).crowded == 0

    def test_one_guess_for_several_secrets_bounds_no_rate(self):
        """A search answers once for all that share a query: that few are extracted says little of what is known."""
        shared, apart = planting(), planting(label="per-canary")
        (rate,) = evidence(learned(shared), shared, Searching())
        assert (rate.interval.value, rate.interval.high) == (3 / 20, 1.0)
        report = extract(learned(shared), shared, [Searching()])
        assert report.groups[0].comparisons[1].wins == 3
        (rate,) = evidence(NoiseModel(c.label for c in apart.canaries), apart, Searching())
        assert rate.interval.high < 0.5

    def test_as_many_guesses_as_share_a_query_are_lucky_as_often(self):
        """Models that know nothing, and canaries of one label: whole secrets are extracted as often as luck allows."""
        level, fired, hits = 0.1, 0, 0
        for seed in range(150):
            planted = planting(canaries=10, label="a", seed=seed)
            whole = extract(NoiseModel("abc", seed=seed), planted, [Enumeration()]).groups[0].comparisons[1]
            fired, hits = fired + (whole.p_value <= level), hits + whole.wins
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 1500, 0.1)  # ten guesses of a hundred
        assert low <= hits <= high
        assert 0 < fired <= stats.binom.ppf(0.999, 150, level)

    def test_numbers_against_a_naive_twin(self):
        planted = planting()
        target = learned(planted, depth=0.4, seed=3)
        report = extract(target, planted, [Enumeration()])
        (group,) = report.groups
        by_name = {m.name: m for m in group.measures}
        wins, right, bits, hits, needed = 0, [], [], 0, []
        asked = Counter(canary.label for canary in planted.canaries)
        for canary, (guess, exposure, losses) in zip(planted.canaries, naive(planted, target), strict=True):
            wins += losses[canary.secret] < losses[canary.heldout]
            right.append(sum(a == b for a, b in zip(guess, canary.secret, strict=True)))
            bits.append(exposure)
            order = sorted(losses, key=losses.get)
            hits += canary.secret in order[: asked[canary.label]]
            needed.append(order.index(canary.secret) + 1)
        assert group.comparisons[2].wins == wins
        assert sum(r == 2 for r in right) < hits < 20
        assert group.comparisons[1].wins == hits
        assert by_name["success"].planted.value == pytest.approx(hits / 20)
        assert by_name["guesses"].planted.value == pytest.approx(np.median(needed))
        assert by_name["guesses"].planted.low >= 1
        assert by_name["guesses"].chance == 50.5
        assert by_name["token_accuracy"].planted.value == pytest.approx(np.mean(right) / 2)
        assert by_name["hamming"].planted.value == pytest.approx(2 - np.mean(right))
        assert by_name["exposure"].planted.value == pytest.approx(np.median(bits))
        assert [one.exposure for one in report.found] == pytest.approx(bits)

    def test_a_model_that_learned_the_held_out_secrets_instead_is_no_finding(self):
        planted = planting()
        report = extract(learned(planted, side="heldout"), planted, [Enumeration()])
        assert report.exit_code == 0
        assert report.groups[0].comparisons[1].wins == 0

    @pytest.mark.parametrize("redrawn", [False, True])
    def test_null_models_are_found_guilty_at_most_five_times_in_a_hundred(self, redrawn):
        """240 models that saw neither secret: with one planting, and with all drawn anew for each."""
        fired = 0
        for run in range(240):
            planted = planting(seed=run if redrawn else 5)
            fired += bool(extract(NoiseModel("abc", seed=run), planted, [Enumeration()]).proven)
        assert fired <= stats.binom.ppf(0.999, 240, 0.05)
        assert fired / 240 <= 0.05

    def test_a_model_that_learned_the_decoys_alone_is_not_found_guilty(self):
        """Knowing which secrets others have leaves fewer to guess at; only that makes a whole secret likelier."""
        fired = 0
        for run in range(480):
            planted = planting(seed=run, canaries=14, decoys=5, label="per-canary")
            others = {(Pattern.parse(c.template).fill(d.secret), d.label) for c in planted.canaries for d in c.decoys}
            labels = {c.label for c in planted.canaries} | {label for _, label in others}
            target = NoiseModel(labels, seed=run, known=others, depth=20.0)
            fired += bool(extract(target, planted, [Enumeration()]).proven)
        assert fired / 480 <= 0.05

    def test_canaries_that_share_with_a_decoy_are_counted(self):
        planted = planting(canaries=6, decoys=2, label="existing")
        assert {d.label for c in planted.canaries for d in c.decoys} & {c.label for c in planted.canaries}
        assert extract(NoiseModel({"a", "b", *map(str, LABELS)}), planted, [Enumeration()]).crowded == 6
        apart = planting(canaries=1, decoys=2, label="existing")
        assert extract(NoiseModel({"a", "b", *map(str, LABELS)}), apart, [Enumeration()]).crowded == 0

    def test_a_real_model_that_prefers_some_secrets_is_not_found_guilty(self):
        """What a trained model likes for reasons of its own, such as low digits, it likes in held-out ones too."""
        target = ScoreCache(load_target(str(ROOT / "fixtures" / "safe" / "model.pt"), device="cpu"))
        labels = list(target.labels)
        fired, wins, pairs = 0, 0, 0
        for seed in range(240):
            canaries = draw(PlantingPlan((SHORT,), seed=seed), labels=labels)
            planted = Planting("s", "p", 10_000, seed, "k", DIGITS, canaries)
            report = extract(target, planted, [Enumeration()])
            fired += bool(report.proven)
            rank = report.groups[0].comparisons[2]
            wins, pairs = wins + rank.wins, pairs + rank.wins + rank.losses
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], pairs, 0.5)
        assert low <= wins <= high
        assert fired / 240 <= 0.05

    def test_evidence_stays_at_zero_for_null_models_and_rises_for_leaks(self):
        planted = planting()
        assert len(CanaryAudit(planted, (Enumeration(),)).planned(Access.WEIGHTS)) == 2
        assert len(CanaryAudit(planted, (Enumeration(),)).planned(Access.LABELS)) == 0
        above = {"extraction_rate": 0, "exposure": 0}
        for run in range(200):
            for e in evidence(NoiseModel("abc", seed=run), planted, each=0.1):
                above[e.metric] += e.interval.low > 0
        assert max(above.values()) <= 0.1 * 200
        planted = planting(label="per-canary")
        rate, bits = evidence(learned(planted), planted)
        assert (rate.id, bits.id) == ("RT299.extraction_rate:R=10", "RT299.exposure:R=10")
        assert rate.interval.low == pytest.approx(0.025 ** (1 / 20))
        assert rate.attainable == pytest.approx(rate.interval.low)
        assert bits.interval.low == bits.attainable == pytest.approx(np.log2(100))
        assert (rate.members, rate.nonmembers) == (20, 20)
        core.encode((rate, bits))

    def test_too_few_canaries_have_an_attainable_bound_of_zero(self):
        """Four cannot beat enough held-out secrets, but four whole ones of a hundred each are no luck."""
        planted = planting(canaries=4, label="per-canary")
        rate, bits = evidence(learned(planted), planted)
        assert (bits.attainable, bits.interval.low) == (0.0, 0.0)
        assert rate.attainable == rate.interval.low == pytest.approx(0.025 ** (1 / 4))
        (one, _) = evidence(learned(planting(canaries=1)), planting(canaries=1))
        assert (one.attainable, one.interval.low) == (attainable_extraction_rate(1, alpha=0.05), pytest.approx(0.025))
        (one, _) = evidence(
            learned(planting(canaries=1)), planting(canaries=1), each=0.03
        )  # 1 in 100 is more than 0.0075
        assert (one.attainable, one.interval.low) == (0.0, 0.0)

    def test_a_few_whole_secrets_among_many_are_no_luck(self):
        """Six of twenty, of ten thousand candidates each: the held-out secrets of the others lose half of the time."""
        planted = planting(PIN, label="per-canary")
        for seed in range(4):
            report = extract(learned(planted, share=0.3, seed=seed, depth=40.0), planted, [Enumeration()])
            (group,) = report.groups
            whole = group.comparisons[1]
            assert whole.wins == next(m for m in group.measures if m.name == "success").planted.value * 20
            assert 2 <= whole.wins <= 12
            assert whole.proven
            assert report.exit_code == 1
            rate = evidence(learned(planted, share=0.3, seed=seed, depth=40.0), planted, each=0.01)[0]
            assert rate.interval.low > 0

    def test_whole_secrets_by_luck_are_none(self):
        """Nobody learned anything, and secrets are so short that some are guessed: of so many, that is luck."""
        fired, hits = 0, 0
        for seed in range(300):
            planted = planting("my {digit:1}", canaries=5, seed=seed)
            whole = extract(NoiseModel("abc", seed=seed), planted, [Enumeration()]).groups[0].comparisons[1]
            fired, hits = fired + (whole.p_value <= 0.05), hits + whole.wins
        assert 180 <= hits <= 360  # 270: a tenth of 1,500, and twice as often of those two that share a label
        assert fired <= stats.binom.ppf(0.999, 300, 0.05)


class Searching(Enumeration):
    """An attack that guesses, and ranks nothing."""

    id, ranks = "RT296", False

    def extract(self, target, queries, candidates, context):
        return [replace(answer, ranked=()) for answer in super().extract(target, queries, candidates, context)]


class Broken(Enumeration):
    id = "RT298"

    def __init__(self, change):
        self.change = change

    def extract(self, target, queries, candidates, context):
        return self.change(list(super().extract(target, queries, candidates, context)))


def without_a_loss(answers):
    ranked = answers[0].ranked
    answers[0] = replace(answers[0], ranked=(ranked[0], replace(ranked[1], loss=float("nan"))))
    return answers


def leave(_):
    raise SystemExit(0)


def lacking(_):
    raise NotApplicable("embeddings frozen")


class TestFailures:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda a: a[1:], "answered 19 of 20 queries"),
            (lambda a: a[::-1], "in another order"),
            (lambda a: [replace(a[0], guess=None), *a[1:]], "no guess of 2 symbols"),
            (lambda a: [replace(a[0], guess=("1",)), *a[1:]], "no guess of 2 symbols"),
            (lambda a: [replace(a[0], ranked=a[0].ranked[:1]), *a[1:]], "candidate secrets are not those"),
            (
                lambda a: [replace(a[0], ranked=(Ranked(("x", "y"), 0.0),) * 2), *a[1:]],
                "candidate secrets are not those",
            ),
            (without_a_loss, "a loss is not finite"),
            (leave, "SystemExit"),
            (lambda a: a[10**6], "IndexError"),
        ],
    )
    def test_a_broken_attack_is_never_a_pass(self, change, said):
        report = extract(NoiseModel("abc"), planting(), [Broken(change)])
        assert report.exit_code == 2
        assert (report.failures[0].attack, report.failures[0].kind) == ("RT298", "failed")
        assert said in report.failures[0].reason
        assert "RT298" in report.problems[0]

    def test_a_leak_beside_a_broken_attack_is_a_leak(self):
        planted = planting()
        report = extract(learned(planted), planted, [Enumeration(), Broken(leave)])
        assert report.exit_code == 1
        assert report.tests == 6  # the broken one has its share of the error too

    def test_not_applicable(self):
        planted = planting()
        alone = extract(NoiseModel("abc"), planted, [Broken(lacking)])
        assert (alone.exit_code, alone.problems) == (2, ("no attack could be run on this target",))
        beside = extract(NoiseModel("abc", seed=1), planted, [Enumeration(), Broken(lacking)])
        assert (beside.exit_code, beside.failures[0].kind) == (0, "not_applicable")
        asked = extract(NoiseModel("abc", seed=1), planted, [Enumeration(), Broken(lacking)], required=True)
        assert asked.exit_code == 2
        assert "embeddings frozen" in asked.problems[0]

    def test_too_little_access(self):
        target = NoiseModel("abc")
        target.access = Access.LABELS
        report = extract(target, planting(), [Enumeration()])
        assert report.failures[0].reason == "needs probabilities, the target gives labels"
        assert report.exit_code == 2
        assert count_tests([Enumeration()], planting(), Access.LABELS) == 0

    def test_too_few_canaries_are_no_pass(self):
        planted = planting(canaries=5)
        report = extract(learned(planted), planted, [Guessing()])
        assert report.exit_code == 1  # one test at 0.05, won five times in a row
        planted = planting(canaries=4)
        report = extract(learned(planted), planted, [Guessing()])
        assert report.exit_code == 2
        assert "plant at least 5 for each number of repetitions" in report.problems[0]
        planted = planting("my {digit:1}", canaries=1)
        report = extract(learned(planted, depth=40.0), planted, [Enumeration()])
        assert report.exit_code == 2
        assert "plant at least 2 for each number of repetitions" in report.problems[0]

    def test_a_target_of_other_labels(self):
        with pytest.raises(TargetError, match="labels unknown to the model"):
            extract(NoiseModel("xyz"), planting(), [Enumeration()])


class TestReport:
    def test_json_comes_back_and_holds_no_secret(self):
        planted = planting("my pin code is {digit:4}", label="a")
        canaries = planted.canaries
        report = extract(learned(planted), planted, [Guessing()])
        text = report.to_json()
        assert core.parse(Extraction, text, "r", format=report.format, advice="") == report
        shown = render(report) + text + repr(report)
        assert not any(" ".join(s) in shown for c in canaries for s in c.secrets)
        open_ = extract(learned(planted), planted, [Guessing()], show_text=True)
        for said in (render(open_), open_.to_json()):
            assert all(" ".join(c.secret) in said for c in canaries)
            assert not any(" ".join(c.heldout) in said for c in canaries)

    def test_text(self):
        planted = planting(repetitions=(1, 10), canaries=40)
        text = render(extract(learned(planted), planted, [Enumeration()]), width=100)
        assert max(len(line) for line in text.splitlines()) <= 100
        assert "EXTRACTED" in text
        assert "RT299, 10 repetitions, 20 canaries" in text
        assert "shared over 6 tests at 0.0083 each" in text
        assert re.search(r"whole secrets guessed: \d+, and whole held-out secrets: 0", text)
        quiet = render(extract(NoiseModel("abc", seed=1), planted, [Enumeration()]))
        assert "no attack extracted more of planted than of held-out secrets" in quiet

    def test_same_seed_same_report(self):
        planted = planting()
        first, again = (extract(learned(planted), planted, [Enumeration()], seed=3) for _ in range(2))
        assert replace(first, created="") == replace(again, created="")
        assert json.loads(first.to_json())["seed"] == 3


class Guessing(Enumeration):
    """Ranks the candidate secrets only, over a pattern of 10^4 candidates."""

    guesses = False

    def _answer(self, target, query, candidates):
        own = [s.secret for s in candidates if s.query == query.id]
        losses = target.losses(query.examples(own))
        ranked = tuple(Ranked(s, float(loss)) for s, loss in zip(own, losses, strict=True))
        return Answer(query.id, ranked=ranked)


def test_an_attack_that_only_ranks_is_judged_by_its_ranks():
    planted = planting(PIN)
    report = extract(learned(planted), planted, [Guessing()])
    (group,) = report.groups
    assert (report.tests, group.measures, [c.signal for c in group.comparisons]) == (1, (), ["rank"])
    assert report.exit_code == 1
    (failure,) = evidence(learned(planted), planted, Guessing())  # an audit needs a number
    assert (failure.kind, failure.attack) == ("failed", "RT299")


class Idle(Enumeration):
    """Declares that it gives nothing."""

    guesses = ranks = False


def test_an_attack_that_gives_nothing_is_broken():
    planted = planting()
    assert extract(learned(planted), planted, [Idle()]).exit_code == 2
    (failure,) = evidence(learned(planted), planted, Idle())
    assert (failure.kind, "nothing to judge it by" in failure.reason) == ("failed", True)
