"""`redteam train`: train a classifier so that it can be audited honestly afterwards."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from redteam.cli import options as o
from redteam.cli.opening import try_start
from redteam.cli.present import check_output, say
from redteam.cli.privatise import privatised_file
from redteam.cli.progress import progress
from redteam.core import UsageError
from redteam.core.files import open_to_others
from redteam.plugins.settings import DROPOUT, Setting

if TYPE_CHECKING:
    from redteam.core.arrays import BoolArray, IntArray
    from redteam.data import Examples
    from redteam.plugins.defense import Defense
    from redteam.report.values import Guarantee
    from redteam.training.train import TrainedFiles


@dataclass(frozen=True)
class _OfModel:
    """What `--set` says of the model, where the defence has no such setting."""

    id: ClassVar[str] = "model"
    dropout: float | None = DROPOUT.default(None)


@dataclass(frozen=True)
class _OfEncoder:
    """What `--set` says of the model's encoder."""

    id: ClassVar[str] = "model"
    freeze_encoder: bool = Setting(
        "Train the last layer alone, without dropout: the encoder runs once a text."
    ).default(False)


def train(
    *,
    data: o.LabelledTexts,
    output: o.ModelFile = Path("model.pt"),
    model: o.ModelOptions,
    defense: o.DefenseId = "plain",
    set: o.Set = None,
    noise_from_seed: o.NoiseFromSeed = False,
    label_canaries: o.LabelCanaries = None,
    privatise: o.Privatise = None,
    holdout: o.Holdout = 0.5,
    seed: o.Seed = 0,
    columns: o.RowOptions,
    opening: o.OpeningOptions,
    restart: o.Restart = False,
    picture: o.Picture = None,
) -> None:
    """Train on a random half of DATA; write a model and its ledger."""
    from redteam.data.planting import canaries_path
    from redteam.training.train import ModelChoice, RandomInclusion
    from redteam.training.train import train as run

    spec = "tiny" if model.model is None else model.model
    check_output(output, data, Path(spec))
    if not math.isfinite(holdout):
        raise UsageError(f"--holdout {holdout}: must be a finite number")
    trainer, dropout, frozen = _configured(defense, set or [])
    _check_picture(picture, trainer, data, output)
    try_start(spec, opening)
    started = time.monotonic()
    if (warning := open_to_others(canaries_path(data))) is not None:
        say(warning)
    if privatise is not None:
        data = privatised_file(data, output, privatise, columns)
    with progress("training") as show:
        files = run(
            data,
            output,
            trainer,
            columns=columns.columns(),
            model=ModelChoice(spec, model.layers, model.freeze_embeddings, dropout, frozen),
            inclusion=RandomInclusion(holdout, seed=seed),
            restart=restart,
            noise_from_seed=noise_from_seed,
            label_canaries=label_canaries,
            progress=show,
        )
    _report(files, time.monotonic() - started, released=None if privatise is None else data)
    _draw(picture, files)


def _draw(picture: Path | None, files: "TrainedFiles") -> None:
    if picture is not None:
        from redteam.experiments.clients import draw_clients

        draw_clients(files.trained.clients, files.members, picture)
        say(f"wrote {picture}: labels and rows of each client, by number")


def _check_picture(picture: Path | None, trainer: "Defense", *others: Path) -> None:
    """Raise UsageError for a picture that could not be drawn, before the training."""
    if picture is None:
        return
    from redteam.experiments.picture import require_matplotlib

    if not trainer.divides:
        raise UsageError(f"--picture {picture}: {trainer.name} has no clients; it goes with --defense federated")
    if picture.suffix not in (".svg", ".png", ".pdf"):
        raise UsageError(f"--picture {picture}: name a .svg, .png or .pdf file")
    if not picture.resolve().parent.is_dir():
        raise UsageError(f"--picture {picture}: the folder {picture.parent} does not exist")
    if any(picture.resolve() == other.resolve() for other in others):
        raise UsageError(f"--picture {picture}: is the data or the model; give another file")
    require_matplotlib()


