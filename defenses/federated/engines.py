"""Where clients run: an engine is told a task and clients, and gives their answers one after the other.

The server's loop asks nothing else of an engine, so that one more is one more file. `InProcess` trains clients in turn
in this process, with one model between them: a thousand clients take the memory of one, their data aside. What only a
client knows, SCAFFOLD's control variate, is kept for it on the disk.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from defenses.federated.local import ClientAnswer, LocalTraining, RoundTask, train_client
from defenses.federated.updates import Update
from redteam.core import RedteamError
from redteam.core.arrays import IntArray
from redteam.core.files import save_atomic
from redteam.plugins.defense import Problem


class Engine(Protocol):
    """Something that has clients train."""

    def answers(self, task: RoundTask, clients: Sequence[int], holders: Sequence[IntArray]) -> Iterator[ClientAnswer]:
        """Yield one answer for each of the clients, in that order, or a failure in its place."""

    def kept(self, rounds: int) -> None:
        """Be told that so many rounds are done and written down: what belongs to older ones can go."""

    def close(self) -> None:
        """End what was started."""


class Variates:
    """Each client's control variate, in files named by client and round, so that a broken-off round changes nothing."""

    def __init__(self, folder: Path | None) -> None:
        """Keep them in `folder`, or in a temporary one that goes with this object."""
        self.folder = Path(tempfile.mkdtemp(prefix="redteam-clients-")) if folder is None else folder
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def read(self, client: int, before: int) -> Update | None:
        """Return the newest variate of a client from before round `before`; None where it has none yet."""
        rounds = [r for r in self._rounds(client) if r < before]
        if not rounds:
            return None
        found: Update = torch.load(self._path(client, max(rounds)), map_location="cpu", weights_only=True)
        return found

    def write(self, client: int, round_: int, own: Update) -> None:
        """Write what a client's variate is after a round, and remove all but the one before."""
        save_atomic(self._path(client, round_), lambda path: torch.save(dict(own), path), mode=0o600)
        older = sorted(r for r in self._rounds(client) if r < round_)
        for each in older[:-1]:
            self._path(client, each).unlink(missing_ok=True)

    def _rounds(self, client: int) -> list[int]:
        return [int(path.stem.partition("-")[2]) for path in self.folder.glob(f"{client}-*.pt")]

    def _path(self, client: int, round_: int) -> Path:
        return self.folder / f"{client}-{round_}.pt"


class InProcess:
    """Clients in this process, one after the other."""

    def __init__(self, problem: Problem, how: LocalTraining, folder: Path | None = None) -> None:
        """`folder` is where clients' control variates are kept (None: as long as this object)."""
        self.problem, self.how = problem, how
        self.variates = Variates(folder) if how.variates else None

    def answers(self, task: RoundTask, clients: Sequence[int], holders: Sequence[IntArray]) -> Iterator[ClientAnswer]:
        """Train each client; one that drops out, or whose training breaks, is a failure in its place."""
        for client in clients:
            if client in task.dropped:
                yield ClientAnswer(client, None, failure="dropped out")
                continue
            own = self.variates.read(client, task.round) if self.variates else None
            answer = self.trained(holders[client], task, client, own)
            if self.variates and answer.own is not None:
                self.variates.write(client, task.round, answer.own)
            yield answer

    def trained(self, rows: IntArray, task: RoundTask, client: int, own: Update | None) -> ClientAnswer:
        """Train one client."""
        return tried(self.problem, rows, task, client, self.how, own)

    def kept(self, rounds: int) -> None:
        """Nothing to do: older variates go as newer ones come."""

    def close(self) -> None:
        """Nothing was started."""


def tried(
    problem: Problem, rows: IntArray, task: RoundTask, client: int, how: LocalTraining, own: Update | None
) -> ClientAnswer:
    """Train a client; one whose training breaks is a failure, named by kind alone: messages may hold its texts."""
    try:
        return train_client(problem, rows, task, client, how, own)
    except RedteamError:
        raise
    except Exception as error:
        return ClientAnswer(client, None, failure=f"broke ({type(error).__name__})")
