"""Run a candidate sentence itself and compare what it would have put into the update with what is there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from attacks.updates._cells import Cell
from attacks.updates._first_layer import FirstLayer
from redteam.targets.target import WhiteBox

_KEPT = 200  # sentences whose gradients are kept: the same ones are tried from several tokens


@dataclass(frozen=True)
class Match:
    """How well a sentence explains the errors solved for its tokens; a `score` of 1 is exact.

    `errors` [tokens, 3H] and `rows` [tokens, H] are what one copy puts into the gradients of attention and embeddings,
    `weight` how many copies, `cosines` by token.
    """

    score: float
    label: int
    weight: float
    line: tuple[Cell, ...]
    errors: torch.Tensor
    rows: torch.Tensor
    cosines: Mapping[int, float]


class Replay:
    """The model, asked for the gradients of single sentences under each of `labels`."""

    def __init__(self, target: WhiteBox, layer: FirstLayer, labels: Sequence[int]) -> None:
        """Take the public model, which stays as it is."""
        self.model, self.layer, self.labels = target.model, layer, tuple(labels)
        self.device = next(self.model.parameters()).device
        self._kept: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def errors_of(self, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the errors at queries, keys and values [labels, n, 3H], and at the embeddings [labels, n, H]."""
        key = tuple(tokens)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._run(tokens)
        return self._kept[key]

    def _run(self, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.tensor([list(tokens)] * len(self.labels), device=self.device)
        with _watched(self.model, self.layer.modules) as seen, torch.enable_grad():
            logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            own = torch.tensor(self.labels, device=self.device)
            loss = torch.nn.functional.cross_entropy(logits, own, reduction="sum")
            rows, query, key, value = (each.double().cpu() for each in torch.autograd.grad(loss, seen))
        return torch.cat([query, key, value], 2), rows

    def match(self, line: Sequence[Cell], solved: Mapping[int, torch.Tensor], trusted: set[int]) -> Match:
        """Compare a line with the errors solved for tokens, over those of `trusted`, believed to occur once."""
        tokens = [word for word, _ in line]
        errors, rows = self.errors_of(tokens)
        spread = self.layer.spread(torch.tensor(tokens), torch.arange(len(tokens)))
        use = [at for at, word in enumerate(tokens) if word != self.layer.cls and word in solved]
        seen = torch.stack([solved[tokens[at]] for at in use])
        own = errors[:, use] / spread[use][None, :, None]
        cosines = (own * seen).sum(2) / (own.norm(dim=2) * seen.norm(dim=1)).clamp_min(1e-300)
        mine = [i for i, at in enumerate(use) if tokens[at] in trusted] or list(range(len(use)))
        # One that was believed to occur once may stand at the same place in two sentences: the better half decides.
        top, which = cosines[:, mine].topk((len(mine) + 1) // 2, dim=1)
        best = int(top.mean(1).argmax())
        decides = torch.tensor(mine)[which[best]]
        mates = own[best][decides]
        weight = float((mates * seen[decides]).sum() / (mates**2).sum().clamp_min(1e-300))
        by_token = {tokens[at]: float(cosines[best, i]) for i, at in enumerate(use)}
        label = self.labels[best]
        return Match(float(top[best].mean()), label, weight, tuple(line), errors[best], rows[best], by_token)


@contextmanager
def _watched(model: Any, modules: Sequence[Any]) -> Iterator[list[torch.Tensor]]:
    """Keep the input of the first module and the outputs of the others, to ask for gradients at them.

    The model answers as it does after training; parameters get no gradients, and all is put back.
    """
    seen: list[Any] = [None] * len(modules)

    def begin(module: Any, given: Any) -> Any:
        seen[0] = given[0].detach().requires_grad_(True)  # a frozen table would ask for no gradient
        return (seen[0],)

    def keep(at: int) -> Any:
        def hook(module: Any, given: Any, made: Any) -> None:
            seen[at] = made

        return hook

    training = model.training
    handles = [modules[0].register_forward_pre_hook(begin)]
    handles += [module.register_forward_hook(keep(at)) for at, module in enumerate(modules) if at]
    model.eval()
    try:
        yield seen
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
