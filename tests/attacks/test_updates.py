"""What updates leak of their clients' texts: exact where one clean step was sent, and less the more was done to it."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from attacks.updates._changed_rows import changed_rows
from attacks.updates.positions import Positions
from attacks.updates.sentences import Sentences
from attacks.updates.tokens import Tokens
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate
from redteam.testing.updates import random_encoder, random_texts, update_of

CONTEXT = AttackContext(0)
TEXTS = random_texts(4, seed=3)


@pytest.fixture(scope="module")
def target():
    return random_encoder()


def ids_of(target, texts):
    return [tuple(encoding.ids) for encoding in target.tokenizer.encode_batch(list(texts))]


def words_of(target, texts):
    return {word for ids in ids_of(target, texts) for word in ids}


def trained(target, texts, labels, *, optimizer, steps=1, dropout=False):
    """What a client sends that really trains: weights after less weights before, in float32."""
    model = copy.deepcopy(target.model).train(dropout)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = optimizer(model.parameters())
    encoded = target.tokenizer.encode_batch(list(texts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        for step in range(steps):
            chosen.zero_grad()
            for encoding, label in list(zip(encoded, labels, strict=True))[step::steps]:
                loss = torch.nn.functional.cross_entropy(
                    model(input_ids=torch.tensor([encoding.ids])).logits, torch.tensor([label])
                )
                (loss / len(texts)).backward()
            chosen.step()
    names = [name for name, _ in model.named_parameters()]
    return ClientUpdate("client", {name: model.state_dict()[name] - before[name] for name in names})


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05),
    "SGD with decay": lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, 1e-4),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-4, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_tokens_of_trained_embeddings_are_exact_whatever_trains_them(target, optimizer):
    update = trained(target, *TEXTS, optimizer=OPTIMIZERS[optimizer], steps=2, dropout=True)
    assert Tokens().recover(target, update, CONTEXT).tokens == words_of(target, TEXTS[0])


def test_noise_on_every_row_hides_tokens_and_is_said(target):
    clean = update_of(target, *TEXTS)
    noisy = {}
    for scale in (1e-4, 3.0):
        generator = torch.Generator().manual_seed(5)
        change = {n: v + scale * torch.randn(v.shape, generator=generator) for n, v in clean.change.items()}
        noisy[scale] = Tokens().recover(target, ClientUpdate("client", change), CONTEXT)
    assert noisy[1e-4].tokens == words_of(target, TEXTS[0])
    assert not noisy[3.0].tokens
    assert all("noise" in found.notes[0] for found in noisy.values())


def test_rows_of_noise_alone_are_nobodys():
    generator = torch.Generator().manual_seed(6)
    before = torch.randn(2000, 48, generator=generator, dtype=torch.float64)
    for change in (0.01 * torch.randn(2000, 48, generator=generator, dtype=torch.float64), -1e-3 * before):
        assert not changed_rows(change, before).rows


def test_a_factor_common_to_all_rows_is_taken_off():
    generator = torch.Generator().manual_seed(7)
    before = torch.randn(500, 16, generator=generator, dtype=torch.float64)
    change = -1e-4 * before
    change[[3, 77]] += 1e-3
    found = changed_rows(change, before)
    assert found.rows == (3, 77)
    assert found.decayed == pytest.approx(1e-4)
    assert found.noise == 0


def test_every_token_that_occurs_once_has_its_position(target):
    found = Positions().recover(target, update_of(target, *TEXTS), CONTEXT)
    ids = ids_of(target, TEXTS[0])
    flat = [word for each in ids for word in each]
    once = {word: each.index(word) for each in ids for word in each if flat.count(word) == 1}
    assert found.places.items() >= once.items()
    sent = Positions().recover(target, trained(target, *TEXTS, optimizer=OPTIMIZERS["SGD"]), CONTEXT)
    assert sent.places.items() <= found.places.items()
    assert len(sent.places) > 0.9 * len(once)


def test_positions_need_trained_embeddings(target):
    with pytest.raises(NotApplicable, match="embeddings were frozen"):
        Positions().recover(target, update_of(target, *TEXTS, frozen=True), CONTEXT)


@pytest.mark.parametrize("frozen", [False, True], ids=["embeddings trained", "embeddings frozen"])
def test_sentences_come_with_label_and_share(target, frozen):
    texts, labels = [*TEXTS[0], TEXTS[0][0]], [*TEXTS[1], TEXTS[1][0]]  # one of them twice
    update = update_of(target, texts, labels, frozen=frozen, rate=0.1)
    found = Sentences().recover(target, update, CONTEXT).sentences
    assert all(each.verified for each in found)
    ids = ids_of(target, TEXTS[0])
    assert {(each.tokens, each.label) for each in found} == set(zip(ids, TEXTS[1], strict=True))
    share = {each.tokens: each.weight for each in found}
    assert share[ids[0]] == pytest.approx(2 * 0.1 / 5, rel=1e-3)
    assert share[ids[1]] == pytest.approx(0.1 / 5, rel=1e-3)


def test_of_two_tokens_with_one_frozen_embedding_neither_is_verified(target):
    own = copy.deepcopy(target)
    words = own.model.get_input_embeddings().weight
    alike = max(ids_of(target, TEXTS[0])[0][1:-1])
    other = next(w for w in range(alike + 1, len(words)) if w not in words_of(target, TEXTS[0]))
    with torch.no_grad():
        words[other] = words[alike]
    change = {n: v for n, v in update_of(own, *TEXTS).change.items() if "embeddings" not in n}
    found = Sentences().recover(own, ClientUpdate("client", change), CONTEXT)
    held = set(ids_of(target, TEXTS[0]))
    assert any(each.verified for each in found.sentences)
    assert all(each.tokens in held for each in found.sentences if each.verified)


def test_dropout_leaves_nothing_to_verify(target):
    update = trained(target, *TEXTS, optimizer=OPTIMIZERS["SGD"], dropout=True)
    assert not any(each.verified for each in Sentences().recover(target, update, CONTEXT).sentences)


def test_an_update_of_other_texts_holds_none_of_these(target):
    update = update_of(target, *random_texts(4, seed=4))
    found = {each.tokens for each in Sentences().recover(target, update, CONTEXT).sentences}
    assert len(found) == 4
    assert not found.intersection(ids_of(target, TEXTS[0]))


def test_more_tokens_than_the_model_is_wide_are_no_number(target):
    frozen, trained_too = (update_of(target, *random_texts(24, seed=8), frozen=frozen) for frozen in (True, False))
    for attack in (Tokens(), Sentences()):
        with pytest.raises(NotApplicable, match=r"rank 6\d of 64: it spans every token"):
            attack.recover(target, frozen, CONTEXT)
    with pytest.raises(NotApplicable, match="are more than 64, the width of the model"):
        Sentences().recover(target, trained_too, CONTEXT)


def test_an_optimiser_with_a_direction_of_its_own_is_no_pass_of_sentences(target):
    for optimizer in ("Adam", "AdamW"):
        with pytest.raises(NotApplicable, match="no step of SGD"):
            Sentences().recover(target, trained(target, *TEXTS, optimizer=OPTIMIZERS[optimizer]), CONTEXT)


def test_rounds_that_began_with_other_weights_are_read_together(target):
    texts, labels = random_texts(3, seed=12)
    later = copy.deepcopy(target.model)
    with torch.no_grad():
        for parameter in later.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    before = {name: value.detach().clone() for name, value in target.model.named_parameters()}
    second = at_other_weights(target, later, texts[1:], labels[1:])
    first = update_of(target, texts[:2], labels[:2])
    found = Sentences().recover_rounds(target, [first, second], CONTEXT)
    assert {each.tokens for each in found.sentences if each.verified} == set(ids_of(target, texts))
    assert all(torch.equal(before[name], value) for name, value in target.model.named_parameters())
    wrong = Sentences().recover_rounds(target, [replace(second, before=None)], CONTEXT)
    assert not any(each.verified for each in wrong.sentences)  # the weights that a round began with matter


def at_other_weights(target, model, texts, labels):
    """What one step changes that began with the weights of `model`."""
    other = SimpleNamespace(model=model, tokenizer=target.tokenizer)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    return replace(update_of(other, texts, labels), before=weights)


def test_what_is_not_built_like_bert_is_named():
    model = torch.nn.Linear(2, 2)
    model.base_model_prefix = "encoder"
    with pytest.raises(NotApplicable, match=r"begin as BERT does .*; this is a Linear"):
        Tokens().recover(SimpleNamespace(model=model), ClientUpdate("client", {}), CONTEXT)


SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FAMILIES = {
    "roberta": (SIZES, {"RT301", "RT302", "RT303"}),
    "distilbert": ({"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}, {"RT301", "RT302", "RT303"}),
    "mpnet": (SIZES, {"RT301", "RT302", "RT303"}),
    "albert": ({**SIZES, "embedding_size": 32}, {"RT301"}),
    "gpt2": ({"n_embd": 64, "n_layer": 2, "n_head": 2}, {"RT301"}),
}


def of_family(target, family):
    """A model of another family with random weights and the same words."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = FAMILIES[family][0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        config = AutoConfig.for_model(
            family, vocab_size=164, pad_token_id=0, initializer_range=0.2, num_labels=3, **sizes
        )
        model = AutoModelForSequenceClassification.from_config(config).eval()
    return SimpleNamespace(model=model, tokenizer=target.tokenizer, labels=target.labels, name=family)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_are_read_or_refused_and_never_passed(target, family):
    other = of_family(target, family)
    update, own = update_of(other, *TEXTS), ids_of(target, TEXTS[0])
    for attack in (Tokens(), Positions(), Sentences()):
        if attack.id not in FAMILIES[family][1]:
            with pytest.raises(NotApplicable):
                attack.recover(other, update, CONTEXT)
            continue
        found = attack.recover(other, update, CONTEXT)
        assert found.tokens == words_of(target, TEXTS[0])
        assert {each.tokens for each in found.sentences if each.verified} == set(own if found.sentences else ())
        assert bool(found.places) == (attack.id == "RT302")
        assert bool(found.sentences) == (attack.id == "RT303")
        assert not [w for w, place in found.places.items() if {e.index(w) for e in own if w in e} != {place}]


def test_an_update_that_changes_nothing_that_is_read_is_named(target):
    head = {"classifier.weight": torch.ones(3, 64)}
    for attack in (Tokens(), Sentences()):
        with pytest.raises(NotApplicable, match="no queries, keys or values"):
            attack.recover(target, ClientUpdate("client", head), CONTEXT)
