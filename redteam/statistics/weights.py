"""The AUC under random weights: its quantiles far out in the tail, by importance sampling with a fixed seed.

Members get weights that are uniform on the simplex, together with one more member that scores below everybody;
non-members get such weights too. A quantile of the AUC so weighted is Gaffke's (2005) lower bound, for two samples. It
has no closed form, and what matters lies where one draw in a million falls.

So the weights are drawn where a low AUC is likely, and each draw counts as often as it should have come. Uniform
weights are gamma variables over their sum; scaled by s, they have the density of the plain ones times
prod(s^-g) / (sum of weights / s)^G, with g the examples of each score and G all of them. The scales are the likeliest
weights that bring the AUC down to some value, which are those of empirical likelihood (A. Owen, Biometrika 75, 1988).
A ladder of such values leads from the middle to 7 deviations. All draws serve all levels, by the balance heuristic
(E. Veach, L. Guibas, SIGGRAPH 1995), so that a smaller level never has the higher quantile.
"""

import math
from collections.abc import Iterator

import numpy as np

from redteam.statistics.ranking import Counts, Floats

SMALLEST = 1e-12  # of all levels that the ladder reaches: the last rung is at 2e-13

_RUNGS = (2.0, 2.7, 3.4, 4.2, 5.0, 6.0, 7.3)  # in standard deviations of a normal, by the root of the deviance
_CELLS = 64  # to which scores are joined
_FEWEST_DRAWS, _MOST_DRAWS, _NUMBERS = 400, 1500, 60_000  # on a rung; the last in all of them
_TRIES, _ROUNDS = 3, 5  # a rung need not be met exactly: any scales give the right answer


def joined(members: Counts, nonmembers: Counts) -> tuple[Counts, Counts]:
    """Return the counts by score with neighbours joined as if they tied, until some 64 scores are left.

    Members with no non-member between them are the same to the AUC, so they are joined for nothing. Of the rest a cell
    takes up equal amounts of the cube root of the variance that it blurs, as the best step function does. What is far
    from its neighbours stays apart.
    """
    members, nonmembers = _cells(members, nonmembers, _runs(members, nonmembers))
    if len(members) <= _CELLS + 1:  # one more has as many steps as there are cells: each is alone
        return members, nonmembers
    m, n = members / members.sum(), nonmembers / nonmembers.sum()
    m, n = m[1:] + m[:-1], n[1:] + n[:-1]  # of each pair of neighbours
    blurred = np.cbrt(m * n**2 / members.sum() + n * m**2 / nonmembers.sum())
    alone = np.zeros(len(blurred), dtype=np.bool_)  # steps that are a cell by themselves
    while True:
        size = float(blurred[~alone].sum()) / (_CELLS - int(alone.sum()))
        more = ~alone & (blurred > size)
        if not more.any():
            break
        alone |= more
    place = np.cumsum(np.minimum(blurred / size, 1.0))
    return _cells(members, nonmembers, np.append(0, np.floor(place)))


def _runs(members: Counts, nonmembers: Counts) -> Counts:
    """Number the runs of members alone and of non-members alone; a score that both have is a run by itself."""
    kind = np.sign(members) - np.sign(nonmembers)
    return np.cumsum(np.append(0, (kind[1:] != kind[:-1]) | (kind[1:] == 0)))


def _cells(members: Counts, nonmembers: Counts, cell: Counts | Floats) -> tuple[Counts, Counts]:
    """Return the counts added up where neighbours have the same cell."""
    first = np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))
    return np.add.reduceat(members, first), np.add.reduceat(nonmembers, first)


