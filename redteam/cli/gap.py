"""`redteam gap`: train with and without privacy, attack every model, and show theory beside practice."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redteam.cli import experiment as e
from redteam.cli import options as o
from redteam.cli.opening import try_start
from redteam.cli.present import Trackers, exit_code, log_to, say
from redteam.plugins.settings import Setting

if TYPE_CHECKING:
    from redteam.experiments.gap.cells import GapTask
    from redteam.experiments.gap.report import GapResult

Opt = typer.Option
Epsilons = Annotated[str | None, Opt("--epsilon", help="List of epsilons [default: inf,16,8,4,2,1,0.5].")]
Trainers = Annotated[str | None, Opt("--trainer", help="List of trainers [default: plain,dpsgd,edpsgd,microbatch].")]
Privatised = Annotated[str, Opt("--privatise", help="Mechanisms before plain training: a list of MECHANISM=EPSILON.")]


@dataclass(frozen=True)
class _GapTraining(e.TrainingSettings):
    private_learning_rate: float | None = Setting(
        "Peak learning rate of trainers with an epsilon; none: the learning rate.", least=1e-9, most=10
    ).default(None)
    delta: float | None = Setting("The delta of the guarantees.").default(None)


@dataclass(frozen=True, kw_only=True)
class _GapGrid(e.Grid):
    epsilons: str = "inf,16,8,4,2,1,0.5"
    trainers: str = "plain,dpsgd,edpsgd,microbatch"
    seeds: int = 5
    privatised: str = ""
    embeddings: str = "minilm"
    private_learning_rate: float | None = None
    delta: float | None = None
    canaries: int | None = None
    few_passes: bool = False

    def passes(self, labels: int) -> int | None:
        """Return how many passes private trainers are to make, None for what each settles by itself."""
        usual = (_PASSES if labels <= _FEW_LABELS else _PASSES_OF_MANY) if self.few_passes else None
        return usual if self.epochs is None else self.epochs


# A small model on as many rows as five minutes take, and canaries enough for a bound that an adversary of the model
# alone can show. Private trainers settle more passes than that; where noise is what holds them back, few over many rows
# lose little. Below epsilon 4 micro-batches do not learn 77 labels at all.
_QUICK = _GapGrid(epsilons="8,4", seeds=1, rows=5_000, canaries=2_000, few_passes=True)
_PASSES, _FEW_LABELS, _PASSES_OF_MANY = 8, 20, 15


def gap(
    *,
    data: o.LabelledTexts,
    output: e.Folder,
    model: o.ModelOptions,
    epsilon: Epsilons = None,
    trainer: Trainers = None,
    privatise: Privatised = "",
    embeddings: o.Embeddings = "minilm",
    seeds: e.Seeds = None,
    set: o.Set = None,
    rows: e.Rows = None,
    label_canaries: o.LabelCanaries = None,
    swaps: o.Swaps = None,
    jobs: o.Jobs = None,
    quick: e.Quick = False,
    restart: o.Restart = False,
    log: Trackers = None,
    columns: o.RowOptions,
) -> None:
    """Set nominal, accounted and measured epsilon side by side.

    Label canaries are a tenth of the rows, 2,000 at most; with --quick 2,000; --label-canaries 0 plants none.
    --set takes epochs, batch_size, learning_rate, private_learning_rate (of trainers with an epsilon) and delta.
    """
    from redteam.experiments.gap import page, picture, run, table
    from redteam.integrations.logged import gap_logged
    from redteam.plugins.settings import tune

    (training,) = tune((_GapTraining(),), set or [])
    usual = _QUICK if quick else _GapGrid()
    given: dict[str, Any] = {"rows": rows, "epsilons": epsilon, "trainers": trainer, "seeds": seeds}
    given |= {"privatised": privatise, "embeddings": embeddings}
    size = e.sized(usual, model, training, **given, canaries=label_canaries)
    workers = jobs if jobs is not None else 2 if quick else 1
    e.check_means(workers)
    tasks = _tasks(data, output, columns, size, tuple(swaps or ()))
    report = run.report_gap(e.run(tasks, _outcome, jobs=workers, restart=restart))
    written = {"md": table.render_markdown(report), "html": page.render_page(report)}
    delivered = e.write(report, output, written, table.render_text, picture.draw)
    delivered = log_to(log, lambda: gap_logged(report)) and delivered
    raise typer.Exit(exit_code(e.code(page.outcome(report)), exit_zero=False, delivered=delivered))


def _tasks(
    data: Path, output: Path, columns: o.RowOptions, size: _GapGrid, swaps: tuple[str, ...]
) -> "tuple[GapTask, ...]":
    """Check everything that can be checked before the first training, and lay the cells out."""
    from redteam.experiments.gap.cells import gap_tasks, open_gap
    from redteam.experiments.gap.grid import choose_trainers, gap_grid, parse_epsilons, parse_privatised
    from redteam.plugins.attack import suited
    from redteam.plugins.registry import discover_attacks, discover_defenses
    from redteam.targets.target import Access

    epsilons = parse_epsilons(size.epsilons)
    private = {"delta": size.delta, "learning_rate": size.private_learning_rate}
    found = discover_defenses()
    choose_trainers(e.names(size.trainers), found, size.recipe, private)  # or refused, before any work
    privatised = parse_privatised(size.privatised)
    (plain,) = choose_trainers(["plain"], found, size.recipe)
    e.make_folder(output)
    try_start(size.model)
    attacks = suited(discover_attacks(), Access.WEIGHTS)
    how: dict[str, Any] = {"model": size.choice, "rows": size.rows, "canaries": size.canaries, "swaps": swaps}
    how["embeddings"] = size.embeddings
    setup, notes = open_gap(data, output, attacks, columns=columns.columns(), **how)
    for note in notes:
        say(note)
    private["epochs"] = size.passes(setup.labels)
    trainers = choose_trainers(e.names(size.trainers), found, size.recipe, private)
    cells = gap_grid(trainers, epsilons, size.seeds, privatised)
    return gap_tasks(setup, trainers, cells, output, privatised, plain.defense)


def _outcome(result: "GapResult") -> str:
    from redteam.experiments.gap.table import short

    accounted = "" if result.guarantee is None else f", accounted {short(result.guarantee.accounted.epsilon)}"
    bound = "" if result.strongest is None else f", measured at least {short(result.strongest.interval.low)}"
    nothing = ", learned nothing" if result.untrained else ""
    return f"{result.accuracy.value:.1%} right{nothing}{accounted}{bound}"
