"""What all cells of an experiment share: its data, the model that trainings start from, and the attacks."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redteam.core import UsageError
from redteam.core.files import sha256, write_atomic
from redteam.data import Examples
from redteam.plugins.defense import Defense
from redteam.training.recipes import configured
from redteam.training.train import ModelChoice

_FEWEST_ROWS = 50


@dataclass(frozen=True)
class Setup:
    """What all cells share: `weights` is the fingerprint of a starting model that is a directory."""

    data: Path
    data_sha256: str
    model: ModelChoice
    weights: str | None
    attacks: tuple[Any, ...]


@dataclass(frozen=True)
class Trainer:
    """A defence under the name that a grid gives it, configured but for its epsilon."""

    name: str
    defense: Defense

    @property
    def private(self) -> bool:
        """Whether it can be asked for an epsilon; those that cannot are trained once, at infinity."""
        return "epsilon" in self.defense.parameters()

    def at(self, epsilon: float | None) -> Defense:
        """Return the defence that is to account for `epsilon`; None: it clips and adds no noise."""
        if not self.private:
            return self.defense
        asked = {"epsilon": epsilon, "noise_multiplier": 0.0 if epsilon is None else None}
        return configured(self.defense, asked)


def some_rows(examples: Examples, rows: int | None) -> Examples:
    """Return so many random rows, the same every time and in their order; all where `rows` is None or more."""
    if rows is not None and rows < _FEWEST_ROWS:
        raise UsageError(f"--rows {rows}: at least {_FEWEST_ROWS} are needed to train and to attack")
    if rows is None or rows >= len(examples):
        return examples
    return examples.take(np.sort(np.random.default_rng(0).permutation(len(examples))[:rows]))


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
