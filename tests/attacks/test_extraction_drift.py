"""RT204: rows that moved, weight decay taken off, and a base that is none."""

from dataclasses import replace
from types import SimpleNamespace

import extraction_models as cases
import numpy as np
import pytest
import tiny_models
import torch
from conftest import sentences

from attacks.extraction.embedding_drift import EmbeddingDrift, drift, membership_auc, moved, narrow
from attacks.extraction.relaxed import RelaxedSearch
from attacks.extraction.search import SwapSearch
from attacks.extraction.sentences import CandidateSet
from defenses.plain import Plain
from redteam.canary import Planting, PlantingPlan
from redteam.canary.draw import draw_canaries
from redteam.canary.extract import extract
from redteam.canary.render import render
from redteam.canary.run import Attacker
from redteam.core import TargetError
from redteam.data import Examples
from redteam.models.initial import initial_model
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.statistics import Interval

TEXTS = ("call amber book", "play basil cedar", "amber amber play", "call cedar") * 8
UNSEEN = ("delta", "ember", "fjord", "grove", "haven")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_models.directory(tmp_path_factory.mktemp("base") / "base", max_position_embeddings=40)


def tuned(base, *, freeze=False, decay=0.01, texts=TEXTS):
    labels = tuple(tiny_models.LABELS[i % 3] for i in range(len(texts)))
    examples = Examples(np.arange(len(texts)), texts, labels)
    start = initial_model(str(base), examples, learn_from=examples, seed=0, freeze_embeddings=freeze)
    return Plain(epochs=3, batch_size=8, weight_decay=decay).fit(start, examples, seed=0).target


def planting_of(template, *, canaries):
    alphabets = {"w": tuple(tiny_models.WORDS)}
    plan = PlantingPlan((template,), canaries=canaries, repetitions=(1,))
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
        other = Plain(epochs=1).fit(initial_model("tiny", examples, learn_from=examples, seed=0), examples, seed=0)
        with pytest.raises(TargetError, match="tokens are not the target's"):
            drift(other.target, base)

    def test_a_model_without_a_table(self, base):
        target = tuned(base)
        target.model = SimpleNamespace(get_input_embeddings=lambda: torch.nn.Identity())
        with pytest.raises(NotApplicable, match="no embedding table"):
            drift(target, base)


