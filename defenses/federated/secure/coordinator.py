"""What the server does in a round of secure aggregation: relay keys and shares, add masked vectors, take masks off."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from defenses.federated.secure import keys
from defenses.federated.secure.field import Field, add, subtract
from defenses.federated.secure.participants import PublicKeys
from redteam.core import RedteamError

_COMPLETE = 16  # clients up to which all are neighbours


def degree_of(clients: int) -> int:
    """Return with how many others a client shares: all, or of many some 6 log2, as SecAgg+ does."""
    if clients <= _COMPLETE:
        return clients - 1
    return min(clients - 1, 2 * (3 * math.ceil(math.log2(clients)) // 2))


def graph_of(clients: Sequence[int], seed: int) -> dict[int, tuple[int, ...]]:
    """Return the neighbours of each client: on a circle in random order, those within half the degree."""
    order = [clients[i] for i in np.random.default_rng(seed).permutation(len(clients))]
    count, half = len(order), degree_of(len(order)) / 2
    reach = [step for step in range(1, count) if min(step, count - step) <= math.ceil(half)]
    return {each: tuple(sorted(order[(at + step) % count] for step in reach)) for at, each in enumerate(order)}


def threshold_of(neighbours: int) -> int:
    """Return how many neighbours must stay for a client's masks to be taken off: more than half."""
    return max(2, neighbours // 2 + 1)


@dataclass
class Coordinator:
    """The server of one round; it holds public keys, sealed shares and one running sum of masked vectors."""

    graph: Mapping[int, tuple[int, ...]]
    public: dict[int, PublicKeys]
    total: Field | None = None
    arrived: list[int] = field(default_factory=list)

    def add(self, client: int, masked: Field) -> None:
        """Add what a client sent, and forget it."""
        if self.total is None:
            self.total = np.zeros_like(masked)
        add(self.total, masked)
        self.arrived.append(client)

    @property
    def lost(self) -> list[int]:
        """Who shared secrets and sent nothing."""
        return [client for client in self.graph if client not in self.arrived]

    def unmask(self, revealed: Mapping[int, Mapping[int, bytes]]) -> Field:
        """Return the sum without masks; `revealed` are the shares of each client that arrived.

        Raises RedteamError where too few clients stayed.
        """
        assert self.total is not None
        for client in self.arrived:
            seed = self._secret(client, revealed)
            subtract(self.total, keys.mask(keys.derive(seed, b"own mask"), len(self.total)))
        for client in self.lost:
            stayed = [other for other in self.graph[client] if other in self.arrived]
            if not stayed:
                continue  # nobody that arrived has a mask with it
            private = self._secret(client, revealed)
            for other in stayed:  # what `other` added for the pair
                mask = keys.mask(keys.agree(private, self.public[other].masks, b"pairwise mask"), len(self.total))
                (subtract if other < client else add)(self.total, mask)
        return self.total

    def _secret(self, client: int, revealed: Mapping[int, Mapping[int, bytes]]) -> bytes:
        holders, needed = self.graph[client], threshold_of(len(self.graph[client]))
        shares = {other: revealed[other][client] for other in holders if client in revealed.get(other, {})}
        if len(shares) < needed:
            raise RedteamError(
                f"secure aggregation: {len(shares)} of {len(holders)} clients stayed that could take the masks of one "
                f"off, and {needed} are needed: the round cannot be added up"
            )
        return keys.put_together(dict(list(shares.items())[:needed]), list(holders))
