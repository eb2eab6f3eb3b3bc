"""`redteam gap`: train with and without privacy, attack every model, and show theory beside practice."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli import options as o
from redteam.cli.experiment import make_folder, watch
from redteam.cli.opening import try_start
from redteam.cli.present import deliver, say, tell, terminal
from redteam.core.errors import UsageError
from redteam.core.exit_codes import INCONCLUSIVE, LEAK, PASS

if TYPE_CHECKING:
    from redteam.experiments.gap.cells import Task
    from redteam.experiments.gap.report import CellResult, FailedCell, GapReport


Opt = typer.Option
GapFolder = Annotated[Path, Opt("--output", "-o", help="Folder for the models, the table and the picture.")]
Model = Annotated[str | None, Opt("--model", help="tiny, bilstm, minilm, or a Hugging Face directory [default: tiny].")]
Epsilons = Annotated[str | None, Opt("--epsilon", help="List of epsilons [default: inf,16,8,4,2,1,0.5].")]
Trainers = Annotated[str | None, Opt("--trainer", help="List of trainers [default: plain,dpsgd,edpsgd,microbatch].")]
Seeds = Annotated[int | None, Opt("--seeds", min=1, help="Models for each trainer and epsilon [default: 3].")]
PrivateRate = Annotated[
    float | None,
    Opt("--private-learning-rate", min=1e-9, max=10.0, help="Of trainers with an epsilon [default: --learning-rate]."),
]
Rows = Annotated[int | None, Opt("--rows", min=1, help="Use only so many random rows of DATA.")]
Jobs = Annotated[
    int | None, Opt("--jobs", "-j", help="Models trained at once, each on one thread [default: 1; with --quick 2].")
]
Quick = Annotated[bool, Opt("--quick", help="A small experiment in ten minutes; other options still count.")]
RestartAll = Annotated[bool, Opt("--restart", help="Do every model of the grid again.")]


@dataclass(frozen=True)
class _Grid:
    """The size of the experiment; of each trainer only what is not None is set."""

    model: str = "tiny"
    layers: int | None = None
    freeze_embeddings: bool = False
    epsilons: str = "inf,16,8,4,2,1,0.5"
    trainers: str = "plain,dpsgd,edpsgd,microbatch"
    seeds: int = 3
    rows: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    private_learning_rate: float | None = None
    delta: float | None = None


# A small model on many rows: with few, noise of a small epsilon would drown what there is to learn. Private training
# wants a larger learning rate, since noise and clipping make its steps alike in length.
_QUICK = _Grid(epsilons="inf,8,2", seeds=1, rows=10_000, epochs=15, private_learning_rate=0.015)


def gap(
    data: o.LabelledTexts,
    output: GapFolder,
    model: Model = None,
    layers: o.Layers = None,
    freeze_embeddings: o.Freeze = False,
    epsilon: Epsilons = None,
    trainer: Trainers = None,
    seeds: Seeds = None,
    epochs: o.Epochs = None,
    batch_size: o.TrainingBatch = None,
    learning_rate: o.LearningRate = None,
    private_learning_rate: PrivateRate = None,
    delta: o.Delta = None,
    rows: Rows = None,
    jobs: Jobs = None,
    quick: Quick = False,
    restart: RestartAll = False,
    text_column: o.TextColumn = None,
    label_column: o.LabelColumn = None,
    id_column: o.IdColumn = None,
    user_column: o.UserColumn = None,
    group_column: o.GroupColumn = None,
) -> None:
    """Compare what training claims, earns and gives away."""
    given: dict[str, Any] = {
        "model": model,
        "layers": layers,
        "freeze_embeddings": freeze_embeddings or None,
        "rows": rows,
    }
    given |= {"epsilons": epsilon, "trainers": trainer, "seeds": seeds, "epochs": epochs, "batch_size": batch_size}
    given |= {"learning_rate": learning_rate, "private_learning_rate": private_learning_rate, "delta": delta}
    size = _sized(_QUICK if quick else _Grid(), given)
    columns = (text_column, label_column, id_column, user_column, group_column)
    workers = jobs if jobs is not None else 2 if quick else 1
    tasks = _tasks(data, output, columns, size, workers, restart)
    report = _run(tasks, workers)
    _write(report, output)
    raise typer.Exit(_code(report))


def _sized(size: _Grid, given: dict[str, Any]) -> _Grid:
    from dataclasses import replace

    for name in ("learning_rate", "private_learning_rate", "delta"):
        if given[name] is not None and not math.isfinite(given[name]):
            raise UsageError(f"--{name.replace('_', '-')} {given[name]}: must be a finite number")
    return replace(size, **{name: value for name, value in given.items() if value is not None})


def _tasks(
    data: Path, output: Path, columns: tuple[str | None, ...], size: _Grid, jobs: int, restart: bool
) -> "tuple[Task, ...]":
    """Check everything that can be checked before the first training, and lay the cells out."""
    from redteam.data import Columns
    from redteam.experiments.figures import require_matplotlib
    from redteam.experiments.gap.grid import choose_trainers, grid, parse_epsilons
    from redteam.experiments.gap.run import open_experiment, tasks_of
    from redteam.plugins.attack import suited
    from redteam.plugins.registry import discover_attacks, discover_defenses
    from redteam.targets.target import Access
    from redteam.training.train import ModelChoice

    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be at least 1")
    require_matplotlib()
    epsilons = parse_epsilons(size.epsilons)
    asked: dict[str, float | None] = {"epochs": size.epochs, "batch_size": size.batch_size}
    asked |= {"learning_rate": size.learning_rate}
    private = {"delta": size.delta, "learning_rate": size.private_learning_rate}
    names = [name for name in map(str.strip, size.trainers.split(",")) if name]
    trainers = choose_trainers(names, discover_defenses(), asked, private)
    make_folder(output)
    try_start(size.model)
    experiment, notes = open_experiment(
        data,
        output,
        suited(discover_attacks(), Access.WEIGHTS),
        columns=Columns(*columns),
        model=ModelChoice(size.model, size.layers, size.freeze_embeddings),
        rows=size.rows,
    )
    for note in notes:
        say(note)
    return tasks_of(experiment, trainers, grid(trainers, epsilons, size.seeds), output, restart=restart)


def _run(tasks: "tuple[Task, ...]", jobs: int) -> "GapReport":
    from redteam.experiments.gap.run import report_gap, run_gap

    return report_gap(watch(tasks, run_gap(tasks, workers=jobs), _outcome))


def _outcome(result: "CellResult | FailedCell") -> str:
    from redteam.experiments.gap.report import FailedCell
    from redteam.experiments.gap.table import short

    if isinstance(result, FailedCell):
        return f"failed: {result.reason}"
    accounted = "" if result.guarantee is None else f", accounted {short(result.guarantee.accounted.epsilon)}"
    bound = "" if result.strongest is None else f", measured at least {short(result.strongest.interval.low)}"
    nothing = ", learned nothing" if result.untrained else ""
    return f"{result.accuracy.value:.1%} right{nothing}{accounted}{bound}"


def _write(report: "GapReport", output: Path) -> None:
    from redteam.experiments.gap.picture import draw
    from redteam.experiments.gap.table import render_markdown, render_text

    files = {output / "gap.json": report.to_json(), output / "gap.md": render_markdown(report)}
    for path, text in files.items():
        if not deliver(text, path):
            raise typer.Exit(INCONCLUSIVE)
    draw(report, output / "gap.png", output / "gap.svg")
    look = terminal(None)
    tell(render_text(report, width=look["width"], color=bool(look["color"])))
    say(f"wrote gap.json, gap.md, gap.png and gap.svg in {output}; the models are measurements, not for release")


def _code(report: "GapReport") -> int:
    from redteam.experiments.gap.table import attack_failures

    if any(claim.proven for claim in report.broken):
        return LEAK
    if report.failures or any(attack_failures(report.cells)):
        return INCONCLUSIVE
    # under noise a model may learn nothing, which is a result; without noise, or everywhere, it is no experiment
    failed = any(row.untrained and row.epsilon is None for row in report.rows)
    return INCONCLUSIVE if failed or all(row.untrained for row in report.rows) else PASS
