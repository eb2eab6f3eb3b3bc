"""The contract of attacks on updates: a certain leak found, nothing found of texts that an update never saw."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from redteam.models.bundle import Bundle
from redteam.models.configs import portable_config
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate, Recovered, UpdateAttack, UpdateControl, UpdateMembership
from redteam.targets.model import ModelTarget, pad_batch
from redteam.testing.attacks import state_of
from redteam.testing.examples import LABELS, must
from redteam.testing.manual import check_manual, made

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORDS = 160


@cache
def random_encoder() -> ModelTarget:
    """Return a small BERT with random weights, its words "w0" to "w159": what a round of training begins with."""
    return ModelTarget(random_bundle(), name="random encoder")


def random_bundle() -> Bundle:
    """Return the same as a bundle, to be saved."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoModelForSequenceClassification, BertConfig

    words = {word: i for i, word in enumerate((*_SPECIAL, *(f"w{i}" for i in range(_WORDS))))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    sizes: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 24}
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        config = BertConfig(vocab_size=len(words), initializer_range=0.2, **sizes, **names)
        model = AutoModelForSequenceClassification.from_config(config)
    return Bundle(portable_config(config), model.state_dict(), tokenizer.to_str(), LABELS, 24)


def random_texts(count: int, *, seed: int) -> tuple[list[str], list[int]]:
    """Return texts of 4 to 7 words, no two of which begin alike, and the index of a label for each."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(f"w{i}" for i in rng.choice(_WORDS, rng.integers(4, 8), replace=False)) for _ in range(count)]
    return texts, rng.integers(len(LABELS), size=count).tolist()


def update_of(
    target: ModelTarget,
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    frozen: bool = False,
    rate: float = 1.0,
    name: str = "client",
) -> ClientUpdate:
    """Return what one step of SGD of size `rate` on these texts changes, with the embeddings `frozen` or not."""
    inputs = pad_batch([encoding.ids for encoding in target.tokenizer.encode_batch(list(texts))], pad=0)
    named = {n: p for n, p in target.model.named_parameters() if not (frozen and ".embeddings." in n)}
    with torch.enable_grad():
        loss = torch.nn.functional.cross_entropy(target.model(**inputs).logits, torch.tensor(list(labels)))
        found = torch.autograd.grad(loss, list(named.values()))
    return ClientUpdate(name, {n: -rate * change for n, change in zip(named, found, strict=True)})


def check_update_attack(attack: type[UpdateAttack] | UpdateAttack) -> None:
    """Hold an attack on updates to its contract; raise AssertionError with the line it breaks.

    It is run on updates of a small random BERT, with its embeddings trained and frozen.
    """
    it = made(attack)
    check_manual(it, r"RT3\d\d")
    must(it.gives, f"{it.id}: gives nothing, so there is nothing to judge it by")
    target, texts = random_encoder(), random_texts(3, seed=1)
    before = state_of(target)
    applied = [_check_leak(it, target, update_of(target, *texts, frozen=frozen), texts[0]) for frozen in (False, True)]
    must(any(applied), f"{it.id}: applies to no update of a BERT, neither with its embeddings trained nor frozen")
    must(state_of(target) == before, f"{it.id} changes the model: weights, gradients or training mode")


def _check_leak(it: UpdateAttack, target: ModelTarget, update: ClientUpdate, texts: Sequence[str]) -> bool:
    """Find a certain leak, the same each time; False where the attack does not apply to the update."""
    try:
        found, again = (it.recover(target, update, AttackContext(5)) for _ in range(2))
    except NotApplicable:
        return False
    must(_said(found) == _said(again), f"{it.id}: finds something else with the same seed")
    own = [tuple(encoding.ids) for encoding in target.tokenizer.encode_batch(list(texts))]
    words = {token for each in own for token in each}
    if "tokens" in it.gives:
        must(found.tokens == words, f"{it.id}: {len(found.tokens & words)} of {len(words)} tokens of one clean step")
    if "places" in it.gives:
        wrong = [w for w, place in found.places.items() if {e.index(w) for e in own if w in e} != {place}]
        must(not wrong, f"{it.id}: {len(wrong)} of {len(found.places)} positions are wrong")
    if "sentences" in it.gives:
        _check_sentences(it, found, own)
    return True


def _said(found: Recovered) -> tuple[Any, ...]:
    """Return what was found but for the last digit of weights, which the alignment of memory may change."""
    sentences = [(each.tokens, each.label, each.verified) for each in found.sentences]
    return found.tokens, dict(found.places), sentences


def _check_sentences(it: UpdateAttack, found: Recovered, own: Sequence[tuple[int, ...]]) -> None:
    proven = [each.tokens for each in found.sentences if each.verified]
    right = len(set(own).intersection(proven))
    must(set(proven) <= set(own), f"{it.id}: a sentence that it calls verified is not in the batch")
    must(right == len(own), f"{it.id}: {right} of {len(own)} sentences of one clean step are found and verified")


def check_update_membership(attack: type[UpdateMembership] | UpdateMembership) -> None:
    """Hold an attack that asks an update for texts to its contract; raise AssertionError with the line it breaks.

    It is run on updates of a small random BERT, of which it must tell the texts from others, each time the same way.
    """
    it = made(attack)
    check_manual(it, r"RT3\d\d")
    target, (texts, labels), (others, theirs) = random_encoder(), random_texts(6, seed=1), random_texts(6, seed=2)
    before, update = state_of(target), update_of(target, texts, labels)
    asked = [tuple(encoding.ids) for encoding in target.tokenizer.encode_batch([*texts, *others])]
    given = (target, update, asked, [*labels, *theirs], AttackContext(5))
    try:
        scores, again = it.score(*given), it.score(*given)
    except NotApplicable as error:
        raise AssertionError(f"{it.id}: does not apply to one clean step of a BERT: {error}") from None
    must(scores.shape == (12,) and np.isfinite(scores).all(), f"{it.id}: wanted one finite number for each text")
    must(np.array_equal(scores, again), f"{it.id}: scores differ with the same seed")
    told = float((scores[:6, None] > scores[None, 6:]).mean())
    must(told > 0.9, f"{it.id}: tells the texts of one clean step from others in {told:.0%} of pairs")
    must(state_of(target) == before, f"{it.id} changes the model: weights, gradients or training mode")


def check_update_control(control: type[UpdateControl] | UpdateControl) -> None:
    """Hold a control of attacks on updates to its contract; raise AssertionError with the line it breaks."""
    it = made(control)
    check_manual(it, r"RT9\d\d")
    target, (texts, labels) = random_encoder(), random_texts(3, seed=1)
    before, lengths = state_of(target), [len(encoding.ids) for encoding in target.tokenizer.encode_batch(texts)]
    other = update_of(target, *random_texts(3, seed=2), name="other")
    for others in ((), (other,)):
        first, again = (it.unseen(target, lengths, others, seed=5) for _ in range(2))
        same = first.change.keys() == again.change.keys() and all(
            torch.equal(first.change[name], again.change[name]) for name in first.change
        )
        must(same, f"{it.id}: another update with the same seed")
        must(first.change, f"{it.id}: an update that changes nothing, in which nothing can be found")
        own = update_of(target, texts, labels).change
        seen = [name for name in own if name in first.change and torch.equal(own[name], first.change[name])]
        must(not seen, f"{it.id}: an update that saw the client's texts")
    must(state_of(target) == before, f"{it.id} changes the model: weights, gradients or training mode")
