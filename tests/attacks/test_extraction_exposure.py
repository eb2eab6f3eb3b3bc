"""RT201 against the naive enumeration, on models of every kind, on texts alone, and beyond what can be enumerated."""

import extraction_models as cases
import numpy as np
import pytest
import tiny_models
from conftest import ROOT, RuleTarget
from enumeration import Enumeration, NoiseModel

from attacks.extraction._losses import Losses
from attacks.extraction.exposure import ExposureRank
from attacks.extraction.sentences import CandidateSet
from redteam.core import TargetError
from redteam.plugins.context import AttackContext
from redteam.targets.loading import load_target
from redteam.targets.target import Access

ASKED = [cases.query(label=label, id=label) for label in ("up", "down")]


class Silent(RuleTarget):
    """A service that answers a probability of exactly zero for some sentences."""

    def log_probabilities(self, examples):
        values = super().log_probabilities(examples)
        values[[i for i, text in enumerate(examples.texts) if "amber" in text], 0] = -np.inf
        return np.log(np.exp(values) / np.exp(values).sum(axis=1, keepdims=True), where=np.isfinite(values), out=values)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "gpt2 without padding", "xlnet", "bilstm"])
@pytest.mark.parametrize("symbols", [tiny_models.WORDS[:8], cases.MIXED])
def test_agrees_with_the_naive_enumeration(kind, symbols):
    target = cases.bilstm() if kind == "bilstm" else cases.target(kind)
    asked = [cases.query(label=label, id=label, symbols=symbols) for label in ("up", "down")]
    candidates = cases.candidates(*asked)
    ours = ExposureRank().extract(target, asked, candidates, AttackContext(0))
    naive = Enumeration().extract(target, asked, candidates, AttackContext(0))
    for mine, theirs in zip(ours, naive, strict=True):
        assert (mine.query, mine.guess, mine.exact) == (theirs.query, theirs.guess, True)
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert [r.secret for r in mine.ranked] == [r.secret for r in theirs.ranked]
        for one, other in zip(mine.ranked, theirs.ranked, strict=True):
            assert one.loss == pytest.approx(other.loss, abs=1e-5)
            assert one.exposure == other.exposure


def test_texts_alone_give_the_same():
    target = NoiseModel(("up", "down", "level"))
    ours = ExposureRank().extract(target, ASKED, cases.candidates(*ASKED), AttackContext(0))
    naive = Enumeration().extract(target, ASKED, cases.candidates(*ASKED), AttackContext(0))
    assert [(a.guess, a.loss, a.ranked) for a in ours] == [(a.guess, a.loss, a.ranked) for a in naive]


def test_the_token_path_is_the_text_path():
    target = cases.target()
    asked = cases.query("{w:3} call", symbols=cases.MIXED)
    candidate_set = CandidateSet(asked.pattern, asked.alphabets)
    losses = Losses(target, candidate_set, ("up", "down"))
    assert losses._own._spelling is not None
    picks = candidate_set.number(0, candidate_set.size)
    np.testing.assert_allclose(losses.of(picks), losses._own._from_texts(picks), atol=1e-5)
    np.testing.assert_array_equal(losses.of(picks[::-1])[::-1].argsort(axis=0)[0], losses.of(picks).argsort(axis=0)[0])


def test_a_model_that_answers_otherwise_in_a_batch_is_asked_by_text(monkeypatch):
    target = cases.target()
    asked = cases.query()
    candidate_set = CandidateSet(asked.pattern, asked.alphabets)
    whole = target.model.forward
    monkeypatch.setattr(
        target.model,
        "forward",
        lambda input_ids, **k: whole(input_ids=input_ids.roll(1, 0) if len(input_ids) > 2 else input_ids, **k),
    )
    monkeypatch.setattr("redteam.targets.model.TOKENS_PER_BATCH", 0)
    assert Losses(target, candidate_set, ("up",))._own._spelling is None


def test_a_reference_takes_off_what_is_likely_anyway():
    target, reference = cases.target(seed=0), cases.target(seed=1)
    (answer,) = ExposureRank().extract(
        target, ASKED[:1], cases.candidates(ASKED[0]), AttackContext(0, references=(reference,))
    )
    losses = cases.all_losses(target, ASKED[0], reference)
    assert answer.guess == min(losses, key=losses.get)
    assert answer.loss == pytest.approx(min(losses.values()), abs=1e-5)
    assert answer.guess != min(cases.all_losses(target, ASKED[0]).items(), key=lambda item: item[1])[0]
    (same,) = ExposureRank().extract(
        target, ASKED[:1], cases.candidates(ASKED[0]), AttackContext(0, references=(target,))
    )
    assert {r.loss for r in same.ranked} == {0.0}
    assert {r.exposure.bits for r in same.ranked} == {0.0}


