"""The cells of the gap experiment side by side (Dupuy et al. 2022, arXiv 2107.14586), and which claims are broken.

`open_gap` reads the data, `gap_tasks` lays the cells of a grid out, `run_cells` of all experiments trains and attacks
them, over processes and resumable cell by cell, and `report_gap` joins what they found.
"""

from collections.abc import Sequence
from typing import Any

from redteam import __version__
from redteam.experiments.cells import Task, published
from redteam.experiments.gap.cells import ALPHA, GapSetup, GapTask
from redteam.experiments.gap.grid import GapCell
from redteam.experiments.gap.report import BrokenClaim, GapReport, GapResult, gap_rows, strongest_bound
from redteam.experiments.report import FailedCell, now
from redteam.training.train import portable

Done = Sequence[tuple[Task[GapSetup, GapCell, GapResult], GapResult | FailedCell]]


def report_gap(done: Done) -> GapReport:
    """Return what all cells found, in the order of `done`, whichever was finished first.

    Where a measured bound exceeds what a cell accounts for, that cell is attacked once more with the allowed error
    divided by the number of cells that could have: only then is the claim proven broken (Bonferroni).
    """
    found = [(task, result) for task, result in done if isinstance(result, GapResult)]
    able = sum(result.guarantee is not None for _, result in found)
    return GapReport(
        settings=_settings([task for task, _ in done]),
        rows=gap_rows([result for _, result in found]),
        cells=tuple(result for _, result in found),
        failures=tuple(result for _, result in done if isinstance(result, FailedCell)),
        broken=tuple(_broken(task, result, able) for task, result in found if result.exceeds),
        created=now(),
        tool_version=__version__,
    )


def _broken(task: Task[GapSetup, GapCell, GapResult], result: GapResult, able: int) -> BrokenClaim:
    assert isinstance(task, GapTask)
    assert result.strongest is not None  # it exceeds
    assert result.guarantee is not None
    accounted, proven = result.guarantee.accounted.epsilon, True
    if able > 1:
        again = strongest_bound(task.attack(ALPHA / able).judged)  # the others have all of the error each
        proven = again is not None and not again.interval.low <= accounted
    return BrokenClaim(result.cell, accounted, result.strongest.interval.low, proven)


def _settings(tasks: Sequence[Task[GapSetup, GapCell, GapResult]]) -> dict[str, Any]:
    """Return what a reader must know to run the same experiment; nothing of it depends on where it ran."""
    setup = tasks[0].setup
    defenses = {task.cell.trainer: task.defense for task in tasks}
    return {
        "data": setup.data.name,
        "fingerprint": published(setup.data_sha256),
        "model": portable(setup.model),
        "holdout": setup.holdout,
        "alpha": ALPHA,
        "label_canaries": setup.canaries,
        "attacks": [attack.id for attack in setup.attacks],
        "seeds": sorted({task.cell.seed for task in tasks}),
        "trainers": {
            name: {"id": defense.id}
            | {k: v for k, v in defense.parameters().items() if k not in ("epsilon", "noise_multiplier")}
            for name, defense in defenses.items()
        },
    }