def _configured(name: str, given: list[str]) -> "tuple[Defense, float | None, bool]":
    """Return the defence with the settings that were given, the model's dropout, and if its encoder is frozen.

    Raises UsageError for a setting that the defence does not have, and for a value that it cannot have.
    """
    from redteam.plugins.registry import discover_defenses
    from redteam.plugins.settings import given_to, settings_of
    from redteam.training.recipes import choose_defense

    found = discover_defenses()
    _, chosen = choose_defense(name, found)
    has_dropout = "dropout" in settings_of(chosen)
    own, of_model, of_encoder = given_to((chosen, chosen if has_dropout else _OfModel(), _OfEncoder()), given)
    if "noise_multiplier" in own and "epsilon" not in own:
        own["epsilon"] = None  # the default would contradict it
    dropout = None if has_dropout else of_model.get("dropout")
    return choose_defense(name, found, own)[1], dropout, of_encoder.get("freeze_encoder", False)


def _report(files: "TrainedFiles", seconds: float, *, released: Path | None) -> None:
    for note in files.notes:
        say(note)
    if not _learned(files):
        say(
            "the model has learned nothing that shows: it is not right on its members significantly more often than "
            "always answering their commonest label; try --set epochs=MORE, another learning_rate or a larger epsilon",
            logging.WARNING,
        )
    say(
        f"trained on {len(files.members):,} members in {seconds:.0f} s, {len(files.nonmembers):,} texts held out: "
        f"{_accuracy(files, 'members'):.1%} right on members, {_accuracy(files, 'nonmembers'):.1%} on held-out texts"
    )
    for line in _guaranteed(files.trained.guarantee):
        say(line)
    say(
        f"wrote {files.model} and {files.ledger}, which is private: it says who was trained on; "
        f"next: redteam audit {files.model}{'' if released is None else f' --released {released}'}"
    )


def _guaranteed(guarantee: "Guarantee | None") -> list[str]:
    """Return what a private training accounts for and, where it is another number, its nominal epsilon."""
    if guarantee is None:
        return []
    accounted, nominal = guarantee.accounted, guarantee.nominal
    of = f"at delta {accounted.delta:g} for each {accounted.unit}, neighbours {accounted.neighbouring}"
    lines = [f"accounted epsilon {accounted.epsilon:.3g} {of} ({accounted.accountant})"]
    if nominal.epsilon != accounted.epsilon:
        lines.append(f"its nominal epsilon is {nominal.epsilon:.3g} ({nominal.accountant}): do not quote that")
    return lines


def _accuracy(files: "TrainedFiles", side: str) -> float:
    """Return the share of right labels on one side, from at most 2,000 of its rows, evenly apart."""
    right, own = _answers(files, side)
    return float(right.mean()) if len(own) else 0.0


def _learned(files: "TrainedFiles") -> bool:
    """Tell whether an audit would take the model for one that has learned something."""
    from collections import Counter

    from redteam.auditing.breakdown import accuracy_by_user
    from redteam.report.values import Accuracy

    right, own = _answers(files, "members")
    users = _some(files.members).users
    share, commonest = float(right.mean()), max(Counter(own.tolist()).values()) / len(own)
    return Accuracy(share, share, commonest, accuracy_by_user(right, own, users)).shows_learning(len(own))


def _answers(files: "TrainedFiles", side: str) -> "tuple[BoolArray, IntArray]":
    """Return which labels are right, and the labels, of some rows of one side."""
    from redteam.targets.target import label_indices

    target, some = files.trained.target, _some(getattr(files, side))
    own = label_indices(target.labels, some, name="model")
    return target.predict(some) == own, own


def _some(rows: "Examples") -> "Examples":
    """Return at most 2,000 of the rows, evenly apart: a file may be sorted by label."""
    return rows.take(range(0, len(rows), -(-len(rows) // 2000)))
