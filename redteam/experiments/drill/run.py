"""The canary drill as a grid: plant, train and extract, over sentences, repetitions, labels and defences.

The experiment of Parikh, Dupuy and Gupta (ACL 2022) for a classifier: `run_drill` does the cells of a grid, over
processes and resumable cell by cell, and `report_drill` puts them side by side.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from redteam import __version__
from redteam.canary import Planting
from redteam.canary.alphabets import choose_alphabets
from redteam.canary.ask import signals_of, without_searches
from redteam.canary.draw import draw_canaries
from redteam.core.errors import DataError, UsageError
from redteam.core.parallel import Failed
from redteam.data import Columns, fingerprint, read_examples
from redteam.data.ledger import flip_coins
from redteam.experiments.drill.cells import (
    ALPHA,
    Drill,
    Task,
    forget_cell,
    plan_of,
    rows_in,
    run_cell,
    start_of,
    take_drill_cell,
)
from redteam.experiments.drill.grid import Cell, Trainer
from redteam.experiments.drill.report import CellResult, DrillReport, FailedCell, rows_of
from redteam.experiments.experiment import published, run_cells, starting_directory, starting_weights, write_rows
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.settings import settings_of
from redteam.targets.target import Access
from redteam.training.train import ModelChoice, portable

_FEWEST_ROWS = 50
_TESTED = 0.1  # share of the texts that is kept apart to test on
_MOST_TESTED = 2000


def open_drill(
    data: Path,
    folder: Path,
    attacks: Sequence[ExtractionAttack],
    *,
    columns: Columns = Columns(),
    model: ModelChoice = ModelChoice(),
    rows: int | None = None,
    canaries: int = 20,
    decoys: int = 0,
) -> tuple[Drill, tuple[str, ...]]:
    """Read the data once and return what all cells share, with what reading it guessed.

    A tenth of the texts is kept apart to test on; the two parts, of `rows` random rows where that is given, are written
    to files in `folder`. Raises DataError or UsageError for data that no cell could be trained on.
    """
    reading, source = read_examples(data, columns), fingerprint(data)
    examples = replace(reading.examples, ids=None, users=None, groups=None)  # secrets have no owner here
    if rows is not None and rows < _FEWEST_ROWS:
        raise UsageError(f"--rows {rows}: at least {_FEWEST_ROWS} are needed to train and to test")
    if not attacks:
        raise UsageError("no attack to extract with; see: redteam attacks")
    if rows is not None and rows < len(examples):
        examples = examples.take(np.sort(np.random.default_rng(0).permutation(len(examples))[:rows]))
    sides = flip_coins(examples, holdout=_TESTED, seed=0, key=source)
    kept, test = examples.of_rows(sides["members"]), examples.of_rows(sides["nonmembers"])
    test = test.take(range(0, len(test), max(1, -(-len(test) // _MOST_TESTED))))  # a file may be sorted by label
    if len(kept) < 2 or not len(test):
        raise DataError(f"{data}: {len(examples)} rows are too few to train and to test")
    weights, base = starting_weights(model.spec), starting_directory(model.spec)
    shared = Drill(
        write_rows(kept, folder, "users"),
        write_rows(test, folder, "test"),
        source,
        len(examples),
        model,
        weights,
        base,
        canaries,
        decoys,
        tuple(attacks),
    )
    return shared, reading.notes


def labels_of(drill: Drill) -> tuple[str, ...]:
    """Return the labels of the data that canaries go into, sorted."""
    return tuple(sorted(set(read_examples(drill.data, Columns("text", "label")).examples.labels or ())))


def tasks_of(
    drill: Drill,
    trainers: Sequence[Trainer],
    cells: Sequence[Cell],
    folder: Path,
    *,
    restart: bool = False,
    kept: Sequence[str] | None = None,
) -> tuple[Task, ...]:
    """Return what there is to do for each cell; with `restart`, forget what an earlier run has done of it.

    With `kept`, attacks that search are left out where another looks at every candidate of every cell, but for those
    ids. Raises UsageError or DataError where a cell could not be planted: before the first training.
    """
    plantings = list(_check_plans(drill, cells))
    if kept is not None:
        drill = _without_searches(drill, plantings, kept)
    by_name = {trainer.name: trainer for trainer in trainers}
    tasks = tuple(Task(drill, cell, by_name[cell.defense].defense, folder / cell.folder) for cell in cells)
    if restart:
        for task in tasks:
            forget_cell(task.folder)
    return tasks


def run_drill(
    tasks: Sequence[Task], *, workers: int = 1
) -> Generator[tuple[Task, CellResult | FailedCell], None, None]:
    """Yield every cell as it is done: first those that an earlier run has written, then the others.

    Raises UsageError before any training where a cell was written with other settings.
    """
    for task, outcome in run_cells(tasks, take_drill_cell, run_cell, workers=workers):
        if isinstance(outcome, Failed):
            cell = task.cell
            yield task, FailedCell(cell.template, cell.repetitions, cell.label, cell.defense, cell.seed, outcome.reason)
        else:
            yield task, outcome


def report_drill(done: Sequence[tuple[Task, CellResult | FailedCell]], *, required: bool = False) -> DrillReport:
    """Return what all cells found, in the order of `done`, whichever was finished first.

    The error of all findings is shared equally over the tests that the grid can make (Bonferroni): every attack's in
    every row, whether or not a cell failed or an attack did not apply, and in every row whose cells an earlier and
    larger grid has left in the folder. It holds for a number of seeds that is chosen before the first look. With
    `required`, an attack that does not apply counts as broken.
    """
    tasks = [task for task, _ in done]
    cells = [result for _, result in done if isinstance(result, CellResult)]
    rows = {(cell.template, cell.repetitions, cell.label, cell.defense) for cell in (task.cell for task in tasks)}
    rows |= set(rows_in(tasks[0].folder.parent))
    tests = max(1, len(rows) * sum(len(signals_of(attack)) for attack in tasks[0].drill.attacks))
    skipped = tuple(dict.fromkeys(_failures(cells, "not_applicable")))
    return DrillReport(
        settings=_settings(tasks),
        alpha=ALPHA,
        tests=tests,
        each=ALPHA / tests,
        rows=rows_of(cells, alpha=ALPHA, each=ALPHA / tests),
        failures=tuple(result for _, result in done if isinstance(result, FailedCell)),
        broken=(*dict.fromkeys(_failures(cells, "failed")), *(skipped if required else ()), *_without_attack(cells)),
        skipped=() if required else skipped,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )


def _failures(cells: Sequence[CellResult], kind: str) -> Iterator[str]:
    """Yield one line for each attack that gave nothing on a cell, and why."""
    for cell in cells:
        for failure in cell.failures:
            if failure.kind == kind:
                where = f"{cell.template}, R {cell.repetitions}, label {cell.label}, {cell.defense}"
                word = "broke" if kind == "failed" else "does not apply"
                yield f"attack {failure.attack} {word} on {where}: {failure.reason}"


def _without_attack(cells: Sequence[CellResult]) -> Iterator[str]:
    """Yield one line for each cell on which no attack could be run: that nothing came out means nothing there."""
    for cell in cells:
        if not cell.found:
            yield f"no attack could be run on {cell.words}"


def _settings(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return what a reader must know to run the same drill; nothing of it depends on where it ran."""
    shared, cells = tasks[0].drill, [task.cell for task in tasks]
    return {
        "fingerprint": published(shared.data_sha256),
        "rows": shared.rows,
        "model": portable(shared.model),
        "canaries": shared.canaries,
        "labels": list(dict.fromkeys(task.cell.label for task in tasks)),
        "decoys": shared.decoys,
        "attacks": {attack.id: settings_of(attack) for attack in shared.attacks},
        "seeds": {cell.label: sorted({t.cell.seed for t in tasks if t.cell.label == cell.label}) for cell in cells},
        "defenses": {t.cell.defense: {"id": t.defense.id, **t.defense.parameters()} for t in tasks},
    }


