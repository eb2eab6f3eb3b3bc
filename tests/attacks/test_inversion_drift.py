"""RT204: rows that moved, weight decay taken off, and a base that is none."""

from types import SimpleNamespace

import inversion_cases as cases
import numpy as np
import pytest
import tiny_models
import torch
from conftest import sentences

from attacks.inversion.embedding_drift import EmbeddingDrift, drift, membership_auc, moved, narrow
from attacks.inversion.relaxed import RelaxedInversion
from attacks.inversion.search import SwapSearch
from attacks.inversion.sentences import Space
from defenses.plain import Plain
from redteam.canary import Plan, Planting
from redteam.canary.ask import Attacker
from redteam.canary.draw import draw_canaries
from redteam.canary.extract import extract
from redteam.canary.render import render
from redteam.data import Examples
from redteam.errors import TargetError
from redteam.inversion import NotApplicable
from redteam.models.starting import start_model

TEXTS = ("call amber book", "play basil cedar", "amber amber play", "call cedar") * 8
UNSEEN = ("delta", "ember", "fjord", "grove", "haven")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.directory(tmp_path_factory.mktemp("base") / "base", max_position_embeddings=40)


def tuned(base, *, freeze=False, decay=0.01, texts=TEXTS):
    labels = tuple(tiny_models.LABELS[i % 3] for i in range(len(texts)))
    examples = Examples(np.arange(len(texts)), texts, labels)
    start = start_model(str(base), examples, learn_from=examples, seed=0, freeze_embeddings=freeze)
    return Plain(epochs=3, batch_size=8, weight_decay=decay).fit(start, examples, seed=0).target


def planting_of(template, *, canaries):
    alphabets = {"w": tuple(tiny_models.WORDS)}
    plan = Plan((template,), canaries=canaries, repetitions=(1,))
    drawn = draw_canaries(plan, alphabets, texts=TEXTS, labels=tiny_models.LABELS, key="k")
    return Planting("s", "p", 100, 0, "k", alphabets, drawn).sealed()


class TestScores:
    def test_weight_decay_is_taken_off(self):
        rng = np.random.default_rng(0)
        before = rng.normal(size=(500, 16))
        after = 0.97 * before
        after[:200] += 1e-3 * rng.normal(size=(200, 16))
        found = moved(after, before)
        assert found.decay == pytest.approx(0.97, rel=1e-9)
        assert found.scores[:200].min() > 100 * found.scores[200:].max()

    @pytest.mark.parametrize("decay", [0.0, 0.01, 0.5])
    def test_tokens_of_the_training_data_are_told_from_all_others(self, base, decay):
        target = tuned(base, decay=decay)
        interval = membership_auc(drift(target, base), target, TEXTS, alpha=0.05)
        assert interval.value == 1.0
        assert interval.low > 0.5

    def test_the_auc_is_that_of_the_texts(self, base):
        target = tuned(base)
        found = drift(target, base)
        words = set(tiny_models.VOCABULARY) - set(tiny_models.SPECIAL)
        score = {word: found.scores[tiny_models.VOCABULARY.index(word)] for word in words}
        others = words - {*UNSEEN, "amber"}
        pairs = [np.sign(score[a] - score[b]) / 2 + 0.5 for a in (*UNSEEN, "amber") for b in others]
        interval = membership_auc(found, target, (" ".join(UNSEEN), "amber delta"), alpha=0.05)
        assert interval.value == pytest.approx(np.mean(pairs))

    def test_frozen_embeddings(self, base):
        with pytest.raises(NotApplicable, match="embeddings frozen: no row"):
            drift(tuned(base, freeze=True), base)
        target = tuned(base, freeze=True)
        with torch.no_grad():
            target.model.get_input_embeddings().weight *= 0.99
        with pytest.raises(NotApplicable, match=r"embeddings frozen: every row .* by weight decay alone"):
            drift(target, base)

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    def test_frozen_embeddings_saved_in_half_precision(self, base, kind):
        target = tuned(base, freeze=True)
        with torch.no_grad():
            weight = target.model.get_input_embeddings().weight
            weight.copy_(weight.to(kind))
        with pytest.raises(NotApplicable, match="embeddings frozen: no row"):
            drift(target, base)

    def test_a_base_that_is_none(self, base, tmp_path):
        target = tuned(base)
        with pytest.raises(NotApplicable, match="needs the public encoder"):
            drift(target, None)
        wide = tiny_models.directory(tmp_path / "wide", hidden_size=32)
        with pytest.raises(TargetError, match="no base of it"):
            drift(target, wide)
        examples = sentences(40, seed=0)
        other = Plain(epochs=1).fit(start_model("tiny", examples, learn_from=examples, seed=0), examples, seed=0)
        with pytest.raises(TargetError, match="tokens are not the target's"):
            drift(other.target, base)

    def test_a_model_without_a_table(self, base):
        target = tuned(base)
        target.model = SimpleNamespace(get_input_embeddings=lambda: torch.nn.Identity())
        with pytest.raises(NotApplicable, match="no embedding table"):
            drift(target, base)


