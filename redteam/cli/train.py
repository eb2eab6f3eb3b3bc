"""`redteam train`: train a classifier so that it can be audited honestly afterwards."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redteam.cli import options as o
from redteam.cli.outputs import check_output
from redteam.cli.present import say
from redteam.cli.progress import progress
from redteam.errors import UsageError

if TYPE_CHECKING:
    from redteam.defense import Defense
    from redteam.train import TrainedFiles


def train(
    data: o.TrainingData,
    output: o.ModelFile = Path("model.pt"),
    model: o.ModelSpec = "tiny",
    layers: o.Layers = None,
    freeze_embeddings: o.Freeze = False,
    dropout: o.Dropout = None,
    defense: o.DefenseId = "plain",
    epochs: o.Epochs = None,
    batch_size: o.TrainingBatch = None,
    learning_rate: o.LearningRate = None,
    weight_decay: o.WeightDecay = None,
    holdout: o.Holdout = 0.5,
    reference: o.ReferenceShare = 0.0,
    seed: o.Seed = 0,
    text_column: o.TextColumn = None,
    label_column: o.LabelColumn = None,
    id_column: o.IdColumn = None,
    user_column: o.UserColumn = None,
    group_column: o.GroupColumn = None,
    restart: o.Restart = False,
) -> None:
    """Train on a random half of DATA; write a model and its ledger."""
    from redteam.data import Columns
    from redteam.registry import choose, discover_defenses
    from redteam.train import Coins, ModelChoice
    from redteam.train import train as run

    check_output(output, data, Path(model))
    (found,) = choose(discover_defenses(), [defense])
    asked = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    asked |= {"weight_decay": weight_decay}
    _check_finite(asked | {"dropout": dropout, "holdout": holdout, "reference": reference})
    trainer = _configured(found, asked)
    started = time.monotonic()
    with progress("training") as show:
        files = run(
            data,
            output,
            trainer,
            columns=Columns(text_column, label_column, id_column, user_column, group_column),
            model=ModelChoice(model, layers, freeze_embeddings, dropout),
            coins=Coins(holdout, reference, seed),
            restart=restart,
            progress=show,
        )
    _report(files, time.monotonic() - started)


def _check_finite(asked: dict[str, float | None]) -> None:
    """Raise UsageError for NaN, which is neither below a minimum nor above a maximum, and for infinity."""
    for name, value in asked.items():
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be a finite number")


def _configured(defense: "Defense", asked: dict[str, Any]) -> "Defense":
    """Return the defence with the settings that were asked for; UsageError for one that it does not have."""
    given = {name: value for name, value in asked.items() if value is not None}
    known = defense.parameters()
    for name in given:
        if name not in known:
            raise UsageError(f"--{name.replace('_', '-')}: {defense.id} ({defense.name}) has no such setting")
    return type(defense)(**(known | given))


def _report(files: "TrainedFiles", seconds: float) -> None:
    for note in files.notes:
        say(note)
    say(
        f"trained on {len(files.members):,} members in {seconds:.0f} s, {len(files.nonmembers):,} texts held out: "
        f"{_accuracy(files, 'members'):.1%} right on members, {_accuracy(files, 'nonmembers'):.1%} on held-out texts"
    )
    say(
        f"wrote {files.model} and {files.ledger}, which is private: it says who was trained on; "
        f"next: redteam audit {files.model}"
    )


def _accuracy(files: "TrainedFiles", side: str) -> float:
    """Return the share of right labels on one side, from at most 2,000 of its rows."""
    from redteam.target import label_indices

    target = files.trained.target
    rows = getattr(files, side)
    some = rows.take(range(min(len(rows), 2000)))
    return float((target.predict(some) == label_indices(target.labels, some, name="model")).mean())
