"""Scores of label canaries: one of each for an adversary of all updates, of the final weights, and of a black box.

The weights tell how far a canary's own row moved along what its text puts into the last layer at the end. Answers rank
by that too, so that both show the same; what else the rows hold is what users' rows and the noise did to them. No other
direction was found to tell more: that of the first model, of a mean of both, and that in which canaries differ most
lose as much as all where training moved the body.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from redteam.core.arrays import FloatArray
from redteam.data.label_canaries import ANSWERS, UPDATES, WEIGHTS
from redteam.models.label_rows import BIAS


def scores_by_adversary(
    updates: Sequence[float], rows: Mapping[str, Tensor], now: Tensor, users: Tensor
) -> dict[str, FloatArray]:
    """Return one score a canary for each adversary, higher meaning "was in".

    `rows` are the canaries' own rows, `weight` [m, d] and `bias` [m]; `now` is what the last layer reads of their
    example at the end [d], `users` the scores of the users' labels there.
    """
    own = rows["weight"].double() @ now.double() + rows["bias"].double()
    everybody = users.double().logsumexp(0).logaddexp(own.logsumexp(0))
    return {UPDATES: np.array(updates), WEIGHTS: (own - BIAS).numpy(), ANSWERS: (own - everybody).numpy()}