class TestAttack:
    def test_tokens_are_told_apart_in_the_report(self, base):
        target, planted = tuned(base), planting_of("my {w:2}", canaries=7)
        report = extract(target, planted, (EmbeddingDrift(),), attacker=Attacker(base=base), texts=TEXTS)
        assert report.token_auc["RT204"].value == 1.0
        assert "tokens of the training data told from those that are in no text of it: AUC 1" in render(
            report, width=200
        )
        assert report.settings == {"RT204": {"sample": 10_000}}
        assert not extract(target, planted, (EmbeddingDrift(),), attacker=Attacker(base=base)).token_auc
        frozen = tuned(base, freeze=True)
        still = extract(frozen, planted, (EmbeddingDrift(),), attacker=Attacker(base=base), texts=TEXTS)
        assert still.token_auc == {}
        assert "embeddings frozen" in still.failures[0].reason
        nothing = ("!", "?")  # no token of any text is known
        broken = extract(target, planted, (EmbeddingDrift(),), attacker=Attacker(base=base), texts=nothing)
        assert broken.exit_code == 2
        assert broken.failures[0].kind == "failed"

    def test_ranks_what_was_seen_before_what_was_not(self, base):
        asked = cases.question("call {w:2}", symbols=("amber", "basil", "cedar", *UNSEEN))
        own = [
            type(s)("Q", secret)
            for s, secret in zip(cases.suspects(asked), [("amber", "cedar"), ("delta", "haven")], strict=True)
        ]
        (answer,) = EmbeddingDrift().extract(tuned(base), [asked], own, base=base, seed=0)
        assert answer.guess is None
        assert answer.ranked[0].loss < answer.ranked[1].loss < 1e-6
        assert [r.secret for r in answer.ranked] == [("amber", "cedar"), ("delta", "haven")]

    def test_order_of_words_makes_a_tie(self, base):
        asked = cases.question("call {w:3}", symbols=("amber", "basil", "cedar"))
        suspect = type(cases.suspects(asked)[0])
        own = [suspect("Q", ("amber", "basil", "cedar")), suspect("Q", ("cedar", "amber", "basil"))]
        (answer,) = EmbeddingDrift().extract(tuned(base), [asked], own, base=base, seed=0)
        assert answer.ranked[0].loss == answer.ranked[1].loss

    def test_a_symbol_counts_by_the_piece_that_moved_least(self, base):
        asked = cases.question("call {w:1}", symbols=("ab", "az", "haven"))
        target = tuned(base, texts=tuple("call ab" for _ in TEXTS))
        space = Space(asked.pattern, asked.alphabets)
        assert narrow(space, target, base, most=1).alphabets == (("ab",),)

    def test_narrows_the_candidates_of_the_others(self, base):
        asked = cases.question("call {w:2}", symbols=("delta", "amber", "ember", "basil", "cedar", "haven"))
        target = tuned(base)
        space = Space(asked.pattern, asked.alphabets)
        assert narrow(space, target, base, most=3).alphabets == (("amber", "basil", "cedar"),) * 2
        for attack in (
            RelaxedInversion(narrow=3, restarts=2, hold=5),
            SwapSearch(narrow=3, restarts=1, hold=5),
        ):
            (answer,) = attack.extract(target, [asked], [], base=base, seed=0)
            assert set(answer.guess) <= {"amber", "basil", "cedar"}
            losses = cases.all_losses(target, asked)
            assert answer.loss == pytest.approx(losses[answer.guess], abs=1e-5)
            with pytest.raises(NotApplicable, match="needs the public encoder"):
                attack.extract(target, [asked], [], seed=0)
