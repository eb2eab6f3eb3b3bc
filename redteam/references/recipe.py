"""How reference models are trained: as the ledger says the target was, or by a function of the user's own."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.special import log_softmax

from redteam.core import LedgerError, RedteamError, UsageError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.core.files import sha256
from redteam.core.identity import foreign_code
from redteam.data import Examples
from redteam.data.ledger import TrainingRecipe
from redteam.models.bundle import Bundle
from redteam.models.initial import InitialModel, directory, initial_model
from redteam.models.tokens import cut_at, token_ids
from redteam.plugins.defense import Checkpoint, Defense, TogetherTraining
from redteam.targets.target import Classifier
from redteam.training.recipes import configured
from redteam.training.train import ModelChoice, portable

_OWN_CODE = ("tiny", "bilstm", "minilm")  # starting models that are known by their name
_BUILT = ("tiny", "bilstm")  # built anew, each with a vocabulary of its own rows
_OF_THE_MODEL = ("model", "noise")  # what a ledger notes beside a trainer's settings

Step = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Fitted:
    """A model that answers, and the bundle of its weights, where it has them."""

    model: Classifier
    bundle: Bundle | None = None


class ReferenceTrainer(Protocol):
    """Trains one reference model; what numbers it gives depends on its identity, the rows and the seed alone."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    def identity(self) -> Mapping[str, Any]:
        """Return all that its numbers depend on, beside rows and seed, as JSON takes it."""

    def fit(self, rows: Examples, *, seed: int, checkpoint: Checkpoint | None, progress: Step | None) -> Fitted:
        """Train on the rows and return the model; RedteamError where that cannot be."""

    def together(self, rows: Examples, halves: BoolArray, seeds: Sequence[int]) -> FloatArray | None:
        """Train a model on each of `halves`, [k, n] of the rows, at once, where that is cheaper; None elsewhere.

        Returns the log-probabilities of the sorted labels for all rows, [k, n, c].
        """


@dataclass(frozen=True)
class LedgerRecipe:
    """The training that a ledger names: its defence, settled, what it starts from, and the seed of the new classifier.

    `seed` is that of the target, so that references start from the same classifier. `rows` is how many the target was
    trained on.
    """

    defense: Defense
    model: ModelChoice
    seed: int
    rows: int

    @classmethod
    def of(
        cls, recipe: TrainingRecipe, known: tuple[Defense, ...], *, rows: int, base: Path | None = None
    ) -> "LedgerRecipe":
        """Return the recipe of a ledger; `base` is the directory of a starting model that is known by name alone.

        Raises LedgerError or UsageError where the ledger does not say enough, or it cannot be repeated here.
        """
        settings = {name: value for name, value in recipe.parameters.items() if name not in _OF_THE_MODEL}
        found = next((each for each in known if each.id == recipe.defense), None)
        if found is None:
            raise UsageError(
                f"the model was trained by {recipe.defense}, which is not installed: reference models need it, or "
                "--reference-trainer MODULE:FUNCTION"
            )
        try:
            model = ModelChoice(**recipe.parameters["model"])
        except (KeyError, TypeError):
            raise LedgerError(
                "the ledger does not say which model was trained; give --reference-trainer MODULE:FUNCTION"
            ) from None
        if model.spec not in _OWN_CODE:
            if base is None:
                raise UsageError(
                    f"the ledger knows the starting model {model.spec!r} by its name alone: say --base DIR, the "
                    "directory that training started from"
                )
            model = replace(model, spec=str(base.resolve()))
        return cls(configured(found, settings), model, recipe.seed, rows)

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"{self.defense.id} ({self.defense.name}) as the ledger says"

    def identity(self) -> Mapping[str, Any]:
        """Return all that its numbers depend on, the files of the starting model included."""
        spec = self.model.spec
        weights = None if spec in _BUILT else _files_of(directory(spec))
        return {
            "defense": self.defense.id,
            "settings": self.defense.parameters(),
            "model": portable(self.model),
            "weights": weights,
            "head seed": self.seed,
            "together": self._side_by_side is not None,
            "code": foreign_code([self.defense]),
        }

    def initial(self, rows: Examples) -> InitialModel:
        """Return what training starts from; a vocabulary that it lacks is learned from the rows."""
        shape = {key: value for key, value in asdict(self.model).items() if key != "spec"}
        return initial_model(self.model.spec, rows, learn_from=rows, seed=self.seed, **shape)

    def fit(self, rows: Examples, *, seed: int, checkpoint: Checkpoint | None, progress: Step | None) -> Fitted:
        """Train on the rows and return the model; RedteamError where that cannot be."""
        how: dict[str, Any] = {"population": len(rows), "checkpoint": checkpoint, "progress": progress}
        trained = self.defense.fit(self.initial(rows), rows, seed=seed, **how)
        return Fitted(trained.target, trained.bundle)

    @property
    def _side_by_side(self) -> TogetherTraining | None:
        """The defence, where all models read the same of a text: one frozen encoder, and not one of each its own."""
        same = self.model.freeze_encoder and self.model.spec not in _BUILT
        return self.defense if same and isinstance(self.defense, TogetherTraining) else None

    def together(self, rows: Examples, halves: BoolArray, seeds: Sequence[int]) -> FloatArray | None:
        """Train the last layers of all models side by side, where nothing else of them is trained; None elsewhere."""
        defense = self._side_by_side
        if defense is None:
            return None
        logits = defense.fit_together(self.initial(rows), rows, halves, seeds=seeds)
        answers: FloatArray = log_softmax(logits, axis=2)
        return answers

    def work(self, rows: Examples) -> float | None:
        """Return the counted work of one model: weights times tokens times passes; None where passes are not known.

        Tables of embeddings are looked up and not multiplied with, and do not count; a frozen encoder runs once.
        """
        passes = 1 if self.model.freeze_encoder else self.defense.parameters().get("epochs")
        if not isinstance(passes, int):
            return None
        initial = self.initial(rows)
        weights = sum(p.numel() for p in initial.model.parameters())
        weights -= initial.model.get_input_embeddings().weight.numel()
        cut_at(initial.tokenizer, initial.max_length)
        tokens = sum(map(len, token_ids(initial.tokenizer, rows.texts or (), name=self.model.spec)))
        return float(weights) * tokens * passes


def settle_randomness(seed: int) -> None:
    """Seed every common source of random numbers, so that a trainer that asks for none gives the same everywhere."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_of_model(seed: int, model: int) -> int:
    """Return the seed of one model of a plan: a number below 2^31, as most libraries take."""
    drawn = hashlib.blake2b(f"reference model {seed} {model}".encode(), digest_size=4).digest()
    return int.from_bytes(drawn, "big") >> 1


def _files_of(folder: Path) -> str:
    """Return the fingerprint of the files of a starting model."""
    try:
        prints = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        raise RedteamError(f"{folder}: cannot be read ({error.strerror or error})") from None
    return hashlib.sha256(json.dumps(prints).encode()).hexdigest()
