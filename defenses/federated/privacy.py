"""Differential privacy for whole clients: bounded sums, noise, and what each client is really promised.

In each round every client k takes part by itself with chance q_k (`Selection.inclusion`), its update is clipped to norm
C and counts w_k <= 1, and normal noise of deviation z C goes onto the sum before it is divided by the public constant
sum_k q_k w_k and before any server optimiser sees it. What one client can move is w_k C, whatever the others do: its
round is a Poisson-subsampled Gaussian of rate q_k and noise multiplier z / w_k (McMahan et al. 2018, arXiv 1710.06963,
for equal q and w). Between what neighbours: a client's updates are replaced by none, while the number of clients and
their sizes, from which q and w follow, are taken as public.

Two things that go wrong elsewhere. Weighing by rows: noise z C / m on a mean in which one client counts for almost all
leaves that client z / m, ten times less for ten clients. And one rate for all: who has more rows is chosen more often,
so that the epsilon of the average client is nobody's guarantee; the guarantee here is the worst client's.

The clip can follow a quantile of the norms (Andrew et al. 2021, arXiv 1905.03871). How many clients lie below it is
told with noise of its own, and both are accounted for together: z^-2 = z_sum^-2 + (2 s)^-2 for noise of deviation s on
counts of +-1/2.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from defenses.accounting import Phase, Release, budget, spent, spent_rdp
from defenses.edpsgd.noise import NoiseSource
from defenses.federated.aggregation import Collected
from defenses.federated.local import RoundTask
from defenses.federated.updates import Update, flat, unflat
from redteam.core.arrays import FloatArray
from redteam.report.values import Budget, Guarantee

NEIGHBOURS = "replace one client by one that sends nothing"


@dataclass(frozen=True)
class Participation:
    """How much clients take part: chances q and weights w in each period, [periods, clients], of `rounds` rounds."""

    chances: FloatArray
    weights: FloatArray
    rounds: int

    def period(self, number: int) -> int:
        """Return the period of a round, both counted from 0."""
        return number // self.rounds

    def divisor(self, number: int) -> float:
        """Return the expected weight of a round's clients, which sums are divided by."""
        period = self.period(number)
        return float((self.chances[period] * self.weights[period]).sum())

    def releases(self, client: int, noise: float) -> list[Release]:
        """Return what a client's updates go through at noise multiplier `noise`; nothing where it never takes part."""
        found = []
        for q, w in zip(self.chances[:, client], self.weights[:, client], strict=True):
            if q > 0 and w > 0:
                found.append(Release((Phase(noise / float(w), self.rounds),), "poisson", float(q)))
        return found

    def worst(self, noise: float) -> Release:
        """Return a release that no client's exceed: the largest chance and weight of all, in every round.

        In one period that is the largest client's own, since chances and weights both grow with its rows.
        """
        steps = self.rounds * len(self.chances)
        q, w = float(self.chances.max()), float(self.weights[self.chances > 0].max())
        return Release((Phase(noise / w, steps),), "poisson", q)

    def uniform(self, noise: float) -> Release:
        """Return how the training would read if all clients were chosen alike and counted alike."""
        q = float(self.chances.sum(axis=1).mean() / self.chances.shape[1])
        return Release((Phase(noise, self.rounds * len(self.chances)),), "poisson", q)

    def epsilons(self, noise: float, delta: float) -> tuple[float, float]:
        """Return the epsilon of the worst client and of the median one."""
        ranked = sorted(range(self.chances.shape[1]), key=lambda k: self._rank(k, noise, delta))
        median = self.releases(ranked[(len(ranked) - 1) // 2], noise)
        return spent([self.worst(noise)], delta=delta), spent(median, delta=delta) if median else 0.0

    def _rank(self, client: int, noise: float, delta: float) -> float:
        """Order clients by their protection: by rate and weight in one period, by Rényi accounting over several."""
        if len(self.chances) == 1:
            return float(self.chances[0, client] * self.weights[0, client])
        releases = self.releases(client, noise)
        return spent_rdp(releases, delta=delta) if releases else 0.0

    def guarantee(self, noise: float, *, delta: float, runs: int) -> Guarantee | None:
        """Return what is promised to every client; the nominal is what equal chances would give. None without noise."""
        nominal = budget([self.uniform(noise)] * runs, delta=delta, unit="client")
        accounted = budget([self.worst(noise)] * runs, delta=delta, unit="client")
        if nominal is None or accounted is None:
            return None
        return Guarantee(_for_clients(nominal), _for_clients(accounted))


def _for_clients(found: Budget) -> Budget:
    return replace(found, neighbouring=NEIGHBOURS)


@dataclass(frozen=True)
class AdaptiveClip:
    """The quantile of norms that the clip follows, how fast, and the deviation of the noise on the count below it."""

    quantile: float
    rate: float
    noise: float

    def of_the_sum(self, noise: float) -> float:
        """Return the noise multiplier of the sum, where that of sum and count together is `noise`."""
        left = noise**-2 - (2 * self.noise) ** -2
        return left**-0.5 if left > 0 else math.inf


@dataclass
class PrivateMean:
    """The noisy mean of clipped updates; the divisor is public. `norm`, the clip, changes where it is adaptive."""

    source: NoiseSource
    norm: float
    noise_multiplier: float
    taking_part: Participation
    adaptive: AdaptiveClip | None = None

    def clip(self) -> float | None:
        """Return the clip of the next round."""
        return self.norm

    def shares(self, number: int, chosen: Sequence[int], weights: FloatArray) -> Mapping[int, float]:
        """Return how much clients count: what is accounted for, whatever the weights."""
        own = self.taking_part.weights[self.taking_part.period(number)]
        return {k: float(own[k]) for k in chosen}

    def mean(self, found: Collected, task: RoundTask) -> Update | None:
        """Add the noise of a round to the sum, whatever came, and divide; adapt the clip for the next round."""
        vector, clip = flat(found.total), self.norm
        sigma = self.noise_multiplier if self.adaptive is None else self.adaptive.of_the_sum(self.noise_multiplier)
        # Noise is drawn by what it hides: a round that is done again and comes out otherwise gets other noise.
        hidden = vector.numpy().tobytes() + repr((found.below, clip)).encode()
        self.source.history = hashlib.blake2b(hidden, digest_size=32).digest()
        noise = torch.empty(len(vector))
        self.source.fill(noise, sigma * clip, step=task.round)
        if self.adaptive is not None:
            self._adapt(found.below, task)
        return unflat((vector + noise) / self.taking_part.divisor(task.round), task.weights)

    def kept(self) -> dict[str, Any]:
        """Return what a training that is broken off needs of this: the clip as it is now."""
        return {"clip": self.norm}

    def take(self, kept: dict[str, Any]) -> None:
        """Go on with what was kept."""
        self.norm = float(kept["clip"])

    def _adapt(self, below: float, task: RoundTask) -> None:
        assert self.adaptive is not None
        noise = torch.empty(1)
        self.source.history += b"count"
        self.source.fill(noise, self.adaptive.noise, step=task.round)
        share = (below + float(noise)) / self.taking_part.divisor(task.round) + 0.5
        self.norm *= math.exp(-self.adaptive.rate * (min(max(share, 0.0), 1.0) - self.adaptive.quantile))


def capped(sizes: FloatArray, cap: int | None) -> FloatArray:
    """Return how much each client counts: 1, or min(n, cap) / cap; 0 for who has nothing."""
    there = sizes > 0
    return np.where(there, 1.0 if cap is None else np.minimum(sizes, cap) / cap, 0.0)
