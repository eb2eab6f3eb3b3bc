"""From a data file to `model.pt` and its ledger: coins, model, training, files."""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from redteam.bundle import save_bundle
from redteam.data import Columns, Examples, read_examples
from redteam.defense import Checkpoint, Defense, Progress, Trained
from redteam.errors import DataError, UsageError
from redteam.ledger import DataFile, Ledger, Membership, TrainingRecipe, describe_data, flip_coins, ledger_path
from redteam.models.starting import start_model


@dataclass(frozen=True)
class ModelChoice:
    """What to train: `spec` is tiny, bilstm, minilm or a directory; None leaves the model's own setting."""

    spec: str = "tiny"
    layers: int | None = None
    freeze_embeddings: bool = False
    dropout: float | None = None


@dataclass(frozen=True)
class Coins:
    """How membership is drawn: the share kept apart for reference, then the chance to be held out.

    Without a `key` the fingerprint of the data file is the key: one must have all of the data to draw the coins.
    Against somebody who has, choose a secret key or seed.
    """

    holdout: float = 0.5
    reference: float = 0.0
    seed: int = 0
    key: str | None = None


@dataclass(frozen=True)
class TrainedFiles:
    """A finished training: the files written, the rows on either side, and what reading the data guessed."""

    model: Path
    ledger: Path
    trained: Trained
    members: Examples
    nonmembers: Examples
    notes: tuple[str, ...]


def train(
    data: Path,
    output: Path,
    defense: Defense,
    *,
    columns: Columns = Columns(),
    model: ModelChoice = ModelChoice(),
    coins: Coins = Coins(),
    restart: bool = False,
    progress: Progress | None = None,
) -> TrainedFiles:
    """Train on the texts whose coin says member, write the model to `output` and the ledger beside it.

    A training that was broken off is taken up where it was, unless `restart`. Raises DataError where a side would
    be empty, UsageError where an unfinished training is of other settings.
    """
    _check_output(output, data)
    reading, ledger = read_examples(data, columns), ledger_path(output)
    source = describe_data(data, reading.columns, len(reading.examples), beside=ledger)  # as it is now, not at the end
    key = source.sha256 if coins.key is None else coins.key
    sides = flip_coins(reading.examples, holdout=coins.holdout, reference=coins.reference, seed=coins.seed, key=key)
    for side in ("members", "nonmembers"):
        if len(sides[side]) < 2:
            raise DataError(f"{data}: {len(sides[side])} {side} of {len(reading.examples)} rows: not enough data")
    members = reading.examples.take(sides["members"])
    start = start_model(model.spec, reading.examples, learn_from=members, seed=coins.seed, **_shape(model))
    identity = _fingerprint(source, defense, [_shape(model), start.fingerprint()], coins)
    checkpoint = Checkpoint(output.with_name(f"{output.name}.checkpoint"), identity)
    if restart:
        checkpoint.path.unlink(missing_ok=True)
    expected = round(len(reading.examples) * (1 - coins.reference) * (1 - coins.holdout))
    trained = defense.fit(
        start, members, seed=coins.seed, population=max(1, expected), checkpoint=checkpoint, progress=progress
    )
    save_bundle(trained.bundle, output)  # the larger file first: where it does not fit, the old pair stays whole
    Ledger(
        model=trained.bundle.digest(),
        data=source,
        membership=Membership(True, coins.seed, coins.holdout, coins.reference, **sides, key=key),
        recipe=TrainingRecipe(defense.id, {"model": _portable(model), **defense.parameters()}, coins.seed),
        guarantee=trained.guarantee,
        salt=secrets.token_hex(16),
    ).save(ledger)
    checkpoint.path.unlink(missing_ok=True)
    nonmembers = reading.examples.take(sides["nonmembers"])
    return TrainedFiles(output, ledger, trained, members, nonmembers, reading.notes)


def _check_output(output: Path, data: Path) -> None:
    """Raise UsageError for what would otherwise only come to light when the training is done."""
    if not output.resolve().parent.is_dir():
        raise UsageError(f"{output}: the folder does not exist")
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file in it, such as {output / 'model.pt'}")
    if data.resolve() in (output.resolve(), ledger_path(output).resolve()):
        raise UsageError(f"{output}: would overwrite the data; name another file with -o")


def _shape(model: ModelChoice) -> dict[str, Any]:
    return {key: value for key, value in asdict(model).items() if key != "spec"}


def _portable(model: ModelChoice) -> dict[str, Any]:
    """The choice for the ledger: of a directory only its name, since paths differ between machines."""
    return asdict(replace(model, spec=Path(model.spec).name))


def _fingerprint(source: DataFile, defense: Defense, model: list[Any], coins: Coins) -> str:
    """Identify all that the numbers of a training depend on, so that only the same training is resumed."""
    identity = {
        "data": asdict(replace(source, path="")),
        "defense": [defense.id, defense.parameters()],
        "model": model,
        "coins": asdict(coins),
        "versions": [torch.__version__, transformers.__version__],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
