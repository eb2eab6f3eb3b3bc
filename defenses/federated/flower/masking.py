"""Clients at Flower's nodes under masks, as the server's loop has them; `exchange` says what passes between."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from defenses.federated.flower.engine import OverFlower
from defenses.federated.flower.exchange import Parts, as_hex, as_text, from_hex, keys_of
from defenses.federated.local import ClientAnswer, RoundTask
from defenses.federated.secure import keys
from defenses.federated.secure.coordinator import Coordinator, graph_of, threshold_of
from defenses.federated.secure.participants import Participant
from defenses.federated.secure.rounds import masked
from redteam.core import RedteamError
from redteam.core.arrays import IntArray

Held = Mapping[int, Mapping[int, bytes]]


class MaskedNodes:
    """Clients of an engine at nodes, under masks."""

    def __init__(self, engine: OverFlower) -> None:
        """Raise UsageError where a library is missing."""
        keys.check_installed()
        self.engine = engine
        self.held: Held = {}  # sealed shares, by who they are for

    def begin(self, task: RoundTask, clients: Sequence[int]) -> Coordinator:
        """Exchange keys and sealed shares; RedteamError where a client does not take part in that."""
        public = {k: keys_of(said) for k, said in self._all("advertise", dict.fromkeys(clients)).items()}
        graph = graph_of(clients, task.seed + task.round)
        asked = {
            k: {"threshold": threshold_of(len(graph[k])), "keys": {o: as_text(public[o]) for o in graph[k]}}
            for k in clients
        }
        sent = {k: from_hex(said) for k, said in self._all("share", asked).items()}
        if any(set(sent[k]) != set(graph[k]) for k in clients):
            raise RedteamError("secure aggregation: a client shared its secrets with others than its neighbours")
        self.held = {k: {other: sent[other][k] for other in graph[k]} for k in clients}
        return Coordinator(graph, public)

    def answers(self, task: RoundTask, clients: Sequence[int], holders: Sequence[IntArray]) -> Iterator[ClientAnswer]:
        """Yield what clients send, which masked it themselves."""
        masks = {
            k: {"clients": len(clients), "share": task.shares[k], "clip": task.clip, "held": as_hex(self.held[k])}
            for k in clients
        }
        yield from self.engine.answers(task, clients, holders, masks)  # only once keys are exchanged

    def reveal(self, arrived: Sequence[int], lost: Sequence[int]) -> Mapping[int, Mapping[int, bytes]]:
        """Ask each client that arrived for its shares of the others' secrets; who does not answer gives none."""
        told = {"arrived": list(arrived), "lost": list(lost)}
        asked = {k: {**told, "held": as_hex(self.held[k])} for k in arrived}
        return {k: from_hex(said) for k, said in self.engine.ask("reveal", asked).items()}

    def kept(self, rounds: int) -> None:
        """Tell the engine."""
        self.engine.kept(rounds)

    def close(self) -> None:
        """End what the engine started."""
        self.engine.close()

    def _all(self, kind: str, parts: Parts) -> Parts:
        found = self.engine.ask(kind, parts)
        missing = [k for k in parts if k not in found]
        if missing:
            raise RedteamError(
                f"secure aggregation: client {missing[0] + 1} did not answer when keys were exchanged, so that "
                "no round can begin; see the log of its node"
            )
        return found


def under_masks(answer: ClientAnswer, task: RoundTask, told: Mapping[str, Any], packed: str) -> ClientAnswer:
    """Return a client's answer as it leaves the node; `told` came with the task, `packed` is what the node kept."""
    own = Participant.unpacked(packed, from_hex(told["held"]))
    task = replace(task, shares={answer.client: told["share"]}, clip=told["clip"])
    return masked(answer, task, told["clients"], own)
