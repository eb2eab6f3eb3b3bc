"""One cell of the gap experiment: train, attack, write down; and take what an earlier run has written.

A cell lives in a folder of its own: model, ledger, report.json and, last, cell.json. A cell.json of the same settings
is taken as it is; a training that was broken off goes on where it was. The models are measurements and not for release:
their noise follows from a public seed, so that the same experiment gives the same numbers.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redteam.auditing.inputs import AuditInputs, Sources, open_inputs
from redteam.auditing.settings import FPRS, Settings
from redteam.core.errors import DataError, StatisticsError
from redteam.core.files import write_atomic
from redteam.data import Columns
from redteam.data.ledger import Ledger, ledger_path
from redteam.experiments.experiment import as_saved, foreign_code, published, save_cell, take_cell
from redteam.experiments.gap.grid import Cell
from redteam.experiments.gap.report import CellResult
from redteam.plugins.attack import Attack
from redteam.plugins.defense import Defense, PrivateTraining
from redteam.plugins.settings import settings_of
from redteam.report.values import AuditReport
from redteam.statistics.interval import Interval
from redteam.training.train import Coins, ModelChoice, portable, train

FORMAT = "redteam.cell/2"
ALPHA = 0.05  # of all intervals of one cell together


@dataclass(frozen=True)
class Experiment:
    """What all cells share. `weights` is the fingerprint of a starting model that is a directory."""

    data: Path
    data_sha256: str
    columns: Columns
    model: ModelChoice
    weights: str | None
    holdout: float
    attacks: tuple[Attack, ...]


@dataclass(frozen=True)
class Task:
    """One cell to be done: with which trainer, in which folder, and forgetting what is there or not."""

    experiment: Experiment
    cell: Cell
    defense: Defense
    folder: Path
    restart: bool = False

    def identity(self) -> dict[str, Any]:
        """Return all that the cell's numbers depend on, as JSON gives it back."""
        shared = self.experiment
        return as_saved(
            {
                "data": published(shared.data_sha256),
                "columns": asdict(shared.columns),
                "model": portable(shared.model),
                "weights": shared.weights,
                "holdout": shared.holdout,
                "attacks": {attack.id: settings_of(attack) for attack in shared.attacks},
                "code": foreign_code((*shared.attacks, self.defense)),
                "alpha": ALPHA,
                "fprs": list(FPRS),
                "defense": self.defense.id,
                "settings": self.defense.parameters(),
                "seed": self.cell.seed,
            }
        )


def take_gap_cell(task: Task) -> CellResult | None:
    """Return what an earlier run has written; None where there is nothing. UsageError where it is of other settings."""
    return None if task.restart else take_cell(task, CellResult, format=FORMAT)


def run_cell(task: Task) -> CellResult:
    """Train and attack one model and write the cell down, cell.json last."""
    task.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # models that leak are for nobody else
    model, clock = task.folder / "model.pt", _Clock()
    experiment, cell = task.experiment, task.cell
    files = train(
        experiment.data,
        model,
        task.defense,
        columns=experiment.columns,
        model=experiment.model,
        coins=Coins(experiment.holdout, seed=cell.seed),
        restart=task.restart,
        noise_from_seed=isinstance(task.defense, PrivateTraining),  # repeatable, and so not for release: audits say it
        progress=clock,
    )
    if Ledger.load(files.ledger).data.sha256 != experiment.data_sha256:
        raise DataError(f"{experiment.data}: changed while the experiment ran; start again")
    report = attack_cell(task, alpha=ALPHA)
    write_atomic(task.folder / "report.json", report.to_json())
    result = _result(task, report, clock.seconds, Ledger.load(files.ledger).recipe.parameters.get("epochs"))
    save_cell(task, result, format=FORMAT)
    return result


def attack_cell(task: Task, *, alpha: float) -> AuditReport:
    """Audit a trained cell as `redteam audit` does, with all intervals together at `alpha`."""
    from redteam.auditing.run import audit

    inputs: AuditInputs = open_inputs(str(task.folder / "model.pt"), Sources(), {})
    return audit(
        inputs.target,
        inputs.split,
        task.experiment.attacks,
        settings=Settings(alpha, FPRS, task.cell.seed),
        guarantee=Ledger.load(ledger_path(task.folder / "model.pt")).guarantee,
    )


def forget_cell(folder: Path) -> None:
    """Remove what a cell consists of, the checkpoint of its training included."""
    for path in (folder / "cell.json", folder / "report.json", ledger_path(folder / "model.pt")):
        path.unlink(missing_ok=True)
    for path in folder.glob("model.pt*"):
        path.unlink()


def _result(task: Task, report: AuditReport, seconds: float | None, passes: Any) -> CellResult:
    if report.accuracy is None:
        why = "; ".join(f"{failure.attack}: {failure.reason}" for failure in report.failures)
        raise StatisticsError(f"no attack gave evidence ({why or report.grade_reason})")
    return CellResult(
        trainer=task.cell.trainer,
        defense=task.defense.id,
        epsilon=task.cell.epsilon,
        seed=task.cell.seed,
        members=report.data.members,
        nonmembers=report.data.nonmembers,
        accuracy=_share(report.accuracy.nonmembers, _draws(report)),
        accuracy_members=report.accuracy.members,
        seconds=seconds,
        passes=passes if isinstance(passes, int) else None,
        guarantee=report.guarantee,
        alpha=report.multiplicity.alpha,
        evidence=report.evidence,
        failures=report.failures,
        commonest=report.accuracy.commonest,
        accuracy_by_user=report.accuracy.by_user,
    )


def _draws(report: AuditReport) -> int:
    """Return how many of the held-out texts count as independent: one a user where users were held out."""
    return report.data.nonmembers if report.unit == "example" or report.users is None else report.users.nonmembers


def _share(share: float, of: int) -> Interval:
    """Return a share of so many independent texts with its interval (Clopper and Pearson 1934)."""
    from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low

    count = round(share * of)
    low, high = (float(bound(count, of, ALPHA / 2)) for bound in (clopper_pearson_low, clopper_pearson_high))
    return Interval(share, min(low, share), max(high, share), ALPHA)


class _Clock:
    """Counts the processor time of a training loop, also of one that is resumed: per step seen, times all steps."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.first: tuple[int, float] | None = None
        self.last = (0, 0.0)
        self.steps = 0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Note the time after a step."""
        self.last, self.steps = (step, time.process_time()), steps
        self.first = self.first or self.last

    @property
    def seconds(self) -> float | None:
        """The processor seconds of all steps; None where fewer than two were seen."""
        if self.first is None or self.last[0] <= self.first[0]:
            return None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0]) * self.steps
