"""One cell of the drill: plant, train and extract.

A cell lives in a folder of its own: the planted data and its canary ledger, model.pt and, last, cell.json.
All rows are trained on, so that R is what it says: no membership is assigned, and these models cannot be audited for
it. They are measurements and not for release: their noise, if any, follows from a public seed.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redteam.canary import (
    Planted,
    Planting,
    PlantingPlan,
    canaries_path,
    check_tokenizer,
    learn_from,
    mark_planted,
    plant,
)
from redteam.canary.extract import Extraction, extract
from redteam.canary.run import Attacker
from redteam.core.progress import Progress, phase, unwatched
from redteam.data import Columns, Examples, read_examples
from redteam.data.pattern import Pattern
from redteam.data.planting import candidates_left, crowded, fewest_left
from redteam.experiments.cells import Task
from redteam.experiments.drill.grid import DrillCell
from redteam.experiments.drill.report import DrillResult
from redteam.experiments.setup import Setup
from redteam.models.bundle import save_bundle
from redteam.models.tokens import cut_at
from redteam.plugins.defense import Checkpoint, Trained
from redteam.plugins.extraction import ExtractionAttack
from redteam.report.values import Failure
from redteam.targets.target import Classifier
from redteam.training.train import ModelChoice

if TYPE_CHECKING:
    from redteam.models.initial import InitialModel

MOST_TESTED = 2000
COLUMNS = Columns("text", "label")  # of the files that a drill writes
ALPHA = 0.05  # of all comparisons with held-out canaries of a whole drill together, and of each interval on its own


@dataclass(frozen=True)
class DrillSetup(Setup):
    """What all cells share: the users' rows to plant among, those kept apart to test on, and what attacks.

    `data` and `test` are files with columns text and label, `data_sha256` of the file they were made from. `base` is
    the directory that trainings start from, known to the attacker. `spared` are attacks that are not run, and why.
    """

    attacks: tuple[ExtractionAttack, ...]
    test: Path
    rows: int
    base: Path | None
    canaries: int  # in each model, but for one a model
    decoys: int
    spared: tuple[Failure, ...] = ()

    def plan(self, cell: DrillCell) -> PlantingPlan:
        """Return what is planted for a cell."""
        canaries = cell.canaries(self.canaries)
        return PlantingPlan((cell.template,), canaries, (cell.repetitions,), cell.plan_label, self.decoys, cell.seed)


class DrillTask(Task[DrillSetup, DrillCell, DrillResult]):
    """One cell to be done: with which defence, in which folder."""

    kind, format = DrillResult, "redteam.drill-cell/3"

    def own(self) -> dict[str, Any]:
        """Return what the numbers depend on, beside that which all experiments share."""
        setup, cell = self.setup, self.cell
        return {
            "rows": setup.rows,
            "files": [setup.data.name, setup.test.name],  # named after what is in them
            "label": cell.label,
            "canaries": cell.canaries(setup.canaries),
            "decoys": setup.decoys,
            "cell": asdict(cell),
        }

    def run(self, watch: Progress = unwatched) -> DrillResult:
        """Plant, train and extract."""
        setup, planted = self.setup, _plant(self)
        trained, passes = _train(self, planted, phase(watch, "training"))
        save_bundle(trained.bundle, self.folder / "model.pt", mode=0o600)
        report = extract(
            trained.target,
            planted.planting,
            setup.attacks,
            attacker=Attacker(base=setup.base),
            spared=setup.spared,
            alpha=ALPHA,
            seed=self.cell.seed,
            progress=phase(watch, "extracting"),
        )
        return _result(self, planted, report, trained, passes)


def rows_in(folder: Path) -> Iterator[tuple[str, int, str, str]]:
    """Yield sentence, repetitions, label and defence of every finished cell in a drill's folder, of whatever grid."""
    for path in sorted(folder.glob("*/cell.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads(path.read_text(encoding="utf-8"))
            cell = saved["identity"]["cell"]
            label = saved["identity"]["label"]  # which the first cells do not have
            yield str(cell["template"]), int(cell["repetitions"]), str(label), str(cell["defense"])


def _right(target: Classifier, path: Path) -> tuple[int, int, float]:
    """Return how many texts of a file are classified correctly, of how many, and the share of their commonest label.

    Of many texts 2,000, evenly apart.
    """
    rows = read_examples(path, COLUMNS).examples
    some = rows.take(range(0, len(rows), -(-len(rows) // MOST_TESTED)))
    own = np.array(some.labels)
    right = int((np.array(target.labels)[target.predict(some)] == own).sum())
    return right, len(own), float(np.unique(own, return_counts=True)[1].max() / len(own))


def _plant(task: DrillTask) -> Planted:
    """Plant anew, which gives the same file and ledger every time: the secrets follow from the data and the seed.

    Secrets of one sentence and seed are the same under every defence and label and for every R, so that rows compare.
    """
    output = task.folder / "planted.jsonl"
    for path in (output, canaries_path(output)):
        path.unlink(missing_ok=True)
    return plant(task.setup.data, output, task.setup.plan(task.cell), columns=COLUMNS)


def start_of(model: ModelChoice, rows: Examples, users: Examples, planting: Planting, *, seed: int) -> "InitialModel":
    """Build the model to train on `rows`, its vocabulary learned from what holds whichever canaries were drawn.

    Raises UsageError where its tokenizer would mix the secrets up or cut them off.
    """
    from redteam.models.initial import initial_model

    shape = {name: value for name, value in asdict(model).items() if name != "spec"}
    initial = initial_model(model.spec, rows, learn_from=learn_from(users, planting), seed=seed, **shape)
    cut_at(initial.tokenizer, initial.max_length)
    check_tokenizer(planting, initial.tokenizer, name=model.spec)
    return initial


def _train(task: DrillTask, planted: Planted, watch: Progress) -> tuple[Trained, int | None]:
    """Train, and return the model with the passes that its training was to make."""
    seed, users = task.cell.seed, read_examples(task.setup.data, planted.columns).examples
    rows = mark_planted(read_examples(planted.data, planted.columns).examples, planted.planting)
    initial = start_of(task.setup.model, rows, users, planted.planting, seed=seed)
    named = json.dumps([task.identity(), planted.planting.digest], sort_keys=True)
    checkpoint = Checkpoint(task.folder / "model.pt.checkpoint", hashlib.sha256(named.encode()).hexdigest())
    defense = task.defense.settled(initial, len(users))  # the same passes for every R
    how: dict[str, Any] = {"population": len(rows), "checkpoint": checkpoint}
    trained = defense.fit(initial, rows, seed=seed, **how, progress=lambda done, steps, loss: watch(done, steps))
    passes = defense.parameters().get("epochs")
    return trained, passes if isinstance(passes, int) else None


def _result(task: DrillTask, planted: Planted, report: Extraction, trained: Trained, passes: int | None) -> DrillResult:
    planting = planted.planting
    right, tested, _ = _right(trained.target, task.setup.test)
    right_own, own, commonest = _right(trained.target, task.setup.data)
    return DrillResult(
        task.cell,
        canaries=len(planting.canaries),
        crowded=crowded(planting),
        sizes=tuple(len(planting.alphabets[name]) for name in Pattern.parse(task.cell.template).places),
        left=candidates_left(planting),
        fewest_left=fewest_left(planting),
        found=report.found,
        exact=tuple(group.attack for group in report.groups if group.exact),
        failures=report.failures,
        right=right,
        tested=tested,
        right_own=right_own,
        own=own,
        commonest=commonest,
        notes=trained.notes,
        kept=trained.kept_pass,
        passes=passes,
    )
