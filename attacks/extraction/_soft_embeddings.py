"""Secrets as weights over symbols: a model as a function of its embeddings (Parikh et al., 2022).

A place holds the mean of its symbols' embeddings under some weights. With weights of 0 and 1 that is a sentence; in
between it is none, but the loss has a gradient. Symbols of several word-pieces take several positions, so only symbols
of as many pieces can be mixed: one `SoftEmbeddings` is of one shape, the number of pieces in each place.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from attacks.extraction._losses import minus_log_odds, spelling_of
from attacks.extraction.sentences import CandidateSet, IntArray, Spelling
from redteam.data import Examples
from redteam.models.configs import quiet
from redteam.plugins.extraction import NotApplicable
from redteam.targets.target import Access, Target, label_indices, labels_of


@dataclass(frozen=True)
class Embedded:
    """A target's model and how it spells a candidate set: what gradients need."""

    target: Target
    model: Any
    spelling: Spelling
    columns: tuple[int, ...]  # of the labels asked about


def embed(
    target: Target, candidate_set: CandidateSet, labels: Sequence[str], reference: Target | None
) -> list[Embedded]:
    """Return the target, then the reference where there is one; raise NotApplicable where one takes no embeddings."""
    return [_embed(each, candidate_set, labels) for each in (target, reference) if each is not None]


def _embed(target: Target, candidate_set: CandidateSet, labels: Sequence[str]) -> Embedded:
    columns = label_indices(labels_of(target), Examples(np.arange(len(labels)), labels=tuple(labels)), name=target.name)
    if Access.WEIGHTS not in target.access or not hasattr(target, "model"):
        raise NotApplicable(f"{target.name} does not show its weights")
    spelling = spelling_of(target, candidate_set)
    if spelling is None:
        raise NotApplicable(
            f"{target.name} spells a symbol of {candidate_set.pattern.template!r} differently beside others"
        )
    embedded = Embedded(target, target.model, spelling, tuple(columns.tolist()))
    if not _embeddings_suffice(embedded, candidate_set):
        raise NotApplicable(f"{target.name} does not answer for embeddings as it does for tokens")
    return embedded


def _embeddings_suffice(embedded: Embedded, candidate_set: CandidateSet) -> bool:
    """Ask about a sentence by its ids and, twice in a batch, by its embeddings."""
    ((_, ids),) = embedded.spelling.rows(candidate_set.draw(1, np.random.default_rng(0)))
    tokens = torch.from_numpy(ids).to(embedded.model.device)
    try:
        with torch.inference_mode(), _without_padding(embedded.model):
            embeddings = embedded.model.get_input_embeddings()(tokens).expand(2, -1, -1)
            logits = [
                embedded.model(input_ids=tokens).logits.expand(2, -1),
                embedded.model(inputs_embeds=embeddings).logits,
            ]
    except (TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4)


@contextmanager
def _without_padding(model: Any) -> Iterator[None]:
    """Let a decoder that knows no padding token take batches: sentences of one length need none."""
    config, known = model.config, getattr(model.config, "pad_token_id", 0)
    try:
        with quiet():  # transformers warns that it sees no padding in embeddings
            if known is None:
                config.pad_token_id = 0
            yield
    finally:
        if known is None:
            config.pad_token_id = None


@contextmanager
def gradients(embedded: Sequence[Embedded]) -> Iterator[None]:
    """Let gradients reach the inputs and no weight; everything is as before afterwards."""
    kept = [(p, p.requires_grad) for each in embedded for p in each.model.parameters()]
    try:
        for parameter, _ in kept:
            parameter.requires_grad_(False)
        with ExitStack() as stack:
            for each in embedded:
                stack.enter_context(_without_padding(each.model))
            # cuDNN has no backward pass for an LSTM in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(torch.enable_grad())
            yield
    finally:
        for parameter, wanted in kept:
            parameter.requires_grad_(wanted)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


