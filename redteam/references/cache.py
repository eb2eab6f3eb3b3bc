"""What reference models said, one file each, so that no training is done twice.

A file is named after all that its numbers depend on: the rows, the recipe, the versions, the seed, the model's place in
the plan. It is written whole, for its owner alone, and holds no text: log-odds, which rows were trained on, and what it
was named after. Weights lie beside it where they were to be kept.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from redteam import __version__
from redteam.core import RedteamError
from redteam.core.arrays import BoolArray
from redteam.core.files import save_atomic, write_atomic
from redteam.core.identity import difference
from redteam.data import Examples
from redteam.models.bundle import save_bundle
from redteam.plugins.defense import Checkpoint
from redteam.references.plan import ReferencePlan
from redteam.references.training import Reference

FORMAT = "redteam.reference/1"
_CODE = ("numpy", "scikit-learn", "tokenizers", "torch", "transformers")
_ARRAYS = ("log_odds", "correct", "included", "seconds", "identity", "gradients")
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class ReferenceCache:
    """The files of one plan's models in a folder of their own; `tell` hears of files that are not used, and why."""

    folder: Path
    identity: Mapping[str, Any]
    tell: Callable[[str], None] = field(compare=False)

    @classmethod
    def of(
        cls, root: Path, plan: ReferencePlan, trainer: Mapping[str, Any], *, seed: int, tell: Callable[[str], None]
    ) -> "ReferenceCache":
        """Return the cache of a plan's rows under `root`; nothing is read or written yet."""
        rows = digest_of(plan.rows)
        identity = {
            "rows": rows,
            "trainer": trainer,
            "seed": seed,
            "versions": {"redteam": __version__, **{name: _version(name) for name in _CODE}},
        }
        return cls(root / rows[:16], json.loads(json.dumps(identity)), tell)

    def path(self, model: int, included: BoolArray) -> Path:
        """Return the file of one model."""
        return self.folder / f"{self._key(model, included)[:24]}.npz"

    def checkpoint(self, model: int, included: BoolArray) -> Checkpoint:
        """Return where the model's unfinished training is kept."""
        return Checkpoint(self.path(model, included).with_suffix(".checkpoint"), self._key(model, included))

    def take(
        self, model: int, included: BoolArray, *, with_weights: bool = False, with_gradients: bool = False
    ) -> Reference | None:
        """Return what was kept of a model; None where that is nothing, or not all, or cannot be trusted."""
        path = self.path(model, included)
        if not path.is_file() or (with_weights and not path.with_suffix(".pt").is_file()):
            return None
        why = _foreign(path)
        if why is None:
            try:
                found = self._read(path, model, included)
                return found if found.gradients is not None or not with_gradients else None
            except _DAMAGED as error:
                why = f"is damaged ({error})" if isinstance(error, _Unlike) else "is damaged"
        self.tell(f"{path}: {why}: not used, its model is trained anew")
        return None

    def prepare(self) -> None:
        """Make the folder before anything is trained; RedteamError where nothing could be kept in it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.folder / "writable"
            write_atomic(probe, "yes", mode=0o600)
            probe.unlink()
        except OSError as error:
            raise RedteamError(f"{self.folder}: cannot be written ({error.strerror or error})") from None

    def save(self, model: int, included: BoolArray, found: Reference) -> None:
        """Keep what a model said, and its weights before it; RedteamError where it cannot be written."""
        path = self.path(model, included)
        document = json.dumps(self._document(model), sort_keys=True).encode()
        arrays = {"log_odds": found.log_odds, "correct": found.correct, "included": included}
        arrays |= {} if found.gradients is None else {"gradients": found.gradients}
        arrays |= {"seconds": np.array(found.seconds), "identity": np.frombuffer(document, np.uint8)}
        arrays["digest"] = np.frombuffer(_digest(arrays), np.uint8)
        try:
            if found.bundle is not None:
                save_bundle(found.bundle, path.with_suffix(".pt"), mode=0o600)
            save_atomic(path, lambda temporary: _write(temporary, arrays), mode=0o600)
            path.with_suffix(".checkpoint").unlink(missing_ok=True)
        except OSError as error:
            raise RedteamError(f"{path}: cannot be written ({error.strerror or error})") from None

    def stale(self, plan: ReferencePlan) -> None:
        """Tell of kept models of these rows that are of another recipe, version or seed, and what differs first."""
        ours = {self.path(model, included) for model, included in enumerate(plan.included)}
        others = [path for path in sorted(self.folder.glob("*.npz")) if path not in ours]
        now, found = self._document(0), []
        for path in others:
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                    before = json.loads(bytes(kept["identity"]))
                found.append(difference(before | {"model": 0}, now))
            except _DAMAGED:
                continue
        told = [each for each in found if each is not None]
        if told:
            self.tell(
                f"{len(told)} kept reference models of these rows are not used: {told[0]}; they are in {self.folder}"
            )

    def _read(self, path: Path, model: int, included: BoolArray) -> Reference:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files if name in _ARRAYS}
            digest = bytes(kept["digest"])
        if _digest(arrays) != digest:
            raise _Unlike("its numbers were changed")
        if json.loads(bytes(arrays["identity"])) != json.loads(json.dumps(self._document(model))):
            raise _Unlike("it is of another reference model")
        odds, correct = arrays["log_odds"], arrays["correct"]
        if odds.shape != included.shape or odds.dtype != np.float64 or not np.array_equal(arrays["included"], included):
            raise _Unlike("it is of other rows")
        return Reference(odds, correct, float(arrays["seconds"]), gradients=arrays.get("gradients"))

    def _document(self, model: int) -> dict[str, Any]:
        return {"format": FORMAT, "model": model, **self.identity}

    def _key(self, model: int, included: BoolArray) -> str:
        named = json.dumps(self._document(model), sort_keys=True).encode()
        return hashlib.sha256(named + np.packbits(included).tobytes()).hexdigest()


class _Unlike(ValueError):
    """A file that can be read and is not what its name says."""


def digest_of(rows: Examples) -> str:
    """Return the SHA-256 of what a training sees of rows, in their order."""
    seen = [rows.texts, rows.labels, rows.users, rows.groups]
    return hashlib.sha256(json.dumps(seen).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(arrays: Mapping[str, Any]) -> bytes:
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.digest()


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _foreign(path: Path) -> str | None:
    """Return why a file may be somebody else's work; None where it is the user's own."""
    if os.name != "posix":
        return None
    state = path.stat()
    if state.st_uid != os.getuid():
        return "belongs to another user"
    return "can be written by others" if state.st_mode & 0o022 else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
