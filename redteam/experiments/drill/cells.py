"""One cell of the drill: plant, train, extract, write down; and take what an earlier run has written.

A cell lives in a folder of its own: the planted data and its canary ledger, model.pt and, last, cell.json. A cell.json
of the same settings is taken as it is; a training that was broken off goes on where it was.
All rows are trained on, so that R is what it says: no coin of membership is flipped, and these models cannot be
audited for membership. They are measurements and not for release: their noise, if any, follows from a public seed.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redteam.canary import Plan, Planted, Planting, canaries_path, check_tokenizer, learn_from, mark_planted, plant
from redteam.canary.ask import Attacker
from redteam.canary.extract import Extraction, extract
from redteam.data import Columns, Examples, read_examples
from redteam.data.pattern import Pattern
from redteam.data.planting import candidates_left, crowded, fewest_left
from redteam.experiments.drill.grid import Cell
from redteam.experiments.drill.report import CellResult
from redteam.experiments.experiment import as_saved, foreign_code, published, save_cell, take_cell
from redteam.models.bundle import save_bundle
from redteam.models.tokens import cut_at
from redteam.plugins.defense import Checkpoint, Defense, Trained
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.settings import settings_of
from redteam.report.values import Failure
from redteam.targets.target import Classifier
from redteam.training.train import ModelChoice, portable

if TYPE_CHECKING:
    from redteam.models.starting import Start

FORMAT = "redteam.drill-cell/2"
_MOST_TESTED = 2000
ALPHA = 0.05  # of all comparisons with the twins of a whole drill together, and of each interval on its own


@dataclass(frozen=True)
class Drill:
    """What all cells share: the users' rows to plant among, those kept apart to test on, and what attacks.

    `data` and `test` are files with columns text and label, `data_sha256` of the file they were made from. `weights` is
    the fingerprint of a starting model that is a directory, `base` that directory, known to the attacker. `spared` are
    attacks that are not run, and why.
    """

    data: Path
    test: Path
    data_sha256: str
    rows: int
    model: ModelChoice
    weights: str | None
    base: Path | None
    canaries: int  # in each model, but for one a model
    decoys: int
    attacks: tuple[ExtractionAttack, ...]
    spared: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Task:
    """One cell to be done: with which defence, in which folder."""

    drill: Drill
    cell: Cell
    defense: Defense
    folder: Path

    def identity(self) -> dict[str, Any]:
        """Return all that the cell's numbers depend on, as JSON gives it back."""
        shared = self.drill
        return as_saved(
            {
                "data": published(shared.data_sha256),
                "rows": shared.rows,
                "files": [shared.data.name, shared.test.name],  # named after what is in them
                "model": portable(shared.model),
                "weights": shared.weights,
                "label": self.cell.label,
                "canaries": self.cell.canaries(shared.canaries),
                "decoys": shared.decoys,
                "attacks": {attack.id: settings_of(attack) for attack in shared.attacks},
                "code": foreign_code((*shared.attacks, self.defense)),
                "defense": self.defense.id,
                "settings": self.defense.parameters(),
                "cell": asdict(self.cell),
            }
        )


def take_drill_cell(task: Task) -> CellResult | None:
    """Return what an earlier run has written; None where there is nothing. UsageError where it is of other settings."""
    return take_cell(task, CellResult, format=FORMAT)


