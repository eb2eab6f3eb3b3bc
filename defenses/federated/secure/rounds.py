"""A round of secure aggregation: clients that mask what they send, and a sum that takes masks off.

`Masked` stands around an engine of this process, on the clients' side; `SecureSum` is all that the server does. What
passes between them is what travels to clients elsewhere (`flower.masking`): public keys, sealed shares, masked vectors,
shares of those who stayed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from defenses.federated.aggregation import Collected, add_contribution, checked
from defenses.federated.engines import Engine
from defenses.federated.local import ClientAnswer, RoundTask
from defenses.federated.secure import keys
from defenses.federated.secure.coordinator import Coordinator, graph_of, threshold_of
from defenses.federated.secure.field import RANGE, as_field, as_tensor, decode, encode, is_field
from defenses.federated.secure.participants import Participant
from defenses.federated.updates import flat, unflat, zeros_like
from redteam.core.arrays import FloatArray, IntArray

_FEWEST = 3  # clients of a round: of two, each knows the other one from the sum
_EXTRAS = 2  # entries after those of the update: is it within the clip, and the loss
MASKED = "masked"  # the only name in what a client sends


class MaskingClients(Protocol):
    """Clients of rounds under masks, wherever they are."""

    def begin(self, task: RoundTask, clients: Sequence[int]) -> Coordinator:
        """Exchange keys and sealed shares between the clients of a round; return the server of it."""

    def reveal(self, arrived: Sequence[int], lost: Sequence[int]) -> Mapping[int, Mapping[int, bytes]]:
        """Ask each client that arrived for its shares of the others' secrets."""


@dataclass
class Masked:
    """An engine whose clients mask their updates; `participants` are the clients of the round under way."""

    engine: Engine
    participants: dict[int, Participant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError where a library is missing."""
        keys.check_installed()

    def begin(self, task: RoundTask, clients: Sequence[int]) -> Coordinator:
        """Exchange keys and sealed shares between the clients of a round; return the server of it."""
        self.participants = {k: Participant(k) for k in clients}
        public = {k: each.advertise() for k, each in self.participants.items()}
        graph = graph_of(clients, task.seed + task.round)
        sent = {}
        for k, each in self.participants.items():
            near = {other: public[other] for other in graph[k]}
            sent[k] = each.share(near, threshold_of(len(near)))
        for k, each in self.participants.items():
            each.receive({other: sent[other][k] for other in graph[k]})
        return Coordinator(graph, public)

    def answers(self, task: RoundTask, clients: Sequence[int], holders: Sequence[IntArray]) -> Iterator[ClientAnswer]:
        """Yield what clients send: their contributions under masks, and nothing else of them."""
        for answer in self.engine.answers(task, clients, holders):
            yield masked(answer, task, len(clients), self.participants[answer.client])

    def reveal(self, arrived: Sequence[int], lost: Sequence[int]) -> Mapping[int, Mapping[int, bytes]]:
        """Ask each client that arrived for its shares of the others' secrets."""
        return {k: self.participants[k].reveal(arrived, lost) for k in arrived}

    def kept(self, rounds: int) -> None:
        """Tell the engine."""
        self.engine.kept(rounds)

    def close(self) -> None:
        """End what the engine started."""
        self.engine.close()


def masked(answer: ClientAnswer, task: RoundTask, clients: int, own: Participant) -> ClientAnswer:
    """Return a client's answer as it leaves the client, in a round of so many clients."""
    answer = checked(answer, task)
    if answer.update is None:
        return answer
    encoded = encode(contribution(answer, task), clients)
    if encoded is None:
        return replace(answer, update=None, failure=f"has an update with entries beyond {RANGE:g}")
    return ClientAnswer(answer.client, {MASKED: as_tensor(own.mask(encoded))}, answer.rows)


def contribution(answer: ClientAnswer, task: RoundTask) -> FloatArray:
    """Return what a client adds to the sum, [d + 2]: its clipped, weighed update; is it in the clip; its loss."""
    assert answer.update is not None
    share, total = task.shares[answer.client], zeros_like(task.weights)
    below = add_contribution(total, answer.update, share, task.clip)
    loss = share * min(max(answer.loss, 0.0), RANGE) if np.isfinite(answer.loss) else 0.0
    return np.concatenate([flat(total).double().numpy(), [below, loss]])


@dataclass
class SecureSum:
    """The server's side: it adds masked vectors, asks who stayed for shares, and learns the sum."""

    clients: MaskingClients

    def collect(self, task: RoundTask, answers: Iterator[ClientAnswer]) -> Collected:
        """Return the sum of a round; raise RedteamError where too few clients stayed to take the masks off."""
        chosen = sorted(task.shares)
        found = Collected(zeros_like(task.weights))
        if len(chosen) < _FEWEST:
            found.failed = dict.fromkeys(chosen, f"was not asked: a sum hides one among {_FEWEST} or more")
            return found
        server = self.clients.begin(task, chosen)
        size = sum(value.numel() for value in task.weights.values()) + _EXTRAS
        for answer in answers:
            if answer.update is not None and not is_field(answer.update.get(MASKED), size):
                answer = replace(answer, update=None, failure="sent something else than its update under masks")
            if answer.update is None:
                found.failed[answer.client] = answer.failure
                continue
            server.add(answer.client, as_field(answer.update[MASKED]))
            found.counted.append(answer.client)
            found.rows += answer.rows
        if not server.arrived:
            return found
        total = decode(server.unmask(self.clients.reveal(server.arrived, server.lost)), len(chosen))
        *vector, found.below, loss = total.tolist()
        found.total = unflat(torch.tensor(vector, dtype=torch.float32), task.weights)
        found.loss = loss / (sum(task.shares[k] for k in found.counted) or 1.0)
        return found