OPTIMIZERS = {
    "SGD": lambda rows: torch.optim.SGD(rows, lr=0.5),
    "SGD with momentum and decay": lambda rows: torch.optim.SGD(rows, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda rows: torch.optim.Adam(rows, lr=1e-3),
    "Adam with little decay": lambda rows: torch.optim.Adam(rows, lr=1e-3, weight_decay=1e-4),
    "Adam with decay": lambda rows: torch.optim.Adam(rows, lr=1e-3, weight_decay=0.01),
    "Adam with much decay": lambda rows: torch.optim.Adam(rows, lr=1e-3, weight_decay=0.1),
    "RAdam with decay": lambda rows: torch.optim.RAdam(rows, lr=1e-3, weight_decay=0.01),
    "AdamW": lambda rows: torch.optim.AdamW(rows, lr=1e-3, weight_decay=0.1),
    "Adagrad with decay": lambda rows: torch.optim.Adagrad(rows, lr=0.01, weight_decay=0.01),
    "RMSprop with decay": lambda rows: torch.optim.RMSprop(rows, lr=1e-3, weight_decay=0.01),
    "Adafactor": lambda rows: torch.optim.Adafactor(rows, lr=0.01, weight_decay=0.01),
}


def trained_rows(optimizer, *, rows=240, share=0.5, noise=0.0, signal=1.0, shared_decoder=False, seed=0):
    """Embeddings before and after a training of bags of words, few of them common; and which words were seen.

    Rows of common words are shorter, as in real encoders.
    """
    rng, width = np.random.default_rng(seed), 16
    seen = rng.permutation(rows)[: int(share * rows)]
    torch.manual_seed(seed)
    table = torch.nn.Embedding(rows, width)
    with torch.no_grad():
        table.weight *= 0.05
        table.weight[seen[: len(seen) // 2]] *= 0.7
    head = torch.nn.Linear(width, 5)
    before = table.weight.detach().double().numpy().copy()
    common = 1 / np.arange(1, len(seen) + 1)
    drawn = np.concatenate([seen[rng.choice(len(seen), size=(400 - len(seen) // 6, 6), p=common / common.sum())],
                            seen[: 6 * (len(seen) // 6)].reshape(-1, 6)])  # fmt: skip
    texts, labels = torch.from_numpy(drawn), torch.from_numpy(rng.integers(5, size=len(drawn)))
    stepping = OPTIMIZERS[optimizer]([table.weight, *head.parameters()])
    for _ in range(4):
        for batch in torch.from_numpy(rng.permutation(len(texts))).split(16):
            stepping.zero_grad()
            hidden = table(texts[batch]).mean(dim=1)
            loss = torch.nn.functional.cross_entropy(head(torch.tanh(20 * hidden)), labels[batch])
            if shared_decoder:
                loss = loss + torch.nn.functional.cross_entropy(hidden @ table.weight.T, texts[batch, 0])
            loss.backward()
            table.weight.grad.mul_(signal).add_(noise * torch.randn_like(table.weight))
            stepping.step()
    return before, table.weight.detach().double().numpy(), np.isin(np.arange(rows), drawn)


def area(scores, positive):
    return float((scores[positive][:, None] > scores[~positive]).mean())


class TestOptimizers:
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_what_was_seen_is_told_apart_whatever_trained_it(self, optimizer):
        before, after, seen = trained_rows(optimizer)
        assert area(moved(after, before).scores, seen) > 0.99

    @pytest.mark.parametrize("optimizer", ["SGD", "Adam with little decay", "Adam with decay", "AdamW"])
    def test_though_nearly_all_was_seen(self, optimizer):
        before, after, seen = trained_rows(optimizer, share=0.92)
        assert 0.9 < seen.mean() < 0.93
        assert area(moved(after, before).scores, seen) > 0.99

    @pytest.mark.parametrize("optimizer", ["SGD", "Adam with much decay", "AdamW"])
    def test_under_noise_on_all_rows(self, optimizer):
        before, after, seen = trained_rows(optimizer, noise=2e-3)
        assert area(moved(after, before).scores, seen) > 0.55

    @pytest.mark.parametrize("optimizer", ["SGD", "Adam with decay", "AdamW", "RMSprop with decay"])
    def test_noise_alone_tells_nothing_though_common_rows_are_shorter(self, optimizer):
        areas = []
        for seed in range(3):
            before, after, seen = trained_rows(optimizer, noise=2e-3, signal=0.0, seed=seed)
            areas.append(area(moved(after, before).scores, seen))
        assert abs(np.mean(areas) - 0.5) < 0.07  # three standard errors

    @pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adam with decay", "AdamW"])
    def test_a_decoder_that_shares_the_table_moves_all_rows_alike(self, optimizer):
        before, after, seen = trained_rows(optimizer, rows=1000, share=0.1, shared_decoder=True)
        assert area(moved(after, before).scores, seen) > 0.9

    def test_a_factor_is_named_only_where_rows_shrink(self):
        assert moved(*trained_rows("AdamW")[1::-1]).decay < 1
        assert moved(*trained_rows("Adam with decay")[1::-1]).decay is None

    def test_rows_without_values_and_few_rows(self):
        before, after, seen = trained_rows("Adam with decay", rows=60)
        before[~seen][:1] = after[~seen][:1] = 0.0
        assert np.isfinite(moved(after, before).scores).all()
        few = moved(after[:3] + 0.1, before[:3])
        assert np.isfinite(few.scores).all()


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
        inverted = replace(report, token_auc={"RT204": Interval(0.1, 0.05, 0.2, 0.05)})
        assert "proven to be below 0.5" in render(inverted, width=200)
        assert "tell them apart with AUC 0.9" in render(inverted, width=200)
        assert "below 0.5" not in render(report, width=200)
        broken = extract(target, planted, (EmbeddingDrift(),), attacker=Attacker(base=base), texts=nothing)
        assert broken.exit_code == 2
        assert broken.failures[0].kind == "failed"

    def test_ranks_what_was_seen_before_what_was_not(self, base):
        asked = cases.query("call {w:2}", symbols=("amber", "basil", "cedar", *UNSEEN))
        own = [
            type(s)("Q", secret)
            for s, secret in zip(cases.candidates(asked), [("amber", "cedar"), ("delta", "haven")], strict=True)
        ]
        (answer,) = EmbeddingDrift().extract(tuned(base), [asked], own, AttackContext(0, base=base))
        assert answer.guess is None
        assert answer.ranked[0].loss < answer.ranked[1].loss < 1e-6
        assert [r.secret for r in answer.ranked] == [("amber", "cedar"), ("delta", "haven")]

    def test_order_of_words_makes_a_tie(self, base):
        asked = cases.query("call {w:3}", symbols=("amber", "basil", "cedar"))
        candidate = type(cases.candidates(asked)[0])
        own = [candidate("Q", ("amber", "basil", "cedar")), candidate("Q", ("cedar", "amber", "basil"))]
        (answer,) = EmbeddingDrift().extract(tuned(base), [asked], own, AttackContext(0, base=base))
        assert answer.ranked[0].loss == answer.ranked[1].loss

    def test_a_symbol_counts_by_the_piece_that_moved_least(self, base):
        asked = cases.query("call {w:1}", symbols=("ab", "az", "haven"))
        target = tuned(base, texts=tuple("call ab" for _ in TEXTS))
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        assert narrow(candidate_set, target, base, most=1).alphabets == (("ab",),)

    def test_narrows_the_candidates_of_the_others(self, base):
        asked = cases.query("call {w:2}", symbols=("delta", "amber", "ember", "basil", "cedar", "haven"))
        target = tuned(base)
        candidate_set = CandidateSet(asked.pattern, asked.alphabets)
        assert narrow(candidate_set, target, base, most=3).alphabets == (("amber", "basil", "cedar"),) * 2
        for attack in (
            RelaxedSearch(narrow=3, restarts=2, rounding_interval=5),
            SwapSearch(narrow=3, restarts=1, rounding_interval=5),
        ):
            (answer,) = attack.extract(target, [asked], [], AttackContext(0, base=base))
            assert set(answer.guess) <= {"amber", "basil", "cedar"}
            losses = cases.all_losses(target, asked)
            assert answer.loss == pytest.approx(losses[answer.guess], abs=1e-5)
            with pytest.raises(NotApplicable, match="needs the public encoder"):
                attack.extract(target, [asked], [], AttackContext(0))
