"""Models of the protected status: how much of a group can be read off the words of a text, and in which direction.

Each word's embedding, taken from the target's own table, goes through one hidden layer; the mean over the words gives
the log odds of the group (deep sets, Zaheer et al. 2017). What a text says of its group is in few words, so that this
learns it in seconds, and its gradient differs from token to token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from redteam.core.arrays import BoolArray

_HIDDEN, _PASSES, _BATCH, _RATE, _DECAY = 32, 30, 32, 3e-3, 1e-2


@dataclass(frozen=True)
class StatusModel:
    """A trained model: the weights of the hidden layer [d, h], its offsets [h], those of the last layer [h]."""

    weights: torch.Tensor
    offsets: torch.Tensor
    last: torch.Tensor

    def odds(self, embedded: torch.Tensor) -> torch.Tensor:
        """Return the log odds that a text, [tokens, d], is of the first group."""
        return (torch.tanh(embedded @ self.weights + self.offsets) @ self.last).mean()

    def gradient(self, embedded: torch.Tensor, *, of_odds: bool) -> torch.Tensor:
        """Return the gradient of the log odds, or of the probability, in the embeddings of a text, [tokens, d]."""
        inside = embedded.detach().clone().requires_grad_(True)
        odds = self.odds(inside)
        (found,) = torch.autograd.grad(odds if of_odds else torch.sigmoid(odds), inside)
        return found

    def accuracy(self, texts: Sequence[torch.Tensor], first: BoolArray) -> float:
        """Return how often it tells the group of a text."""
        with torch.no_grad():
            told = [bool(self.odds(each) > 0) for each in texts]
        return sum(a == bool(b) for a, b in zip(told, first, strict=True)) / max(1, len(texts))


def train_status_model(texts: Sequence[torch.Tensor], first: BoolArray, *, seed: int) -> StatusModel:
    """Train on embedded texts, [tokens, d] each, and which of them are of the first group."""
    make = torch.Generator().manual_seed(seed)
    scale = float(torch.cat(list(texts)).std()) or 1.0
    d = texts[0].shape[1]
    weights = torch.randn(d, _HIDDEN, generator=make) / (scale * d**0.5)
    offsets, last = torch.zeros(_HIDDEN), torch.randn(_HIDDEN, generator=make) / _HIDDEN**0.5
    parts = [each.requires_grad_(True) for each in (weights, offsets, last)]
    optimizer = torch.optim.AdamW(parts, lr=_RATE, weight_decay=_DECAY)
    owner = torch.cat([torch.full((len(each),), i) for i, each in enumerate(texts)])
    stacked, aims = torch.cat(list(texts)), torch.tensor(first, dtype=torch.float32)
    counts = torch.bincount(owner, minlength=len(texts)).float()
    for _ in range(_PASSES):
        for rows in torch.split(torch.randperm(len(texts), generator=make), _BATCH):
            chosen = torch.isin(owner, rows)
            place = torch.full((len(texts),), -1).scatter(0, rows, torch.arange(len(rows)))
            each = torch.tanh(stacked[chosen] @ weights + offsets) @ last
            sums = torch.zeros(len(rows)).index_add(0, place[owner[chosen]], each)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(sums / counts[rows], aims[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return StatusModel(*(each.detach() for each in parts))
