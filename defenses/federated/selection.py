"""Which clients take part in a round, by how much data they have, and how much each then counts.

Dupuy et al. ("Learnings from federated learning in the real world", ICASSP 2022, arXiv 2202.03925) choose devices by
their number of interactions: few heavy devices have most of the data, and rounds without them are half wasted. With
s_k the weight of client k, which has n_k rows:

    uniform        s_k = 1              proportional   s_k = n_k         power   s_k = n_k^exponent
    log            s_k = log(1 + n_k)   top            the largest       threshold   s_k = 1 where n_k >= threshold

A round of m clients is drawn without replacement by Gumbel's trick: the m largest of log s_k + G_k. Private training
needs independent draws instead (`inclusion`). Clients without rows are never chosen.

What is minimised in the end is the sum of the clients' losses with weights (chance to be chosen) * (weight in the
mean). The matching weight is therefore n_k / s_k, which gives every row the same say whatever the rule; weighing by
n_k what was already chosen by n_k counts heavy clients twice.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from redteam.core import DataError, UsageError
from redteam.core.arrays import FloatArray, IntArray

SelectionRule = Literal["uniform", "proportional", "power", "log", "top", "threshold"]
WeightRule = Literal["matching", "sizes", "equal"]


@dataclass(frozen=True)
class Selection:
    """A rule, with its number: `exponent` of power, `threshold` in rows."""

    rule: SelectionRule = "uniform"
    exponent: float = 0.5
    threshold: int = 1

    def scores(self, sizes: IntArray) -> FloatArray:
        """Return s_k of clients with so many rows, float64 [clients]; 0 for who is never chosen."""
        n = sizes.astype(np.float64)
        with np.errstate(divide="ignore"):
            scores = {
                "uniform": np.ones_like(n),
                "proportional": n,
                "power": n**self.exponent,
                "log": np.log1p(n),
                "top": np.ones_like(n),
                "threshold": (n >= self.threshold).astype(np.float64),
            }[self.rule]
        found: FloatArray = np.where(n > 0, scores, 0.0)
        return found

    def eligible(self, sizes: IntArray, count: int) -> IntArray:
        """Return the clients that can be chosen at all; DataError where there is none."""
        found = np.flatnonzero(self.scores(sizes) > 0)
        if not len(found):
            most = f"of {len(sizes):,} clients none has {self.threshold:,} rows" if self.rule == "threshold" else ""
            raise DataError(f"selection {self.rule}: no client can be chosen; {most or 'all are without rows'}")
        if self.rule == "top":
            largest = np.argsort(-sizes[found], kind="stable")[:count]
            return np.sort(found[largest])
        return found

    def draw(self, sizes: IntArray, count: int, rng: np.random.Generator) -> IntArray:
        """Return `count` clients without replacement, or as many as can be chosen, in ascending order."""
        found = self.eligible(sizes, count)
        keys = np.log(self.scores(sizes)[found]) + rng.gumbel(size=len(found))
        return np.sort(found[np.argsort(-keys, kind="stable")[:count]])

    def inclusion(self, sizes: IntArray, count: int) -> FloatArray:
        """Return each client's chance to enter a round by itself, which add up to `count`: min(1, t s_k); [clients].

        As private training chooses them, each independently of all others.
        """
        found = self.eligible(sizes, count)
        scores = np.zeros(len(sizes))
        scores[found] = self.scores(sizes)[found]
        chances = np.zeros(len(sizes))
        wanted, certain = float(min(count, len(found))), np.zeros(len(sizes), dtype=np.bool_)
        while True:
            rest = (scores > 0) & ~certain
            room = wanted - certain.sum()
            if not rest.any() or room <= 0:
                break
            chances = np.where(rest, scores * (room / scores[rest].sum()), np.where(certain, 1.0, 0.0))
            over = rest & (chances >= 1)
            if not over.any():
                break
            certain |= over
        return np.minimum(np.where(certain, 1.0, chances), 1.0)

    def weights(self, rule: WeightRule, sizes: IntArray) -> FloatArray:
        """Return how much each client's update counts in a round's mean, before they are made to add up to 1."""
        n = sizes.astype(np.float64)
        if rule == "equal":
            return (n > 0).astype(np.float64)
        if rule == "sizes":
            return n
        scores = self.scores(sizes)
        return np.divide(n, scores, out=np.zeros_like(n), where=scores > 0)

    def warning(self, rule: WeightRule) -> str | None:
        """Say where heavy clients count twice."""
        if rule == "sizes" and self.rule in ("proportional", "power", "log"):
            return (
                f"selection {self.rule} prefers clients with many rows and aggregation sizes counts them by their rows "
                "once more; aggregation matching counts every row alike"
            )
        return None


def check_count(count: int | None, clients: int, usual: int) -> int:
    """Return how many clients a round takes [default: `usual`, or all]; UsageError for more than there are."""
    if count is None:
        return min(usual, clients)
    if not 1 <= count <= clients:
        raise UsageError(f"clients_per_round {count:,}: there are {clients:,} clients; take 1 to {clients:,}")
    return count
