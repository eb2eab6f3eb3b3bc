"""A training of the user's own, `module:function`: from labelled texts and a seed to a model."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from redteam.core import TargetError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.core.files import sha256
from redteam.data import Examples
from redteam.plugins.defense import Checkpoint
from redteam.references.recipe import Fitted, Step
from redteam.targets.function import FunctionTarget, import_function, placed, surroundings
from redteam.targets.target import Access, Classifier, Target, classifier

_OURS = ("attacks", "defenses", "redteam")


@dataclass(frozen=True)
class OwnTrainer:
    """The function `source`, imported anew in each process, from `directory` or from what is installed.

    It is called with Examples and a seed, and returns a target or a function of texts to probabilities, whose columns
    are its `labels`, else the labels of the examples, sorted, as scikit-learn has them. `code` are the fingerprints of
    its files. This runs the user's code, with everything that the user may do.
    """

    source: str
    directory: Path
    code: tuple[str, ...]

    @classmethod
    def load(cls, source: str) -> "OwnTrainer":
        """Import it once, which runs its module; raise TargetError where that fails or it is no function."""
        function, module, directory = import_function(source)
        if not callable(function):
            raise TargetError(f"--reference-trainer {source}: not callable; name a function of examples and a seed")
        return cls(source, directory, tuple(_code_of(module)))

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.source

    def identity(self) -> Mapping[str, Any]:
        """Return where the function is from and the code beside it."""
        return {"trainer": self.source, "code": list(self.code)}

    def fit(self, rows: Examples, *, seed: int, checkpoint: Checkpoint | None, progress: Step | None) -> Fitted:
        """Call it; TargetError where it raises, or returns neither a classifier nor a function."""
        with surroundings(self.directory):
            function, _, _ = import_function(self.source)
            try:
                made = function(rows, seed)
            except (Exception, SystemExit) as error:  # what it says may hold the texts that it was given
                raise TargetError(f"--reference-trainer {self.source}: raised {placed(error)}") from None
        if isinstance(made, Target):
            if Access.PROBABILITIES not in made.access:
                raise TargetError(
                    f"--reference-trainer {self.source}: its model gives {made.access.word} and no probabilities"
                )
            return Fitted(classifier(made))
        if not callable(made):
            raise TargetError(
                f"--reference-trainer {self.source}: returned a {type(made).__name__}; return a target, or a function "
                "of texts to probabilities"
            )
        return Fitted(self._as_target(made, rows))

    def together(self, rows: Examples, halves: BoolArray, seeds: Sequence[int]) -> FloatArray | None:
        """Return None: what it trains is its own affair."""
        return None

    def _as_target(self, made: Callable[[list[str]], Any], rows: Examples) -> Classifier:
        labels = None if getattr(made, "labels", None) is not None else sorted(set(rows.labels or ()))
        target = FunctionTarget(
            made, labels=labels, name=f"--reference-trainer {self.source}", directory=self.directory
        )
        if Access.PROBABILITIES not in target.access:
            raise TargetError(
                f"--reference-trainer {self.source}: its model gives {target.access.word} and no probabilities"
            )
        return target


def _code_of(module: ModuleType) -> list[str]:
    """Return the fingerprints of the module's file and of those beside it that it has imported."""
    own = getattr(module, "__file__", None)
    if own is None:
        return []
    folder = Path(own).resolve().parent
    found = {}
    for name, each in [*sys.modules.items()]:
        file = getattr(each, "__file__", None)
        if file is None or name.partition(".")[0] in _OURS:
            continue
        path = Path(file).resolve()
        if folder in path.parents and "site-packages" not in path.parts[len(folder.parts) :] and path.is_file():
            found[os.path.relpath(path, folder)] = sha256(path)
    return [f"{name} {digest}" for name, digest in sorted(found.items())]
