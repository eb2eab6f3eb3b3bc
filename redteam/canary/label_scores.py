"""Scores of label canaries: one of each for an adversary of all updates, of the final weights, and of a black box."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from redteam.core.arrays import FloatArray
from redteam.data.label_canaries import ANSWERS, UPDATES, WEIGHTS
from redteam.models.label_rows import BIAS


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
    moved = torch.cat([weight, bias[:, None] - BIAS], dim=1)
    return {
        UPDATES: np.array(updates),
        WEIGHTS: ((moved - moved.mean(dim=0)) @ _way(moved, before, now)).numpy(),
        ANSWERS: (own - whole.logsumexp(0)).numpy(),
    }


def _way(moved: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """Return along which direction those that are in moved: between what the layer read at first and what it reads now.

    How much of either, the mean move of all canaries tells: half of them are in, the noise of all cancels out, and who
    is in enters nowhere.
    """
    ends = torch.stack([torch.cat([each, each.new_ones(1)]) for each in (before, now)])
    ends = ends / ends.norm(dim=1, keepdim=True)
    parts = (torch.linalg.pinv(ends.T) @ moved.mean(dim=0)).clamp(min=0.0)
    way: Tensor = (parts if bool(parts.any()) else torch.ones_like(parts)) @ ends
    return way
