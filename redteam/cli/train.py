"""`redteam train`: train a classifier so that it can be audited honestly afterwards."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli.options import GroupColumn, IdColumn, LabelColumn, Model, Seed, TextColumn, UserColumn
from redteam.cli.present import say
from redteam.cli.progress import progress
from redteam.errors import UsageError

if TYPE_CHECKING:
    from redteam.defense import Defense
    from redteam.train import TrainedFiles


def train(
    data: Annotated[Path, typer.Argument(help="Labelled texts: .csv, .tsv, .jsonl or .parquet.")],
    output: Model = Path("model.pt"),
    model: Annotated[
        str, typer.Option("--model", help="tiny, bilstm, minilm, or a Hugging Face directory.")
    ] = "tiny",
    layers: Annotated[int | None, typer.Option("--layers", min=1, help="Keep the first k layers.")] = None,
    freeze_embeddings: Annotated[
        bool, typer.Option("--freeze-embeddings", help="Leave the embedding table as it is.")
    ] = False,
    dropout: Annotated[float | None, typer.Option(min=0.0, max=0.95, help="Dropout while training.")] = None,
    defense: Annotated[str, typer.Option("--defense", help="How to train; see: redteam defenses.")] = "plain",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the members.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=1e-9, max=10.0)] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", min=0.0)] = None,
    holdout: Annotated[
        float, typer.Option("--holdout", min=0.01, max=0.99, help="Chance of a text to be held out, by its own coin.")
    ] = 0.5,
    reference: Annotated[
        float, typer.Option("--reference", min=0.0, max=0.9, help="Share of texts kept apart for reference models.")
    ] = 0.0,
    seed: Seed = 0,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    user_column: UserColumn = None,
    group_column: GroupColumn = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget an unfinished training.")] = False,
) -> None:
    """Train on a random half of DATA and write model.pt and its private ledger."""
    from redteam.data import Columns
    from redteam.registry import choose, discover_defenses
    from redteam.train import Coins, ModelChoice
    from redteam.train import train as run

    if not output.resolve().parent.is_dir():
        raise UsageError(f"{output}: the folder does not exist")
    (found,) = choose(discover_defenses(), [defense])
    asked = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay}
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
    say(f"wrote {files.model} and {files.ledger} (private: it says who was trained on); next: redteam audit {files.model}")


def _accuracy(files: "TrainedFiles", side: str) -> float:
    """Return the share of right labels on one side, from at most 2,000 of its rows."""
    from redteam.target import label_indices

    target = files.trained.target
    rows = getattr(files, side)
    some = rows.take(range(min(len(rows), 2000)))
    return float((target.predict(some) == label_indices(target.labels, some, name="model")).mean())
