"""Cells: a training each, done once, kept in a folder each, and taken up again."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from redteam import __version__, core
from redteam.core import UsageError
from redteam.core.files import write_atomic
from redteam.core.identity import difference, foreign_code
from redteam.core.parallel import Failed, run_jobs
from redteam.core.progress import Progress, unwatched
from redteam.experiments.report import FailedCell
from redteam.experiments.setup import Setup
from redteam.plugins.defense import Defense
from redteam.plugins.settings import settings_of
from redteam.training.train import portable

_FINE = 10_000  # what a share is told in
_FILES = (
    "cell.json",
    "report.json",
    "model.pt*",
    "model.ledger.json",
    "model.planted.pt",
    "planted.jsonl",
    "planted.canaries.json",
    "canaries.pt*",
    "canaries.ledger.json",
    "canaries.planted.pt",
)


class Cell(Protocol):
    """One training of a grid."""

    @property
    def folder(self) -> str:
        """The name of the folder that the cell lives in."""

    @property
    def words(self) -> str:
        """The cell as messages name it."""


Shared = TypeVar("Shared", bound=Setup)
Named = TypeVar("Named", bound=Cell)
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Saved:
    identity: dict[str, Any]
    result: dict[str, Any]
    digest: str
    format: str


@dataclass(frozen=True)
class Task(ABC, Generic[Shared, Named, Result]):
    """One cell to be done: with which defence, in which folder. A result is of the class `kind`, saved as `format`."""

    setup: Shared
    cell: Named
    defense: Defense
    folder: Path

    kind: ClassVar[type[Any]]
    format: ClassVar[str]

    @abstractmethod
    def run(self, watch: Progress) -> Result:
        """Train and attack one model in the folder, and return what was found; `watch` shows how far it is."""

    @property
    def parts(self) -> int:
        """How many phases `run` names; each counts alike where only the share is shown that is done."""
        return 2

    @abstractmethod
    def own(self) -> dict[str, Any]:
        """Return what the numbers depend on, beside that which all experiments share."""

    def identity(self) -> dict[str, Any]:
        """Return all that the cell's numbers depend on, as JSON gives it back."""
        import torch
        import transformers

        shared = self.setup
        versions = {"redteam": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
        named = {
            "data": published(shared.data_sha256),
            "model": portable(shared.model),
            "weights": shared.weights,
            "attacks": {attack.id: settings_of(attack) for attack in shared.attacks},
            "code": foreign_code((*shared.attacks, self.defense)),
            "defense": self.defense.id,
            "settings": self.defense.parameters(),
        }
        found: dict[str, Any] = json.loads(json.dumps(named | self.own() | {"versions": versions}))
        return found

    def take(self) -> Result | None:
        """Return what an earlier run has written, None where there is nothing.

        Raises UsageError where it is of other settings, of another version's format, or broken.
        """
        path = self.folder / "cell.json"
        if not path.exists():
            return None
        try:
            text = path.read_text(encoding="utf-8")
            saved = core.parse(_Saved, text, "cell", format=self.format, advice="another version wrote it")
            if saved.digest != _digest(saved.result):
                raise ValueError("the numbers were edited (digest differs)")
            result: Result = core.decode(self.kind, saved.result, "cell.result")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}; say --restart to do its cells again") from None
        different = difference(saved.identity, self.identity())
        if different is not None:
            raise UsageError(f"{path}: was done with {different}; repeat that, give another -o, or say --restart")
        return result

    def save(self, result: Result) -> None:
        """Write cell.json, the last file of a cell."""
        found = core.encode(result)
        saved = core.encode(_Saved(self.identity(), found, _digest(found), self.format))
        write_atomic(self.folder / "cell.json", json.dumps(saved, indent=2, allow_nan=False) + "\n")

    def forget(self) -> None:
        """Remove what a cell consists of, the checkpoint of its training included."""
        for path in (path for pattern in _FILES for path in self.folder.glob(pattern)):
            path.unlink()


def run_cells(
    tasks: Sequence[Task[Shared, Named, Result]],
    *,
    workers: int = 1,
    watch: Callable[[float, int], None] = unwatched,
) -> Generator[tuple[Task[Shared, Named, Result], Result | FailedCell], None, None]:
    """Yield every cell as it is done: first those that an earlier run has written, then the others.

    With several `workers`, so many processes train at once, which end where this is closed (`contextlib.closing`), and
    `watch` hears how many cells those under way are worth together; with one it shows how far a training and its
    attacks are.
    Raises UsageError before any training where a cell was written with other settings.
    """
    taken = [task.take() for task in tasks]
    left = [task for task, result in zip(tasks, taken, strict=True) if result is None]
    yield from ((task, result) for task, result in zip(tasks, taken, strict=True) if result is not None)
    if workers == 1:
        outcomes = run_jobs(partial(_do, watch=watch), left)
    else:
        outcomes = run_jobs(_do_apart, left, workers=workers, watch=lambda share: watch(share, len(left)))
    with closing(outcomes):
        for position, outcome in outcomes:
            task = left[position]
            yield task, FailedCell(task.cell.words, outcome.reason) if isinstance(outcome, Failed) else outcome


def _do(task: Task[Shared, Named, Result], watch: Progress = unwatched) -> Result:
    task.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # models that leak are for nobody else
    result = task.run(watch)
    task.save(result)
    for checkpoint in task.folder.glob("*.pt.checkpoint"):  # not before: an attack may outlast a training
        checkpoint.unlink()
    return result


def _do_apart(task: Task[Shared, Named, Result], progress: Progress) -> Result:
    """Do a cell in a process of its own, which can tell nothing but the share of it that is done."""
    return _do(task, _Parts(progress, task.parts))


class _Parts:
    """Makes one share of phases: each that is named is the next of so many, and what a phase says never goes back."""

    def __init__(self, progress: Progress, parts: int) -> None:
        """Begin before the first of them."""
        self._progress, self._parts, self._begun, self._most = progress, parts, 0, 0.0

    def __call__(self, done: int, total: int) -> None:
        """Tell how far the phase is that was named last."""
        within = min(1.0, done / max(total, 1))
        self._most = max(self._most, min(1.0, (max(self._begun, 1) - 1 + within) / self._parts))
        self._progress(round(self._most * _FINE), _FINE)

    def named(self, what: str) -> Progress:
        """Begin the next phase; what shows it has no phases of its own."""
        self._begun += 1
        return lambda done, total, *measure: self(done, total)


def published(fingerprint: str) -> str:
    """Return by what reports and cells name a data file: its SHA-256 draws members and secrets, and is not for them."""
    return hashlib.sha256(f"redteam published {fingerprint}".encode()).hexdigest()


def _digest(result: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
