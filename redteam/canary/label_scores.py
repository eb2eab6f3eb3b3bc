"""Scores of label canaries: one of each for an adversary of all updates, of the final weights, and of a black box."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from redteam.core.arrays import FloatArray
from redteam.data.label_canaries import ANSWERS, UPDATES, WEIGHTS


def scores_by_adversary(
    updates: Sequence[float], rows: Mapping[str, Tensor], now: Tensor, users: Tensor
) -> dict[str, FloatArray]:
    """Return one score a canary for each adversary, higher meaning "was in".

    `rows` are the canaries' own rows, `weight` [m, d] and `bias` [m], and `before`, what the last layer of the initial
    model read of their example [d]. `now` is what it reads at the end, `users` the scores of the users' labels there.
    """
    weight, bias = rows["weight"].double(), rows["bias"].double()
    before, now = rows["before"].double(), now.double()
    own = weight @ now + bias
    whole = torch.cat([users.double(), own])
    moved = torch.cat([weight, bias[:, None]], dim=1)
    moved = moved - moved.mean(dim=0)  # what all rows have in common tells nothing
    ways = [torch.cat([each, torch.ones(1, dtype=torch.float64)]) for each in (before, now)]
    way = torch.stack([each / each.norm() for each in ways]).sum(dim=0)
    return {
        UPDATES: np.array(updates),
        WEIGHTS: (moved @ way).numpy(),
        ANSWERS: (own - whole.logsumexp(0)).numpy(),
    }
