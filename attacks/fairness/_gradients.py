"""Gradients of a classifier's answers in the embeddings of a text, token by token.

Embeddings are those that the model looks up, before positions are added; special tokens are among them, padding is not.
"""

from collections.abc import Sequence
from typing import Any

import torch

from redteam.core import DataError, UsageError
from redteam.models.tokens import token_ids
from redteam.targets.model import pad_batch
from redteam.targets.target import Target, labels_of

_BATCH = 32
_MOST_CLASSES = 10  # of more, the predicted class alone is looked at: each takes a pass of its own
_ALIKE = 0.8  # mean cosine of the embeddings of two models that were trained from one encoder
Tokens = list[list[int]]


def tokens_of(target: Target, texts: Sequence[str]) -> Tokens:
    """Return the token ids of each text; UsageError for a target without weights."""
    model: Any = target
    if not hasattr(model, "model") or not hasattr(model, "tokenizer"):
        raise UsageError(f"{target.name}: shows no weights, and gradients are taken in them; give the model itself")
    return [list(ids) for ids in token_ids(model.tokenizer, list(texts), name=target.name)]


def table_of(target: Target) -> torch.Tensor:
    """Return the embedding table of a target, [vocabulary, d]."""
    model: Any = target
    weight: torch.Tensor = model.model.get_input_embeddings().weight.detach().float().cpu()
    return weight


def looks_at_all(target: Target) -> bool:
    """Tell whether each class has a gradient of its own, or the predicted one alone."""
    return len(labels_of(target)) <= _MOST_CLASSES


def gradients(target: Target, tokens: Tokens, *, of_odds: bool) -> list[torch.Tensor]:
    """Return for each text the gradients of its answers in its embeddings, [classes, tokens, d].

    Of probabilities or, `of_odds`, of the log odds of each class against all others. Of many classes only that of the
    predicted one is taken.
    """
    opened: Any = target
    model = opened.model.eval()
    found = []
    for start in range(0, len(tokens), _BATCH):
        rows = tokens[start : start + _BATCH]
        batch = {name: each.to(model.device) for name, each in pad_batch(rows, pad=0).items()}
        ids = batch.pop("input_ids")
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
        logits = model(inputs_embeds=embedded, **batch).logits.double()
        answers = _odds(logits) if of_odds else torch.softmax(logits, dim=1)
        if not looks_at_all(target):
            answers = answers.gather(1, logits.argmax(dim=1, keepdim=True))
        each = [
            torch.autograd.grad(answers[:, k].sum(), embedded, retain_graph=k + 1 < answers.shape[1])[0]
            for k in range(answers.shape[1])
        ]
        stacked = torch.stack(each).float().cpu()
        found += [stacked[:, i, : len(own)] for i, own in enumerate(rows)]
    return found


def _odds(logits: torch.Tensor) -> torch.Tensor:
    """Return the log odds of each class: its logit minus the logarithm of the sum of all others'."""
    others = torch.stack([torch.logsumexp(_without(logits, k), dim=1) for k in range(logits.shape[1])], dim=1)
    return logits - others


def _without(logits: torch.Tensor, k: int) -> torch.Tensor:
    return torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)


def same_space(one: Target, other: Target, tokens: Sequence[Sequence[int]]) -> None:
    """Raise DataError where two targets embed tokens otherwise: a direction in one says nothing in the other."""
    first, second = table_of(one), table_of(other)
    name = f"--compare-with {other.name}"
    if first.shape != second.shape:
        raise DataError(f"{name}: its embeddings are {tuple(second.shape)}, those of {one.name} {tuple(first.shape)}")
    used = torch.tensor(sorted({i for row in tokens for i in row}))
    alike = float(torch.nn.functional.cosine_similarity(first[used], second[used], dim=1).mean())
    if alike < _ALIKE:
        raise DataError(
            f"{name}: its embeddings lie otherwise than those of {one.name} (mean cosine {alike:.2f}): compare models "
            "that were trained from one encoder"
        )
