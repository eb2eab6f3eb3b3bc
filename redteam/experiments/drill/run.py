"""The canary drill (Parikh, Dupuy and Gupta, ACL 2022) for a classifier: what is laid out, and what it found.

`open_drill` reads the data, `drill_tasks` lays the cells of a grid out, `run_cells` of all experiments plants, trains
and extracts, over processes and resumable cell by cell, and `report_drill` joins what they found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redteam import __version__
from redteam.canary import Planting
from redteam.canary.alphabets import choose_alphabets
from redteam.canary.draw import draw_canaries
from redteam.canary.run import signals_of, without_searches
from redteam.core import DataError, UsageError
from redteam.data import Columns, fingerprint, read_examples
from redteam.data.ledger import assign_membership
from redteam.experiments.cells import Task, published
from redteam.experiments.drill.cells import ALPHA, COLUMNS, MOST_TESTED, DrillSetup, DrillTask, rows_in, start_of
from redteam.experiments.drill.grid import DrillCell, row_words
from redteam.experiments.drill.report import DrillReport, DrillResult, drill_rows
from redteam.experiments.report import FailedCell, now
from redteam.experiments.setup import Trainer, some_rows, starting_directory, starting_weights, write_rows
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.settings import settings_of
from redteam.targets.target import Access
from redteam.training.train import ModelChoice, portable

_TESTED = 0.1  # share of the texts that is kept apart to test on

Done = Sequence[tuple[Task[DrillSetup, DrillCell, DrillResult], DrillResult | FailedCell]]


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
) -> tuple[DrillSetup, tuple[str, ...]]:
    """Read the data once and return what all cells share, with what reading it guessed.

    A tenth of the texts is kept apart to test on; the two parts, of `rows` random rows where that is given, are written
    to files in `folder`. Raises DataError or UsageError for data that no cell could be trained on.
    """
    if not attacks:
        raise UsageError("no attack to extract with; see: redteam attacks")
    reading, source = read_examples(data, columns), fingerprint(data)
    examples = replace(reading.examples, ids=None, users=None, groups=None)  # secrets have no owner here
    examples = some_rows(examples, rows)
    sides = assign_membership(examples, holdout=_TESTED, seed=0, key=source)
    kept, test = examples.of_rows(sides["members"]), examples.of_rows(sides["nonmembers"])
    test = test.take(range(0, len(test), max(1, -(-len(test) // MOST_TESTED))))  # a file may be sorted by label
    if len(kept) < 2 or not len(test):
        raise DataError(f"{data}: {len(examples)} rows are too few to train and to test")
    weights, base = starting_weights(model.spec), starting_directory(model.spec)
    shared = DrillSetup(
        write_rows(kept, folder, "users"),
        source,
        model,
        weights,
        tuple(attacks),
        write_rows(test, folder, "test"),
        len(examples),
        base,
        canaries,
        decoys,
    )
    return shared, reading.notes


def labels_of(setup: DrillSetup) -> tuple[str, ...]:
    """Return the labels of the data that canaries go into, sorted."""
    return tuple(sorted(set(read_examples(setup.data, COLUMNS).examples.labels or ())))


def drill_tasks(
    setup: DrillSetup,
    trainers: Sequence[Trainer],
    cells: Sequence[DrillCell],
    folder: Path,
    *,
    kept: Sequence[str] | None = None,
) -> tuple[DrillTask, ...]:
    """Return what there is to do for each cell, in folders of their own inside `folder`.

    With `kept`, attacks that search are left out where another looks at every candidate of every cell, but for those
    ids. Raises UsageError or DataError where a cell could not be planted: before the first training.
    """
    plantings = list(_check_plans(setup, cells))
    if kept is not None:
        setup = _without_searches(setup, plantings, kept)
    by_name = {trainer.name: trainer for trainer in trainers}
    return tuple(DrillTask(setup, cell, by_name[cell.defense].defense, folder / cell.folder) for cell in cells)


def report_drill(done: Done, *, required: bool = False) -> DrillReport:
    """Return what all cells found, in the order of `done`, whichever was finished first.

    The error of all findings is shared equally over the tests that the grid can make (Bonferroni): every attack's in
    every row, whether or not a cell failed or an attack did not apply, and in every row whose cells an earlier and
    larger grid has left in the folder. It holds for a number of seeds that is chosen before the first look. With
    `required`, an attack that does not apply counts as broken.
    """
    tasks = [task for task, _ in done]
    cells = [result for _, result in done if isinstance(result, DrillResult)]
    rows = {task.cell.row for task in tasks} | set(rows_in(tasks[0].folder.parent))
    tests = max(1, len(rows) * sum(len(signals_of(attack)) for attack in tasks[0].setup.attacks))
    skipped = tuple(dict.fromkeys(_failures(cells, "not_applicable")))
    return DrillReport(
        settings=_settings(tasks),
        alpha=ALPHA,
        tests=tests,
        each=ALPHA / tests,
        rows=drill_rows(cells, alpha=ALPHA, each=ALPHA / tests),
        failures=tuple(result for _, result in done if isinstance(result, FailedCell)),
        broken=(*dict.fromkeys(_failures(cells, "failed")), *(skipped if required else ()), *_without_attack(cells)),
        skipped=() if required else skipped,
        created=now(),
        tool_version=__version__,
    )


def _failures(cells: Sequence[DrillResult], kind: str) -> Iterator[str]:
    """Yield one line for each attack that gave nothing on a cell, and why."""
    word = "broke" if kind == "failed" else "does not apply"
    for one in cells:
        for failure in one.failures:
            if failure.kind == kind:
                yield f"attack {failure.attack} {word} on {row_words(*one.cell.row)}: {failure.reason}"


def _without_attack(cells: Sequence[DrillResult]) -> Iterator[str]:
    """Yield one line for each cell on which no attack could be run: that nothing was extracted means nothing there."""
    yield from (f"no attack could be run on {one.cell.words}" for one in cells if not one.found)


def _settings(tasks: Sequence[Task[DrillSetup, DrillCell, DrillResult]]) -> dict[str, Any]:
    """Return what a reader must know to run the same drill; nothing of it depends on where it ran."""
    shared, cells = tasks[0].setup, [task.cell for task in tasks]
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


def _without_searches(setup: DrillSetup, plantings: Sequence[Planting], kept: Sequence[str]) -> DrillSetup:
    """Leave searches out of all cells or of none: a row without them would not compare with the others."""
    parts = [without_searches(setup.attacks, planting, Access.WEIGHTS, kept=kept) for planting in plantings]
    run, spared = max(parts, key=lambda part: len(part[0]))
    return replace(setup, attacks=run, spared=spared)


def _check_plans(setup: DrillSetup, cells: Sequence[DrillCell]) -> Iterator[Planting]:
    """Draw every planting once, and build a model for every sentence, to see whether it can be done."""
    examples = read_examples(setup.data, COLUMNS).examples
    texts, labels, key = examples.texts or (), examples.labels or (), fingerprint(setup.data)
    most, started = max(cell.repetitions for cell in cells), set()
    for cell in {(cell.template, cell.label, cell.seed): cell for cell in cells}.values():
        plan = setup.plan(replace(cell, repetitions=most))
        symbols = choose_alphabets(plan.check(), {}, texts=texts)
        canaries = draw_canaries(plan, symbols, texts=texts, labels=labels, key=key)
        planting = Planting("", "", len(texts), cell.seed, key, symbols, canaries)
        if cell.template not in started:
            started.add(cell.template)
            start_of(setup.model, examples, examples, planting, seed=cell.seed)
        yield planting