def _without_searches(drill: Drill, plantings: Sequence[Planting], kept: Sequence[str]) -> Drill:
    """Leave searches out of all cells or of none: a row without them would not compare with the others."""
    parts = [without_searches(drill.attacks, planting, Access.WEIGHTS, kept=kept) for planting in plantings]
    run, spared = max(parts, key=lambda part: len(part[0]))
    return replace(drill, attacks=run, spared=spared)


def _check_plans(drill: Drill, cells: Sequence[Cell]) -> Iterator[Planting]:
    """Draw every planting once, and build a model for every sentence, to see whether it can be done."""
    examples = read_examples(drill.data, Columns("text", "label")).examples
    texts, labels, key = examples.texts or (), examples.labels or (), fingerprint(drill.data)
    most, started = max(cell.repetitions for cell in cells), set()
    for cell in {(cell.template, cell.label, cell.seed): cell for cell in cells}.values():
        plan = plan_of(replace(cell, repetitions=most), drill)
        symbols = choose_alphabets(plan.check(), {}, texts=texts)
        canaries = draw_canaries(plan, symbols, texts=texts, labels=labels, key=key)
        planting = Planting("", "", len(texts), cell.seed, key, symbols, canaries)
        if cell.template not in started:
            started.add(cell.template)
            start_of(drill.model, examples, examples, planting, seed=cell.seed)
        yield planting