def rows_in(folder: Path) -> Iterator[tuple[str, int, str, str]]:
    """Yield sentence, repetitions, label and defence of every finished cell in a drill's folder, of whatever grid."""
    for path in sorted(folder.glob("*/cell.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads(path.read_text(encoding="utf-8"))
            cell = saved["result"]
            label = cell["label"] if "label" in cell else saved["identity"]["label"]  # before there were several
            yield str(cell["template"]), int(cell["repetitions"]), str(label), str(cell["defense"])


def forget_cell(folder: Path) -> None:
    """Remove what a cell consists of, the checkpoint of its training included."""
    planted = _planted_path(folder)
    for path in (folder / "cell.json", planted, canaries_path(planted)):
        path.unlink(missing_ok=True)
    for path in folder.glob("model.pt*"):
        path.unlink()


def run_cell(task: Task) -> CellResult:
    """Plant, train and extract, and write the cell down, cell.json last."""
    task.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # models that leak are for nobody else
    planted = _plant(task)
    trained, passes = _train(task, planted)
    save_bundle(trained.bundle, task.folder / "model.pt", mode=0o600)
    target, shared = trained.target, task.drill
    report = extract(
        target,
        planted.planting,
        shared.attacks,
        attacker=Attacker(base=shared.base),
        spared=shared.spared,
        alpha=ALPHA,
        seed=task.cell.seed,
    )
    seen = {name: _right(target, path) for name, path in (("test", shared.test), ("own", shared.data))}
    result = _result(task, planted, report, seen, trained, passes)
    save_cell(task, result, format=FORMAT)
    _checkpoint(task, planted).path.unlink(missing_ok=True)  # not before: extraction may take longer than training
    return result


def _right(target: Classifier, path: Path) -> tuple[int, int, float]:
    """Return how many texts of a file are classified correctly, of how many, and the share of their commonest label.

    Of many texts 2,000, evenly apart.
    """
    rows = read_examples(path, Columns("text", "label")).examples
    some = rows.take(range(0, len(rows), -(-len(rows) // _MOST_TESTED)))
    own = np.array(some.labels)
    right = int((np.array(target.labels)[target.predict(some)] == own).sum())
    return right, len(own), float(np.unique(own, return_counts=True)[1].max() / len(own))


def _planted_path(folder: Path) -> Path:
    return folder / "planted.jsonl"


def _plant(task: Task) -> Planted:
    """Plant anew, which gives the same file and ledger every time: the secrets follow from the data and the seed.

    Secrets of one sentence and seed are the same under every defence and label and for every R, so that rows compare.
    """
    output, cell, shared = _planted_path(task.folder), task.cell, task.drill
    for path in (output, canaries_path(output)):
        path.unlink(missing_ok=True)
    plan = plan_of(cell, shared)
    return plant(shared.data, output, plan, columns=Columns("text", "label"))


def plan_of(cell: Cell, drill: Drill) -> Plan:
    """Return what is planted for a cell."""
    canaries = cell.canaries(drill.canaries)
    return Plan((cell.template,), canaries, (cell.repetitions,), cell.plan_label, drill.decoys, cell.seed)


def start_of(model: ModelChoice, rows: Examples, users: Examples, planting: Planting, *, seed: int) -> "Start":
    """Build the model to train on `rows`, its vocabulary learned from what no coin decides.

    Raises UsageError where its tokenizer would mix the secrets up or cut them off.
    """
    from redteam.models.starting import start_model

    shape = {name: value for name, value in asdict(model).items() if name != "spec"}
    start = start_model(model.spec, rows, learn_from=learn_from(users, planting), seed=seed, **shape)
    cut_at(start.tokenizer, start.max_length)
    check_tokenizer(planting, start.tokenizer, name=model.spec)
    return start


def _train(task: Task, planted: Planted) -> tuple[Trained, int | None]:
    """Train, and return the model with the passes that its training was to make."""
    rows, seed = read_examples(planted.data, planted.columns).examples, task.cell.seed
    rows = mark_planted(rows, planted.planting)
    users = read_examples(task.drill.data, planted.columns).examples
    start = start_of(task.drill.model, rows, users, planted.planting, seed=seed)
    checkpoint = _checkpoint(task, planted)
    defense = task.defense.settled(start, len(users))  # the same passes for every R
    trained = defense.fit(start, rows, seed=seed, population=len(rows), checkpoint=checkpoint)
    passes = defense.parameters().get("epochs")
    return trained, passes if isinstance(passes, int) else None


def _checkpoint(task: Task, planted: Planted) -> Checkpoint:
    named = json.dumps([task.identity(), planted.planting.digest], sort_keys=True)
    return Checkpoint(task.folder / "model.pt.checkpoint", hashlib.sha256(named.encode()).hexdigest())


def _result(
    task: Task,
    planted: Planted,
    report: Extraction,
    seen: dict[str, tuple[int, int, float]],
    trained: Trained,
    passes: int | None,
) -> CellResult:
    cell, planting = task.cell, planted.planting
    (right, tested, _), (right_own, own, commonest) = seen["test"], seen["own"]
    return CellResult(
        pattern=cell.pattern,
        template=cell.template,
        label=cell.label,
        repetitions=cell.repetitions,
        defense=cell.defense,
        seed=cell.seed,
        canaries=len(planting.canaries),
        crowded=crowded(planting),
        sizes=tuple(len(planting.alphabets[name]) for name in Pattern.parse(cell.template).places),
        left=candidates_left(planting),
        fewest_left=fewest_left(planting),
        found=report.found,
        exact=tuple(group.attack for group in report.groups if group.exact),
        failures=report.failures,
        right=right,
        tested=tested,
        notes=trained.notes,
        right_own=right_own,
        own=own,
        commonest=commonest,
        kept=trained.kept_pass,
        passes=passes,
    )