class SoftEmbeddings:
    """The sentences of one shape, through the embeddings of the target and of the reference.

    `members` are for each place the symbols that are mixed, indices into its alphabet.
    """

    def __init__(self, embedded: Sequence[Embedded], pick: IntArray) -> None:
        """Take the shape of one pick, [places]: the symbols that every model spells in as many pieces."""
        self.members: list[IntArray] = []
        for place, symbol in enumerate(pick.tolist()):
            counts = [each.spelling.counts[place] for each in embedded]
            self.members.append(np.nonzero(np.all([count == count[symbol] for count in counts], axis=0))[0])
        self.sizes = [len(members) for members in self.members]
        self._embedded = embedded
        with torch.no_grad():
            self._inputs = [self._embed(each, pick) for each in embedded]

    def _embed(self, embedded: Embedded, pick: IntArray) -> tuple[list[Tensor], list[Tensor]]:
        """Return the known runs, [1, length, width] each, and for each place its symbols, [symbols, pieces, width]."""
        embed, device = embedded.model.get_input_embeddings(), embedded.model.device

        def look_up(ids: IntArray) -> Tensor:
            found: Tensor = embed(torch.from_numpy(np.ascontiguousarray(ids)).to(device))
            return found.clone()

        spelling = embedded.spelling
        tables = []
        for place, members in enumerate(self.members):
            count = int(spelling.counts[place][pick[place]])
            tables.append(look_up(spelling.pieces[place][members, :count]))
        return [look_up(run[None]) for run in spelling.runs], tables

    @property
    def device(self) -> torch.device:
        """Where the target's weights are."""
        device: torch.device = self._embedded[0].model.device
        return device

    def losses(self, weights: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the loss of each row, [rows], or log-odds as `Losses`; `weights` are [rows, symbols] for each place.

        `labels` are indices into the labels asked about, [rows].
        """
        total: Tensor | None = None
        for embedded, (runs, tables) in zip(self._embedded, self._inputs, strict=True):
            device, rows = embedded.model.device, len(labels)
            parts = [runs[0].expand(rows, -1, -1)]
            for place, table in enumerate(tables):
                mixed = weights[place].to(device) @ table.flatten(1)
                parts += [mixed.reshape(rows, *table.shape[1:]), runs[place + 1].expand(rows, -1, -1)]
            logits = embedded.model(inputs_embeds=torch.cat(parts, dim=1)).logits.double()
            columns = torch.tensor(embedded.columns, device=device)[labels.to(device)]
            if len(self._embedded) > 1:
                losses = minus_log_odds(logits, columns).to(self.device)
            else:
                losses = functional.cross_entropy(logits, columns, reduction="none")
            total = losses if total is None else total - losses
        assert total is not None
        return total

    def kept(self) -> int:
        """Return the bytes that one row of `losses` keeps for its backward pass."""
        one, two = (self._kept(rows) for rows in (1, 2))
        return max(1, two - one)

    def _kept(self, rows: int) -> int:
        storages: dict[int, Tensor] = {}  # alive, so that no two have one address
        weights = [torch.full((rows, size), 1 / size, device=self.device).requires_grad_() for size in self.sizes]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: storages.setdefault(_address(t), t), lambda t: t):
            self.losses(weights, torch.zeros(rows, dtype=torch.long, device=self.device))
        return sum(each.untyped_storage().nbytes() for each in storages.values())

    def slopes(self, picks: IntArray, labels: IntArray) -> list[Tensor]:
        """Return how the loss of each row would change, to first order, per unit of weight of each symbol.

        `picks` index `members`, [rows, places]; the result has [rows, symbols] for each place. The slope of
        the new symbol less that of the present one estimates the change of a swap (HotFlip, Ebrahimi et al., ACL 2018).
        """
        own = torch.from_numpy(picks).to(self.device)
        weights = [
            functional.one_hot(own[:, place], size).float().requires_grad_() for place, size in enumerate(self.sizes)
        ]
        losses = self.losses(weights, torch.from_numpy(labels).to(self.device))
        return list(torch.autograd.grad(losses.sum(), weights))
