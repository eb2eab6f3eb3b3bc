"""Who took part and which texts were used: told from an update that holds them, luck in one that does not."""

import numpy as np
import pytest
import torch

from attacks.updates._changed_rows import changed_rows
from attacks.updates.membership import MembershipFromUpdates
from redteam.auditing.updates.senders import Sender
from redteam.auditing.updates.telling import run_membership
from redteam.auditing.updates.truth import Truth, joined
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.registry import discover_update_controls
from redteam.plugins.update import ClientUpdate, UpdateMembership
from redteam.testing.updates import random_encoder, random_texts, update_of

(CONTROL,) = discover_update_controls()


@pytest.fixture(scope="module")
def target():
    return random_encoder()


def ids_of(target, texts):
    return tuple(tuple(encoding.ids) for encoding in target.tokenizer.encode_batch(list(texts)))


def client_of(target, seed, count=3):
    texts, labels = random_texts(count, seed=seed)
    return Truth(f"client{seed}", ids_of(target, texts), frozenset((2, 3)), tuple(labels)), (texts, labels)


def senders_of(target, count, *, sums=1, rounds=1, blank=False, **how):
    """Senders of one clean step on each one's texts, or, `blank`, on those of somebody else."""
    made = []
    for at in range(count):
        clients = [client_of(target, 100 * at + k) for k in range(sums)]
        used = [client_of(target, 5000 + 100 * at + k) for k in range(sums)] if blank else clients
        texts, labels = ([one for _, each in used for one in each[i]] for i in (0, 1))
        updates = [update_of(target, texts, labels, **how)] * rounds
        made.append(Sender(tuple(updates), joined([truth for truth, _ in clients])))
    return made


def told_of(target, sent, left=(), attack=None):
    return run_membership(target, attack or MembershipFromUpdates(), sent, left, CONTROL, seed=0)


def naive(target, update, text, label):
    """The same score from whole gradients, parameter by parameter."""
    named = dict(target.model.named_parameters())
    logits = target.model(input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text))).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
    gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    words = next(name for name in named if "word_embeddings" in name)
    readers = [name for name in update.change if ".query.weight" in name or ".key.weight" in name]
    cosine = {
        name: -float(
            torch.nn.functional.cosine_similarity(gradients[name].flatten(), update.change[name].flatten(), dim=0)
        )
        for name in [*readers, words][: None if words in update.change else -1]
    }
    score = sum(cosine[name] for name in readers)
    if words not in update.change:
        return score / len(readers)
    rows = changed_rows(update.change[words].double(), named[words].detach().double(), pad=0).rows
    support = len(set(rows) & set(text)) / len(set(text))
    return support + (score + cosine[words] * len(readers)) / (2 * len(readers))


@pytest.mark.parametrize("frozen", [False, True], ids=["embeddings trained", "embeddings frozen"])
def test_scores_are_those_of_the_naive_way(target, frozen):
    (truth, given), (other, _) = client_of(target, 1), client_of(target, 2)
    update = update_of(target, *given, frozen=frozen)
    texts, labels = truth.texts + other.texts, truth.labels + other.labels
    scores = MembershipFromUpdates().score(target, update, texts, labels, AttackContext(0))
    assert scores == pytest.approx([naive(target, update, *each) for each in zip(texts, labels, strict=True)], abs=1e-4)


@pytest.mark.parametrize("how", [{}, {"frozen": True}, {"sums": 2}, {"rounds": 2}], ids=str)
def test_a_clean_step_tells_its_clients_and_their_texts(target, how):
    told = told_of(target, senders_of(target, 6, **how))
    found = {each.signal: each for each in told.evidence(0.01)}
    assert found["clients"].interval.value == 1
    assert found["texts"].interval.value > (0.7 if how.get("frozen") else 0.95)  # by cosines alone, or by rows too
    assert found["clients"].members == 3
    assert found["clients"].interval.low == pytest.approx((0.01 / 2) ** (1 / 3), abs=1e-4)
    assert 0.2 < np.mean(told.unseen) < 0.8


def test_an_update_of_other_texts_tells_nothing(target):
    """Also where the score knows every text: that clients are exchanged makes luck of it."""
    sent = senders_of(target, 12, blank=True)
    favourite = {text for each in sent[::2] for text in each.truth.texts}

    class KnowsEveryText(UpdateMembership):
        id, name = "RT398", "knows every text"

        def score(self, model, update, texts, labels, context):
            return np.array([float(text in favourite) for text in texts])

    for attack in (MembershipFromUpdates(), KnowsEveryText()):
        for each in told_of(target, sent, attack=attack).evidence(0.01):
            assert each.interval.low < 0.5 < each.interval.high
    assert told_of(target, sent, attack=KnowsEveryText()).right["clients"] == [0.5] * 6


def test_one_sender_is_held_beside_a_user_who_sent_nothing(target):
    (sender,) = senders_of(target, 1)
    other, _ = client_of(target, 77)
    assert told_of(target, [sender], [other]).right == {"clients": [1.0], "texts": [1.0]}
    alone = told_of(target, [sender])
    assert (alone.failure.kind, alone.right) == ("not_applicable", {})
    assert "a user of whom there is none" in alone.failure.reason


def test_what_cannot_be_asked_is_refused(target):
    (truth, _), (other, _) = client_of(target, 1), client_of(target, 2)
    head = ClientUpdate("client", {"classifier.bias": torch.ones(3)})
    with pytest.raises(NotApplicable, match="neither word embeddings nor queries and keys"):
        MembershipFromUpdates().score(target, head, truth.texts, truth.labels, AttackContext(0))
    unlabelled = Truth("other", other.texts, other.special)
    sent = [Sender((head,), truth), Sender((head,), unlabelled)]
    assert "needs the labels" in told_of(target, sent).failure.reason
