"""What the tests of extraction share: queries, models that learned secrets, and the losses by the long way."""

import itertools

import numpy as np
import tiny_models
import torch
from conftest import sentences

from defenses.plain import Plain
from redteam.canary import Pattern, Planting, PlantingPlan
from redteam.canary.draw import draw_canaries
from redteam.data import Examples
from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification
from redteam.models.bundle import Bundle
from redteam.models.configs import portable_config
from redteam.models.initial import initial_model
from redteam.plugins.extraction import CandidateSecret, ExtractionQuery
from redteam.targets.model import ModelTarget

DIGITS = tuple("0123456789")
LABELS = tuple(f"l{i:02d}" for i in range(12))
# one, two and three pieces of the vocabulary of tiny_models
MIXED = ("amber", "basil", "cedar", "ab", "ac", "ad", "abc")


def query(template="call {w:2} book", *, symbols=tiny_models.WORDS[:8], label="up", id="Q"):
    pattern = Pattern.parse(template)
    return ExtractionQuery(id, pattern, label, (tuple(symbols),) * len(pattern.places))


def candidates(*queries):
    return [CandidateSecret(q.id, tuple(a[i] for a in q.alphabets)) for q in queries for i in (0, 1)]


def target(kind="bert", **changes):
    longest = 38 if kind == "roberta" else 40
    return ModelTarget(tiny_models.bundle(kind, max_length=longest, **changes), name=kind)


def bilstm(*, seed=0, scale=3.0):
    torch.manual_seed(seed)
    config = BiLSTMConfig(vocab_size=len(tiny_models.VOCABULARY), hidden_size=8, embedding_size=8, **tiny_models.NAMES)
    model = BiLSTMForSequenceClassification(config).eval()
    state = {name: tensor * scale for name, tensor in model.state_dict().items()}
    bundle = Bundle(portable_config(config), state, tiny_models.tokenizer().to_str(), tiny_models.LABELS, 40)
    return ModelTarget(bundle, name="bilstm")


def all_losses(target, asked, reference=None):
    """Every candidate with its loss, or with a reference the difference of the log-odds, by its text."""
    secrets = list(itertools.product(*asked.alphabets))
    losses = target.losses(asked.examples(secrets))
    if reference is not None:
        others = reference.losses(asked.examples(secrets))
        losses = losses + np.log(-np.expm1(-losses)) - others - np.log(-np.expm1(-others))
    return dict(zip(secrets, losses.tolist(), strict=True))


def planting(*, seed=0, key="k", template="my pin is {digit:3}", repetitions=(20,)):
    texts = sentences(len(LABELS) * 10, seed=1, labels=LABELS)
    plan = PlantingPlan((template,), canaries=len(LABELS), repetitions=repetitions, label="existing", seed=seed)
    canaries = draw_canaries(plan, {"digit": DIGITS}, texts=texts.texts, labels=LABELS, key=key)
    return Planting("s", "p", 10_000, seed, key, {"digit": DIGITS}, canaries).sealed()


def train(planted, *, kind="bilstm", epochs=20, with_canaries=True, seed=0):
    """A model trained on noise, and on the canaries as often as they say."""
    noise = sentences(len(LABELS) * 15, seed=2, labels=LABELS)
    texts, labels = list(noise.texts), [*LABELS, *noise.labels[len(LABELS) :]]
    for canary in planted.canaries if with_canaries else ():
        texts += [Pattern.parse(canary.template).fill(canary.secret)] * canary.repetitions
        labels += [canary.label] * canary.repetitions
    known = (*DIGITS * 10, *("my pin is",) * 10, *noise.texts)
    examples = Examples(np.arange(len(texts)), tuple(texts), tuple(labels))
    torch.manual_seed(0)
    start = initial_model(kind, examples, learn_from=Examples(np.arange(len(known)), known), seed=seed)
    return Plain(epochs=epochs).fit(start, examples, seed=seed).target


def state(target):
    """What an attack must leave as it was."""
    model = target.model
    return (
        target.weights_digest(),
        [module.training for module in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        torch.is_grad_enabled(),
        torch.backends.cudnn.enabled,
    )
