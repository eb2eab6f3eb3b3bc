"""`redteam gap`: train with and without privacy, attack every model, and show theory beside practice."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli import experiment as e
from redteam.cli import options as o
from redteam.cli.opening import try_start
from redteam.cli.present import exit_code, say
from redteam.core import INCONCLUSIVE, LEAK, PASS

if TYPE_CHECKING:
    from redteam.experiments.gap.cells import GapTask
    from redteam.experiments.gap.report import GapReport, GapResult

Opt = typer.Option
Epsilons = Annotated[str | None, Opt("--epsilon", help="List of epsilons [default: inf,16,8,4,2,1,0.5].")]
Trainers = Annotated[str | None, Opt("--trainer", help="List of trainers [default: plain,dpsgd,edpsgd,microbatch].")]
Seeds = Annotated[int | None, Opt("--seeds", min=1, help="Models for each trainer and epsilon [default: 3].")]
PrivateRate = Annotated[
    float | None,
    Opt("--private-learning-rate", min=1e-9, max=10.0, help="Of trainers with an epsilon [default: --learning-rate]."),
]
Jobs = Annotated[
    int | None, Opt("--jobs", "-j", help="Models trained at once, each on one thread [default: 1; with --quick 2].")
]
Quick = Annotated[bool, Opt("--quick", help="A small experiment in ten minutes; other options still count.")]


@dataclass(frozen=True, kw_only=True)
class _GapGrid(e.Grid):
    epsilons: str = "inf,16,8,4,2,1,0.5"
    trainers: str = "plain,dpsgd,edpsgd,microbatch"
    seeds: int = 3
    private_learning_rate: float | None = None
    delta: float | None = None


# A small model on many rows: with few, noise of a small epsilon would drown what there is to learn. Private training
# wants a larger learning rate, since noise and clipping make its steps alike in length.
_QUICK = _GapGrid(epsilons="inf,8,2", seeds=1, rows=10_000, epochs=15, private_learning_rate=0.015)


def gap(
    data: o.LabelledTexts,
    output: e.Folder,
    model: e.Model = None,
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
    rows: e.Rows = None,
    jobs: Jobs = None,
    quick: Quick = False,
    restart: e.RestartAll = False,
    text_column: o.TextColumn = None,
    label_column: o.LabelColumn = None,
    id_column: o.IdColumn = None,
    user_column: o.UserColumn = None,
    group_column: o.GroupColumn = None,
) -> None:
    """Set nominal, accounted and measured epsilon side by side."""
    from redteam.experiments.gap import picture, run, table

    given: dict[str, Any] = {
        "model": model,
        "layers": layers,
        "freeze_embeddings": freeze_embeddings or None,
        "rows": rows,
    }
    given |= {"epsilons": epsilon, "trainers": trainer, "seeds": seeds, "epochs": epochs, "batch_size": batch_size}
    given |= {"learning_rate": learning_rate, "private_learning_rate": private_learning_rate, "delta": delta}
    size = e.sized(_QUICK if quick else _GapGrid(), given)
    columns = (text_column, label_column, id_column, user_column, group_column)
    workers = jobs if jobs is not None else 2 if quick else 1
    e.check_means(workers)
    tasks = _tasks(data, output, columns, size)
    report = run.report_gap(e.run(tasks, _outcome, jobs=workers, restart=restart))
    delivered = e.write(report, output, table.render_markdown(report), table.render_text, picture.draw)
    raise typer.Exit(exit_code(_code(report), exit_zero=False, delivered=delivered))


def _tasks(data: Path, output: Path, columns: tuple[str | None, ...], size: _GapGrid) -> "tuple[GapTask, ...]":
    """Check everything that can be checked before the first training, and lay the cells out."""
    from redteam.data import Columns
    from redteam.experiments.gap.cells import gap_tasks, open_gap
    from redteam.experiments.gap.grid import choose_trainers, gap_grid, parse_epsilons
    from redteam.plugins.attack import suited
    from redteam.plugins.registry import discover_attacks, discover_defenses
    from redteam.targets.target import Access
    from redteam.training.train import ModelChoice

    epsilons = parse_epsilons(size.epsilons)
    asked: dict[str, float | None] = {"epochs": size.epochs, "batch_size": size.batch_size}
    asked |= {"learning_rate": size.learning_rate}
    private = {"delta": size.delta, "learning_rate": size.private_learning_rate}
    trainers = choose_trainers(e.names(size.trainers), discover_defenses(), asked, private)
    e.make_folder(output)
    try_start(size.model)
    setup, notes = open_gap(
        data,
        output,
        suited(discover_attacks(), Access.WEIGHTS),
        columns=Columns(*columns),
        model=ModelChoice(size.model, size.layers, size.freeze_embeddings),
        rows=size.rows,
    )
    for note in notes:
        say(note)
    return gap_tasks(setup, trainers, gap_grid(trainers, epsilons, size.seeds), output)


def _outcome(result: "GapResult") -> str:
    from redteam.experiments.gap.table import short

    accounted = "" if result.guarantee is None else f", accounted {short(result.guarantee.accounted.epsilon)}"
    bound = "" if result.strongest is None else f", measured at least {short(result.strongest.interval.low)}"
    nothing = ", learned nothing" if result.untrained else ""
    return f"{result.accuracy.value:.1%} right{nothing}{accounted}{bound}"


def _code(report: "GapReport") -> int:
    from redteam.experiments.gap.table import attack_failures

    if any(claim.proven for claim in report.broken):
        return LEAK
    if report.failures or any(attack_failures(report.cells)):
        return INCONCLUSIVE
    # under noise a model may learn nothing, which is a result; without noise, or everywhere, it is no experiment
    failed = any(row.untrained and row.epsilon is None for row in report.rows)
    return INCONCLUSIVE if failed or all(row.untrained for row in report.rows) else PASS
