"""A folder between the server's loop and Flower's relay: tasks go one way, answers the other, each file whole."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from defenses.federated.local import ClientAnswer, RoundTask
from redteam.core.arrays import IntArray
from redteam.core.files import save_atomic, write_atomic

_POLL = 0.02  # seconds


class Mailbox:
    """Tasks by number, from 0, and the answers to each."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that only this user reads."""
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def post(
        self,
        number: int,
        task: RoundTask,
        clients: Sequence[int],
        rows: Sequence[IntArray],
        masks: Mapping[int, Any] | None = None,
    ) -> None:
        """Give out a task for some clients, each on some of its rows, and what it has to know to mask its answer."""
        told = {
            "kind": "train",
            "round": task.round,
            "seed": task.seed,
            "weights": dict(task.weights),
            "clients": list(clients),
            "rows": [torch.from_numpy(each) for each in rows],
            "masks": [json.dumps((masks or {}).get(client)) for client in clients],
        }
        self._save(f"task-{number}", told)

    def request(self, number: int, kind: str, parts: Mapping[int, Any]) -> None:
        """Give out a request of another kind, as JSON, with a part for each client."""
        self._save(f"task-{number}", {"kind": kind, "parts": {k: json.dumps(part) for k, part in parts.items()}})

    def respond(self, number: int, parts: Mapping[int, str]) -> None:
        """Put back the parts of clients, as JSON."""
        self._save(f"answer-{number}", dict(parts))

    def response(self, number: int, watch: Callable[[], None]) -> dict[int, Any]:
        """Wait for what clients said to a request and take it out; `watch` as of `answer`."""
        return {client: json.loads(part) for client, part in self._awaited(f"answer-{number}", watch).items()}

    def task(self, number: int) -> dict[str, Any] | None:
        """Wait for a task; None where there will be none."""
        path = self.folder / f"task-{number}.pt"
        while not path.exists():
            if (self.folder / "end").exists():
                return None
            time.sleep(_POLL)
        return self._load(path)

    def reply(self, number: int, answer: ClientAnswer) -> None:
        """Put back one client's answer."""
        told = asdict(answer) | {"update": None if answer.update is None else dict(answer.update)}
        self._save(f"answer-{number}-{answer.client}", told)

    def answer(self, number: int, client: int, watch: Callable[[], None]) -> ClientAnswer:
        """Wait for one client's answer and take it out; `watch` is called while waiting, and may raise."""
        return ClientAnswer(**self._awaited(f"answer-{number}-{client}", watch))

    def forget(self, number: int) -> None:
        """Remove a task that is done."""
        (self.folder / f"task-{number}.pt").unlink(missing_ok=True)

    def end(self) -> None:
        """Say that there will be no more tasks."""
        write_atomic(self.folder / "end", "")

    def _awaited(self, name: str, watch: Callable[[], None]) -> dict[Any, Any]:
        path = self.folder / f"{name}.pt"
        while not path.exists():
            watch()
            time.sleep(_POLL)
        found = self._load(path)
        path.unlink()
        return found

    def _save(self, name: str, value: dict[Any, Any]) -> None:
        save_atomic(self.folder / f"{name}.pt", lambda path: torch.save(value, path), mode=0o600)

    def _load(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return found
