"""Clients over Flower, as an engine of the server's loop."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from defenses.federated.flower.job import ClientData, write_job
from defenses.federated.flower.links import Link, check_installed, check_reachable
from defenses.federated.flower.mailbox import Mailbox
from defenses.federated.local import ClientAnswer, LocalTraining, RoundTask
from redteam.core import UsageError
from redteam.core.arrays import IntArray
from redteam.models.initial import InitialModel


class OverFlower:
    """Clients on Ray (`address` None), or on the nodes of the SuperLink at HOST:PORT."""

    def __init__(
        self,
        initial: InitialModel,
        data: ClientData,
        holders: Sequence[IntArray],
        how: LocalTraining,
        *,
        address: str | None = None,
        nodes: int | None = None,
        certificates: Path | None = None,
    ) -> None:
        """Check that Flower is there, and write what clients need; it is started by the first round."""
        check_installed("ray" if address is None else "superlink")
        if certificates is not None and not certificates.is_file():
            raise UsageError(f"certificates {certificates}: no such file; name the certificate of the SuperLink's CA")
        if address is not None:
            check_reachable(address)
        self.folder = Path(tempfile.mkdtemp(prefix="redteam-job-"))
        self.box, self.number = Mailbox(self.folder / "mailbox"), 0
        self.holders, self.address, self.certificates = holders, address, certificates
        self.nodes = nodes or len(holders)
        self.link: Link | None = None
        write_job(self.folder / "job", initial, data, holders, how)

    def answers(
        self,
        task: RoundTask,
        clients: Sequence[int],
        holders: Sequence[IntArray],
        masks: Mapping[int, Any] | None = None,
    ) -> Iterator[ClientAnswer]:
        """Have Flower's nodes train the clients, and yield their answers in that order; `masks` hides them."""
        asked = [client for client in clients if client not in task.dropped]
        number, link = self.number, self._started()
        self.number += 1
        rows = [np.searchsorted(self.holders[client], holders[client]) for client in asked]
        self.box.post(number, task, asked, rows, masks)
        for client in clients:
            if client in task.dropped:
                yield ClientAnswer(client, None, failure="dropped out")
            else:
                yield self.box.answer(number, client, link.check)
        self.box.forget(number)

    def ask(self, kind: str, parts: Mapping[int, Any]) -> dict[int, Any]:
        """Bring clients a request, each its part, and return what each says to it; who fails says nothing."""
        number, link = self.number, self._started()
        self.number += 1
        self.box.request(number, kind, parts)
        found = self.box.response(number, link.check)
        self.box.forget(number)
        return found

    def kept(self, rounds: int) -> None:
        """Nothing to do: clients keep nothing."""

    def close(self) -> None:
        """End the run, and remove what clients needed."""
        self.box.end()
        if self.link is not None:
            self.link.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _started(self) -> Link:
        if self.link is None:
            simulate = self.nodes if self.address is None else None
            self.link = Link(simulate=simulate, address=self.address, certificates=self.certificates)
            folders = {"mailbox": str(self.box.folder), "job": str(self.folder / "job")}
            self.link.submit({**folders, "nodes": self.nodes})
        return self.link