def test_beyond_the_limit_a_sample_stands_for_all():
    asked = cases.query("my pin is {digit:4}", symbols=cases.DIGITS, label="a")
    own = cases.candidates(asked)
    known = asked.pattern.fill(own[1].secret)
    target = NoiseModel("abc", known={(known, "a")}, depth=9.0)
    attack = ExposureRank(enumerable=9_999, sample=2_000)
    (answer,) = attack.extract(target, [asked], own, AttackContext(3))
    assert not answer.exact
    assert answer.details == {"candidates": 2000}
    assert answer.ranked[1].exposure.method == "bounded"
    assert answer.ranked[1].exposure.bits == np.log2(2_001) > 8 > answer.ranked[0].exposure.bits
    assert answer.ranked[0].exposure.most == np.log2(10_000)
    assert (
        answer
        == attack.extract(target, [asked], own, AttackContext(3))[0]
        != attack.extract(target, [asked], own, AttackContext(4))[0]
    )
    (whole,) = ExposureRank(enumerable=10_000).extract(target, [asked], own, AttackContext(3))
    assert (whole.exact, whole.guess) == (True, own[1].secret)
    ordinary = [(a.exposure.bits, b.exposure.bits) for a, b in zip(whole.ranked[:1], answer.ranked[:1], strict=True)]
    assert ordinary[0][0] == pytest.approx(ordinary[0][1], abs=0.5)


def test_the_guess_of_a_sample_owes_nothing_to_the_candidate_secrets():
    asked = cases.query("my pin is {digit:9}", symbols=cases.DIGITS, label="a")
    target, attack = NoiseModel("abc"), ExposureRank(sample=50)
    (first,) = attack.extract(target, [asked], cases.candidates(asked), AttackContext(0))
    (none,) = attack.extract(target, [asked], [], AttackContext(0))
    assert (first.guess, first.loss) == (none.guess, none.loss)
    assert none.ranked == ()


def test_a_probability_of_zero_is_a_finite_loss():
    asked = cases.query(label="a")
    (answer,) = ExposureRank().extract(Silent(), [asked], cases.candidates(asked), AttackContext(0))
    assert all(np.isfinite(r.loss) for r in answer.ranked)
    assert answer.ranked[0].exposure.bits == 0.0
    assert "amber" not in answer.guess


def test_a_label_that_the_reference_lacks():
    with pytest.raises(TargetError, match="labels unknown"):
        ExposureRank().extract(cases.target(), ASKED, [], AttackContext(0, references=(NoiseModel("abc"),)))


def test_a_fixture_by_token_ids_and_by_texts():
    target = load_target(str(ROOT / "fixtures" / "safe" / "model.pt"), device="cpu")
    asked = [cases.query("call {d:2}", symbols=cases.DIGITS, label=label, id=label) for label in target.labels[:3]]
    by_ids = ExposureRank().extract(target, asked, cases.candidates(*asked), AttackContext(0))
    target.access = Access.PROBABILITIES
    by_texts = ExposureRank().extract(target, asked, cases.candidates(*asked), AttackContext(0))
    assert [a.guess for a in by_ids] == [a.guess for a in by_texts]
    assert [a.loss for a in by_ids] == pytest.approx([a.loss for a in by_texts], abs=1e-6)


class Sure(RuleTarget):
    """Sure of its label whatever the sentence, to so many nats: more so of those in `known`."""

    labels = ("a", "b")

    def __init__(self, base, known=(), more=0.0):
        super().__init__()
        self.base, self.known, self.more = base, known, more

    def log_probabilities(self, examples):
        texts = examples.texts
        odds = np.array([self.base + (text in self.known) * self.more + len(set(text)) * 0.3 for text in texts])
        return np.stack([-np.logaddexp(0, -odds), -np.logaddexp(0, odds)], axis=1)


def test_a_reference_does_not_hide_what_the_target_is_sure_of():
    """A difference of losses is the reference's alone where the target's are near zero; that of log-odds is not."""
    asked = cases.query(label="a")
    own = cases.candidates(asked)
    text = asked.pattern.fill(own[1].secret)
    target, reference = Sure(20.0, {text}, 3.0), Sure(0.0)
    (answer,) = ExposureRank().extract(target, [asked], own, AttackContext(0, references=(reference,)))
    assert answer.guess == own[1].secret
    assert answer.ranked[1].exposure.bits == answer.ranked[1].exposure.most
    assert answer.loss == pytest.approx(-23.0, abs=1e-4)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "bilstm"])
def test_log_odds_are_exact_however_sure_a_model_is(kind):
    target = cases.bilstm(scale=40.0) if kind == "bilstm" else cases.target(kind, initializer_range=8.0)
    asked, reference = cases.query(label="up"), cases.target(seed=3)
    candidate_set = CandidateSet(asked.pattern, asked.alphabets)
    picks = candidate_set.number(0, 20)
    losses = Losses(target, candidate_set, ("up",), reference=reference)
    own, texts = losses._own.losses(picks), losses._own._from_texts(picks)
    assert losses._own._spelling is not None
    np.testing.assert_allclose(own, texts, rtol=1e-3, atol=1e-3)
    log_p = target.log_probabilities(asked.examples([candidate_set.secret(pick) for pick in picks]))
    column = target.labels.index("up")
    others = np.logaddexp.reduce(np.delete(log_p, column, axis=1), axis=1)
    np.testing.assert_allclose(texts[:, 0], others - log_p[:, column])
