"""What experiments over many models share: cells that are done once, kept in a folder each, and taken up again."""

import hashlib
import json
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from redteam import __version__
from redteam.core import codec
from redteam.core.errors import UsageError
from redteam.core.files import sha256, write_atomic
from redteam.core.parallel import Failed, run_jobs
from redteam.data import Examples

_OURS = ("attacks", "defenses", "redteam")  # whose version a cell names


class Task(Protocol):
    """One cell to be done, in a folder of its own."""

    @property
    def folder(self) -> Path:
        """Where the cell lives."""

    def identity(self) -> dict[str, Any]:
        """Return all that the cell's numbers depend on, as JSON gives it back."""


Cell = TypeVar("Cell", bound=Task)
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Saved:
    identity: dict[str, Any]
    result: dict[str, Any]
    digest: str
    format: str


def as_saved(named: dict[str, Any]) -> dict[str, Any]:
    """Return an identity as JSON gives it back, with the versions that numbers depend on."""
    import torch
    import transformers

    versions = {"redteam": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
    found: dict[str, Any] = json.loads(json.dumps(named | {"versions": versions}))
    return found


def foreign_code(plugins: Iterable[object]) -> dict[str, str]:
    """Return the fingerprint of the file of each plug-in that is not of this version's own, by its class."""
    found = {}
    for kind in {type(plugin) for plugin in plugins}:
        if kind.__module__.partition(".")[0] in (*_OURS, "__main__"):  # a script has another file in a worker
            continue
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if file is not None and Path(file).is_file():
            found[f"{kind.__module__}.{kind.__qualname__}"] = sha256(Path(file))
    return dict(sorted(found.items()))


def published(fingerprint: str) -> str:
    """Return by what reports and cells name a data file: its SHA-256 draws membership, and is not for them."""
    return hashlib.sha256(f"redteam published {fingerprint}".encode()).hexdigest()


def save_cell(task: Task, result: Any, *, format: str) -> None:
    """Write cell.json, the last file of a cell."""
    found = codec.encode(result)
    saved = _Saved(task.identity(), found, _digest(found), format)
    text = json.dumps(codec.encode(saved), indent=2, allow_nan=False) + "\n"
    write_atomic(task.folder / "cell.json", text)


def _digest(result: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def take_cell(task: Task, kind: type[Result], *, format: str) -> Result | None:
    """Return what cell.json holds; None where there is none. UsageError where it is of other settings or broken."""
    path = task.folder / "cell.json"
    if not path.exists():
        return None
    try:
        saved = codec.parse(_Saved, path.read_text(encoding="utf-8"), "cell", format=format, advice="say --restart")
        if saved.digest != _digest(saved.result):
            raise ValueError("the numbers were edited (digest differs)")
        result = codec.decode(kind, saved.result, "cell.result")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}; say --restart to do its cells again") from None
    different = difference(saved.identity, task.identity())
    if different is not None:
        raise UsageError(f"{path}: was done with {different}; repeat that, give another -o, or say --restart")
    return result


def difference(before: dict[str, Any], now: dict[str, Any], name: str = "") -> str | None:
    """Return the first setting that differs, as "batch_size 32, now 64"; None where nothing does."""
    for key in dict.fromkeys((*now, *before)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found = difference(old, new, key)
            if found is not None:
                return found
        elif old != new:
            old, new = (f"{v[:12]}..." if isinstance(v, str) and len(v) == 64 else v for v in (old, new))
            return f"{key} {old}, now {new}"
    return None


def run_cells(
    tasks: Sequence[Cell],
    take: Callable[[Cell], Result | None],
    work: Callable[[Cell], Result],
    *,
    workers: int = 1,
) -> Generator[tuple[Cell, Result | Failed], None, None]:
    """Yield every cell as it is done: first those that an earlier run has written, then the others.

    Raises UsageError before any training where a cell was written with other settings.
    """
    taken = [take(task) for task in tasks]
    left = [task for task, result in zip(tasks, taken, strict=True) if result is None]
    yield from ((task, result) for task, result in zip(tasks, taken, strict=True) if result is not None)
    with closing(run_jobs(work, left, workers=workers)) as outcomes:
        for position, outcome in outcomes:
            yield left[position], outcome


def write_rows(examples: Examples, folder: Path, name: str) -> Path:
    """Write what is known of the rows to a file that is named after what is in it, readable by its owner only."""
    columns = {"text": examples.texts, "label": examples.labels, "id": examples.ids}
    columns |= {"user": examples.users, "group": examples.groups}
    known = {what: cells for what, cells in columns.items() if cells is not None}
    lines = (dict(zip(known, cells, strict=True)) for cells in zip(*known.values(), strict=True))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    if not path.exists():
        write_atomic(path, text, mode=0o600)
    return path


def starting_weights(spec: str) -> str | None:
    """Return the fingerprint of the files of a starting model, None for one that is built anew; UsageError."""
    folder = starting_directory(spec)
    if folder is None:
        return None
    prints = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    return hashlib.sha256(json.dumps(prints).encode()).hexdigest()


def starting_directory(spec: str) -> Path | None:
    """Return the directory of a starting model, None for one that is built anew; UsageError where there is none."""
    from redteam.models.initial import directory

    return None if spec in ("tiny", "bilstm") else directory(spec)
