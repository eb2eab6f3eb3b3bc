"""Scores of label canaries: one of each for an adversary of all updates, of the final weights, and of a black box."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from redteam.core.arrays import FloatArray
from redteam.data.label_canaries import ANSWERS, UPDATES, WEIGHTS
from redteam.models.label_rows import BIAS

_CLEAR = 3.0  # standard errors of a variance
_ONE_WAY = 1e-6  # of a direction: the body is frozen


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
    centred = moved - moved.mean(dim=0)
    return {
        UPDATES: np.array(updates),
        WEIGHTS: (centred @ _way(centred, before, now)).numpy(),
        ANSWERS: (own - whole.logsumexp(0)).numpy(),
    }


def _way(centred: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """Return along which direction those that are in moved: in the plane of what the layer read at first and what it
    reads now, that in which canaries differ most, as half of them are in; who is in enters nowhere.

    Where they do not clearly differ more along another it is what the layer reads now, along which answers rank too.
    Their mean move would not tell: users' rows push all canaries alike.
    """
    ends = torch.stack([torch.cat([each, each.new_ones(1)]) for each in (now, before)])
    ends = ends / ends.norm(dim=1, keepdim=True)
    last: Tensor = ends[0]
    other = ends[1] - (ends[1] @ last) * last
    if float(other.norm()) < _ONE_WAY:
        return last
    basis = torch.stack([last, other / other.norm()])
    along = centred @ basis.T
    spread = along.T @ along / len(along)
    spread[0, 0] += _CLEAR * math.sqrt(2 / len(along)) * float(spread.diagonal().min())
    way: Tensor = torch.linalg.eigh(spread)[1][:, -1] @ basis
    return way if float(way @ ends.sum(dim=0)) > 0 else -way