def weighted_quantile(members: Counts, nonmembers: Counts, level: float, *, seed: int = 0) -> float:
    """Return the `level` quantile of the weighted AUC, a lower bound on the population's with that error.

    `members` and `nonmembers` are counts by score, from high to low, shape (scores,). 0 for levels below 1e-12.
    """
    if level < SMALLEST:
        return 0.0
    one, other = np.append(members, 1).astype(np.float64), np.append(nonmembers, 0).astype(np.float64)
    scales = [(np.ones_like(one), np.ones_like(other)), *_ladder(one, other)]
    draws = min(_MOST_DRAWS, max(_FEWEST_DRAWS, _NUMBERS // (2 * len(one))))
    first, logs_first = _weights(one, np.array([s for s, _ in scales]), draws, np.random.default_rng([seed, 1]))
    second, logs_second = _weights(other, np.array([s for _, s in scales]), draws, np.random.default_rng([seed, 2]))
    found = (first * _share_below(second)).sum(axis=1)
    logs = logs_first + logs_second
    most = logs.max(axis=1)
    counts = np.exp(-most) / np.exp(logs - most[:, None]).mean(axis=1)
    order = np.argsort(found)
    reached = int(np.searchsorted(np.cumsum(counts[order]) / len(found), level))
    return float(found[order[reached - 1]]) if reached else 0.0


def _share_below(nonmembers: Floats) -> Floats:
    """Return for each score the weight of the non-members below it, half of those level; along the last axis."""
    below: Floats = nonmembers.sum(axis=-1, keepdims=True) - np.cumsum(nonmembers, axis=-1) + nonmembers / 2
    return below


def _weights(sizes: Floats, scales: Floats, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return weights drawn from each rung, shape (rungs x draws, scores), and the log of each rung's density at them.

    Densities are over that of uniform weights, shape (rungs x draws, rungs).
    """
    made = rng.standard_gamma(sizes, (len(scales), draws, len(sizes))) * scales[:, None, :]
    weights = made.reshape(-1, len(sizes))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights, -np.log(scales) @ sizes - sizes.sum() * np.log(weights @ (1 / scales).T)


def _ladder(one: Floats, other: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield the scales of each rung, for both sides."""
    shares = one / one.sum(), other / other.sum()
    over, under = _share_below(shares[1]), np.cumsum(shares[0]) - shares[0] / 2
    auc = float(shares[0] @ over)
    spread = shares[0] @ (over - auc) ** 2 / one.sum() + shares[1] @ (under - auc) ** 2 / other.sum()
    pull = _RUNGS[0] / math.sqrt(max(spread, 1e-12))
    for rung in _RUNGS:
        for _ in range(_TRIES):
            first, second = _tilted(one, other, pull)
            deviance = -2 * float(one @ np.log(first) + other @ np.log(second))
            ratio = rung / math.sqrt(max(deviance, 1e-6))
            if abs(ratio - 1) < 0.05:
                break
            pull *= min(4.0, max(0.25, ratio))
        yield first, second


def _tilted(one: Floats, other: Floats, pull: float) -> tuple[Floats, Floats]:
    """Return the scales of the likeliest weights for an AUC that is pulled down, nearly."""
    first, second = np.ones_like(one), np.ones_like(other)
    auc = math.inf
    for _ in range(_ROUNDS):
        first = _pulled(one, pull * _share_below(second * other / other.sum()))
        weight = first * one / one.sum()
        under = np.cumsum(weight) - weight / 2
        second = _pulled(other, pull * under)
        before, auc = auc, float(second * other / other.sum() @ under)
        if abs(auc - before) < 1e-3 * auc:
            break
    return first, second


def _pulled(sizes: Floats, cost: Floats) -> Floats:
    """Return the scales G / (x + cost) for which weights sum to 1, the least cost taken as 0."""
    there = sizes > 0
    cost, total = cost - cost[there].min(), float(sizes.sum())
    x = float(sizes[there & (cost <= 0)].sum())  # where the sum is 1 or more: from there Newton's steps only rise
    own, dear, add = sizes[there], cost[there], np.add.reduce
    for _ in range(30):
        over = x + dear
        shares = own / over
        step = (float(add(shares)) - 1) / float(add(shares / over))
        x += step
        if step <= 1e-5 * x:
            break
    return np.where(there, total / (x + np.maximum(cost, 0.0)), 1.0)
