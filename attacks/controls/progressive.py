"""Folds for progressive cross-validation: fold k is scored by what was learned from folds 1 to k-1."""

import numpy as np
import numpy.typing as npt

from redteam.core import DataError
from redteam.core.arrays import BoolArray

FOLDS = 5
MOST = 50_000  # texts that are looked at: enough to see an AUC of 0.51, and minutes faster than a million


def sample(is_member: BoolArray, seed: int) -> npt.NDArray[np.int64]:
    """Return the positions that are looked at: all, or 50,000 drawn at random."""
    if len(is_member) <= MOST:
        return np.arange(len(is_member))
    return np.sort(np.random.default_rng([seed, 900]).choice(len(is_member), MOST, replace=False))


def deal(is_member: BoolArray, seed: int) -> list[npt.NDArray[np.int64]]:
    """Deal members and non-members out to the folds evenly, in random order; DataError where a fold would lack one."""
    if min(is_member.sum(), (~is_member).sum()) < FOLDS:
        raise DataError(f"the control needs at least {FOLDS} examples of either side")
    random = np.random.default_rng([seed, 901])
    sides = [random.permutation(np.nonzero(side)[0]) for side in (is_member, ~is_member)]
    return [np.concatenate([side[k::FOLDS] for side in sides]) for k in range(FOLDS)]
