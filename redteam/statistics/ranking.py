"""Scores sorted once: all that the statistics of a signal need, whatever the number of metrics."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from redteam.core import StatisticsError

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_FEWEST = 2  # on either side: one example says nothing about its spread


@dataclass(frozen=True, eq=False)
class Ranking:
    """The distinct scores from high to low, and how many members and non-members have each.

    `scores`, `members` and `nonmembers` have shape (blocks,): examples with equal scores form one block.
    """

    scores: Floats
    members: Counts
    nonmembers: Counts
    n_members: int
    n_nonmembers: int


def rank(scores: npt.ArrayLike, is_member: npt.ArrayLike, *, may_tie: bool = False) -> Ranking:
    """Sort scores into a Ranking; a higher score says "member".

    `scores`: shape (n,), finite numbers. `is_member`: shape (n,), booleans or 0 and 1. Raises StatisticsError where the
    shapes differ, a score is NaN or infinite, fewer than two members or non-members are given, or all scores
    are equal and that is not said to be an answer (`may_tie`).
    """
    values, member = _floats("scores", scores), _mask(is_member)
    if len(values) != len(member):
        raise StatisticsError(f"{len(values)} scores but {len(member)} membership flags; give one flag for each score")
    _require_both(int(np.count_nonzero(member)), len(member))
    order = np.argsort(values)[::-1]  # which order ties have does not matter: they share a block
    values = values[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    if len(last) == 1 and not may_tie:
        raise StatisticsError(f"all {len(values)} scores are equal ({values[0]:g}); they rank nobody")
    above = np.cumsum(member[order], dtype=np.int64)[last]
    members = np.diff(above, prepend=0)
    sizes = np.diff(last + 1, prepend=0)
    n_members = int(above[-1])
    return Ranking(values[last], members, sizes - members, n_members, len(values) - n_members)


def finite_scores(name: str, scores: npt.ArrayLike, *, fewest: int = 1) -> Floats:
    """Return `scores` as floats of shape (n,); raise StatisticsError for NaN, infinity or fewer than
    `fewest`.
    """
    values = _floats(name, scores)
    if len(values) < fewest:
        raise StatisticsError(f"{name} holds {len(values)} values; at least {fewest} are needed")
    return values


def _floats(name: str, scores: npt.ArrayLike) -> Floats:
    array = np.asarray(scores)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise StatisticsError(
            f"{name} has shape {array.shape} and type {array.dtype}; give one real number for each example"
        )
    values = array.astype(np.float64, copy=False)
    bad = len(values) - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise StatisticsError(f"{bad} of {len(values)} {name} are NaN or infinite; the attack must give numbers")
    return values


def _mask(is_member: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    array = np.asarray(is_member)
    whole = array.dtype.kind in "iu" and bool(np.isin(array, (0, 1)).all())
    if array.ndim != 1 or not (array.dtype == np.bool_ or whole):
        raise StatisticsError(
            f"is_member has shape {array.shape} and type {array.dtype}; give True or False for each example"
        )
    return array.astype(np.bool_, copy=False)


def _require_both(members: int, total: int) -> None:
    for name, count in (("members", members), ("non-members", total - members)):
        if count < _FEWEST:
            raise StatisticsError(f"{count} {name} among {total} examples; at least {_FEWEST} are needed")
