"""Theory against practice: one model per trainer, epsilon and seed, what each claims, earns, and gives away.

The experiment of the seed paper (Dupuy et al. 2022, arXiv 2107.14586) as one function: `run_gap` trains and attacks the
cells of a grid, over processes and resumable cell by cell, and `report_gap` puts them side by side.
"""

from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from redteam import __version__
from redteam.core.errors import UsageError
from redteam.core.parallel import Failed
from redteam.data import Columns, fingerprint, read_examples
from redteam.experiments.experiment import published, run_cells, starting_weights, write_rows
from redteam.experiments.gap.cells import ALPHA, Experiment, Task, attack_cell, forget_cell, run_cell, take_gap_cell
from redteam.experiments.gap.grid import Cell, Trainer
from redteam.experiments.gap.report import BrokenClaim, CellResult, FailedCell, GapReport, rows_of, strongest_bound
from redteam.plugins.attack import Attack
from redteam.training.train import ModelChoice, portable

_FEWEST_ROWS = 50


def open_experiment(
    data: Path,
    folder: Path,
    attacks: Sequence[Attack],
    *,
    columns: Columns = Columns(),
    model: ModelChoice = ModelChoice(),
    holdout: float = 0.5,
    rows: int | None = None,
) -> tuple[Experiment, tuple[str, ...]]:
    """Read the data once and return what all cells share, with what reading it guessed.

    With `rows`, so many random ones are written to a file in `folder` and used instead. Raises DataError or UsageError
    for data that no cell could be trained on.
    """
    reading = read_examples(data, columns)
    if rows is not None and rows < _FEWEST_ROWS:
        raise UsageError(f"--rows {rows}: at least {_FEWEST_ROWS} are needed to train and to attack")
    if rows is not None and rows < len(reading.examples):
        some = np.sort(np.random.default_rng(0).permutation(len(reading.examples))[:rows])
        kept = reading.examples.take(some)
        named = {"id": kept.ids, "user": kept.users, "group": kept.groups}
        data, columns = write_rows(kept, folder, "rows"), Columns("text", "label", **_known(named))
    shared = Experiment(data, fingerprint(data), columns, model, starting_weights(model.spec), holdout, tuple(attacks))
    return shared, reading.notes


def _known(columns: dict[str, tuple[str, ...] | None]) -> dict[str, str]:
    return {what: what for what, cells in columns.items() if cells is not None}


def tasks_of(
    experiment: Experiment, trainers: Sequence[Trainer], cells: Sequence[Cell], folder: Path, *, restart: bool = False
) -> tuple[Task, ...]:
    """Return what there is to do for each cell; with `restart`, forget what an earlier run has done of it."""
    by_name = {trainer.name: trainer for trainer in trainers}
    tasks = tuple(
        Task(experiment, cell, by_name[cell.trainer].at(cell.epsilon), folder / cell.folder) for cell in cells
    )
    if restart:
        for task in tasks:
            forget_cell(task.folder)
    return tasks


def run_gap(tasks: Sequence[Task], *, workers: int = 1) -> Generator[tuple[Task, CellResult | FailedCell], None, None]:
    """Yield every cell as it is done: first those that an earlier run has written, then the others.

    Raises UsageError before any training where a cell was written with other settings.
    """
    for task, outcome in run_cells(tasks, take_gap_cell, run_cell, workers=workers):
        if isinstance(outcome, Failed):
            yield task, FailedCell(task.cell.trainer, task.cell.epsilon, task.cell.seed, outcome.reason)
        else:
            yield task, outcome


def report_gap(done: Sequence[tuple[Task, CellResult | FailedCell]]) -> GapReport:
    """Return what all cells found, in the order of `done`, whichever was finished first.

    Where a measured bound exceeds what a cell earned, that cell is attacked once more with the allowed error divided by
    the number of cells that could have: only then is the claim proven broken (Bonferroni).
    """
    cells = [result for _, result in done if isinstance(result, CellResult)]
    able = sum(cell.guarantee is not None for cell in cells)
    broken = [_broken(task, result, able) for task, result in done if isinstance(result, CellResult) and result.exceeds]
    return GapReport(
        settings=_settings([task for task, _ in done]),
        rows=rows_of(cells),
        cells=tuple(cells),
        failures=tuple(result for _, result in done if isinstance(result, FailedCell)),
        broken=tuple(broken),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )


def _broken(task: Task, cell: CellResult, able: int) -> BrokenClaim:
    assert cell.strongest is not None  # it exceeds
    assert cell.guarantee is not None
    earned, found = cell.guarantee.accounted.epsilon, cell.strongest
    if able > 1:
        again = strongest_bound(attack_cell(task, alpha=ALPHA / able).evidence)
        proven = again is not None and not again.interval.low <= earned
    else:
        proven = True
    return BrokenClaim(cell.trainer, cell.epsilon, cell.seed, earned, found.interval.low, proven)


def _settings(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return what a reader must know to run the same experiment; nothing of it depends on where it ran."""
    shared = tasks[0].experiment
    defenses = {task.cell.trainer: task.defense for task in tasks}
    return {
        "data": shared.data.name,
        "fingerprint": published(shared.data_sha256),
        "model": portable(shared.model),
        "holdout": shared.holdout,
        "alpha": ALPHA,
        "attacks": [attack.id for attack in shared.attacks],
        "seeds": sorted({task.cell.seed for task in tasks}),
        "trainers": {
            name: {"id": defense.id}
            | {k: v for k, v in defense.parameters().items() if k not in ("epsilon", "noise_multiplier")}
            for name, defense in defenses.items()
        },
    }
