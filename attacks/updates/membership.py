"""RT304 update membership: was a client trained on this text, and whose texts were in a sum, read off what was sent.

The adversary has a text and its label, and knows the weights before and after: a server that asks whether a record was
used, or whether a user took part in a round. An update is a sum of its texts' gradients. The gradients of two texts are
nearly orthogonal in the weights that read tokens, the word embeddings and the queries and keys of attention; in the
head those of one label are alike. So the score is the mean over the former of the cosine between the text's gradient
and what was sent, after Li, Rezaei and Liu, "Effective passive membership inference attacks in federated learning
against overparameterized models", ICLR 2023, who take all weights together. Where word embeddings were trained, the
share of the text's tokens whose rows changed is added: it is 1 for every text that was used.

Over several rounds the mean of the scores is taken, each with the weights that its round began with. A user's score is
the mean over her texts. Any model with word embeddings is read, whatever trained it; noise and large sums hide it.

Cost: one gradient a text and round, some 30 milliseconds on MiniLM.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from attacks.updates._changed_rows import changed_rows
from redteam.core.arrays import FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate, UpdateMembership
from redteam.report.values import Taxonomy
from redteam.targets.target import WhiteBox

_READERS = ("query", "key", "q_lin", "k_lin", "q_proj", "k_proj", "qkv", "c_attn")  # what families call them


@dataclass(frozen=True)
class MembershipFromUpdates(UpdateMembership):
    """Score texts by how much their own gradients are in what was sent."""

    id = "RT304"
    name = "update membership"
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))

    def score(
        self,
        model: WhiteBox,
        update: ClientUpdate,
        texts: Sequence[tuple[int, ...]],
        labels: Sequence[int],
        context: AttackContext,
    ) -> FloatArray:
        """Return one number per text, shape [n]."""
        table = model.model.get_input_embeddings()
        named = {id(parameter): name for name, parameter in model.model.named_parameters()}
        rows = update.change.get(named[id(table.weight)])
        rows = None if rows is None or not bool(rows.any()) else rows.double()
        readers = {
            name: change
            for name, change in update.change.items()
            if name.rpartition(".")[0].endswith(_READERS) and change.ndim == 2 and bool(change.any())
        }
        if rows is None and not readers:
            raise NotApplicable(
                "the update changes neither word embeddings nor queries and keys that are known by name"
            )
        pad, changed = table.padding_idx, set[int]()
        if rows is not None:
            changed = set(changed_rows(rows, table.weight.detach().cpu().double(), pad=pad).rows)
        scores = []
        for at, (text, label) in enumerate(zip(texts, labels, strict=True)):
            own = _gradients(model.model, table, text, label, list(readers))
            cosines = [_cosine(own[name], change) for name, change in readers.items()]
            support = 0.0
            if rows is not None:
                cosines += [_of_rows(own[""], text, rows)] * max(1, len(readers))  # as much as all the others
                support = len(changed.intersection(text)) / len(set(text))
            scores.append(support + float(np.mean(cosines)))
            context.progress(at + 1, len(texts))
        return np.array(scores)


def _gradients(
    model: Any, table: Any, text: Sequence[int], label: int, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return the gradient of a text's loss at parameters by name, and under "" at its embeddings, [tokens, H]."""
    kept: list[Any] = []

    def keep(module: Any, given: Any, made: Any) -> Any:
        kept.append(made.detach().requires_grad_(True))
        return kept[0]

    training, handle = model.training, table.register_forward_hook(keep)
    model.eval()
    try:
        ids = torch.tensor([list(text)], device=table.weight.device)
        with torch.enable_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label], device=ids.device))
            wanted = [kept[0], *(model.get_parameter(name) for name in names)]
            found = torch.autograd.grad(loss, wanted)
    finally:
        handle.remove()
        model.train(training)
    return dict(zip(("", *names), (each.detach().cpu() for each in found), strict=True))


def _cosine(gradient: torch.Tensor, change: torch.Tensor) -> float:
    sizes = float(gradient.norm() * change.norm())
    return -float((gradient * change).sum()) / sizes if sizes > 0 else 0.0


def _of_rows(cells: torch.Tensor, text: Sequence[int], rows: torch.Tensor) -> float:
    """Return the cosine of the gradient of the embedding table, whose rows are sums of cells, with its change."""
    ids = torch.tensor(list(text))
    words, at = torch.unique(ids, return_inverse=True)
    own = torch.zeros(len(words), rows.shape[1], dtype=torch.double)
    own.index_add_(0, at, cells.reshape(len(ids), -1).double())  # XLNet has the texts last
    sizes = float(own.norm() * rows.norm())
    return -float((own * rows[words]).sum()) / sizes if sizes > 0 else 0.0
