"""One cell of the gap experiment: train and attack one model.

A cell lives in a folder of its own: model, ledger, report.json and, last, cell.json. The models are measurements and
not for release: their noise follows from a public seed, so that the same experiment gives the same numbers.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from redteam.auditing.besides import Besides
from redteam.auditing.fairness.inside import with_fairness
from redteam.auditing.inputs import AuditInputs, Sources, open_inputs
from redteam.auditing.released import released_audit
from redteam.auditing.settings import FPRS, AuditSettings
from redteam.core import DataError, StatisticsError
from redteam.core.files import write_atomic
from redteam.core.progress import Progress, phase, unwatched
from redteam.data import Columns, fingerprint, read_examples
from redteam.data.label_canaries import LabelPlan
from redteam.data.ledger import Ledger, ledger_path
from redteam.experiments.cells import Task, published
from redteam.experiments.gap.grid import GapCell
from redteam.experiments.gap.report import GapResult
from redteam.experiments.setup import Setup, Trainer, some_rows, starting_weights, write_rows
from redteam.models.word_vectors import load_word_vectors
from redteam.plugins.attack import Attack
from redteam.plugins.defense import SHARE_BATCHES, Defense, PrivateTraining
from redteam.plugins.mechanism import WordMechanism
from redteam.plugins.registry import discover_reconstructions
from redteam.report.fairness import FairnessMetric
from redteam.report.metrics import metric
from redteam.report.values import AuditReport
from redteam.statistics import Interval
from redteam.statistics.epsilon.planned import FEWEST
from redteam.training.privatising.exchange import Exchange
from redteam.training.privatising.rewriting import Rewriting
from redteam.training.train import ModelChoice, RandomInclusion, TrainedFiles, train

ALPHA = 0.05  # of all intervals of one cell together
_CANARIES, _ROWS_OF_A_CANARY = 2_000, 10
_APART = "canaries.pt"  # the model of a training of their own


@dataclass(frozen=True)
class GapSetup(Setup):
    """What all cells share: each row of `data` is held out with the chance `holdout`, so many `canaries` planted.

    `labels` is how many the rows have. `embeddings` name the vectors of words for cells in which these are exchanged.
    Of groups of rows, and of groups that texts name by a list of `swaps`, is measured who loses by the training.
    """

    columns: Columns
    holdout: float
    canaries: int = 0
    embeddings: str = "minilm"
    swaps: tuple[str, ...] = ()
    labels: int = 0


@dataclass(frozen=True)
class GapTask(Task[GapSetup, GapCell, GapResult]):
    """One cell to be done: with which trainer, in which folder, after which exchange of words."""

    kind, format = GapResult, "redteam.cell/2"
    mechanism: WordMechanism | None = None

    def own(self) -> dict[str, Any]:
        """Return what the numbers depend on, beside that which all experiments share."""
        shared: dict[str, Any] = {"columns": asdict(self.setup.columns), "holdout": self.setup.holdout}
        shared |= {"label_canaries": self.setup.canaries, "batches": "shared by the cells of a seed"}
        shared |= {"canaries": "apart where nothing is clipped"} if self.setup.canaries else {}
        shared |= {"swaps": list(self.setup.swaps)} if self.setup.swaps else {}
        shared |= {"alpha": ALPHA, "fprs": list(FPRS), "seed": self.cell.seed}
        return (
            shared if self.words is None else shared | {"words": self.words.summary(published(self.setup.data_sha256))}
        )

    @cached_property
    def words(self) -> Rewriting | None:
        """How words are exchanged before, None where they are not."""
        if self.mechanism is None:
            return None
        return Rewriting(Exchange(self.mechanism, load_word_vectors(self.setup.embeddings)), self.cell.seed)

    @property
    def parts(self) -> int:
        """A training or two, and the audit."""
        return 3 if self._apart else 2

    @property
    def _apart(self) -> bool:
        """Whether canaries get a training of their own: without a clip they take more than users' rows would."""
        return bool(self._planted) and not isinstance(self.defense, PrivateTraining)

    @property
    def _planted(self) -> int | None:
        """How many canaries are planted as labels; None where the trainer takes none."""
        return self.setup.canaries if self.setup.canaries and type(self.defense).plants_labels else None

    def run(self, watch: Progress = unwatched) -> GapResult:
        """Train as `redteam train` does, audit, and write report.json."""
        clock, setup = _Clock(phase(watch, "training")), self.setup
        apart, first = self._apart, _APART if self._apart else "model.pt"
        timed = self._train(self.folder / first, self._planted, clock)  # as the others, with canaries
        files = self._train(self.folder / "model.pt", None, _Clock(phase(watch, "training"))) if apart else timed
        ledger = Ledger.load(files.ledger)
        if ledger.data.sha256 != setup.data_sha256:
            raise DataError(f"{setup.data}: changed while the experiment ran; start again")
        report = self.attack(ALPHA, phase(watch, "auditing"))
        write_atomic(self.folder / "report.json", report.to_json())
        return _result(self, report, clock.seconds, Ledger.load(timed.ledger).recipe.parameters.get("epochs"))

    def _train(self, output: Path, planted: int | None, clock: "_Clock") -> TrainedFiles:
        setup, seed = self.setup, self.cell.seed
        token = SHARE_BATCHES.set(True)  # the cells of a seed differ in what their trainers do, and in nothing else
        try:
            return train(
                setup.data,
                output,
                self.defense,
                columns=setup.columns,
                model=setup.model,
                inclusion=RandomInclusion(setup.holdout, seed=seed),
                noise_from_seed=isinstance(self.defense, PrivateTraining),  # repeatable, so not for release
                label_canaries=planted,
                canary_key=hashlib.sha256(f"label canaries of gap {seed} {setup.data_sha256}".encode()).hexdigest(),
                words=self.words,
                progress=clock,
            )
        finally:
            SHARE_BATCHES.reset(token)

    def attack(self, alpha: float, watch: Progress = unwatched) -> AuditReport:
        """Audit the trained model as `redteam audit` does, with all intervals together at `alpha`."""
        from redteam.auditing.run import audit

        inputs: AuditInputs = open_inputs(str(self.folder / "model.pt"), Sources(), {})
        inputs = with_fairness(inputs, self.setup.swaps, None)
        labels = inputs.labels
        if self.setup.canaries and (self.folder / _APART).exists():
            other = open_inputs(str(self.folder / _APART), Sources(), {})
            labels = other.labels and replace(other.labels, target=other.target)
        guarantee = Ledger.load(ledger_path(self.folder / "model.pt")).guarantee
        settings = AuditSettings(alpha, FPRS, self.cell.seed, vectors=self.folder.parent, breakdowns=False)
        how: dict[str, Any] = {"settings": settings, "guarantee": guarantee, "progress": watch}
        how["kept"] = _kept(self.setup.data_sha256, self.setup.holdout, self.cell.seed)
        tried = None
        if self.words is not None:
            released = self.words(read_examples(self.setup.data, self.setup.columns).examples)
            tried = released_audit(self.words.exchange, inputs.split, released, discover_reconstructions())
        how["besides"] = Besides(labels, tried, inputs.fairness)
        return audit(inputs.target, inputs.split, self.setup.attacks, **how)


@lru_cache(maxsize=1)
def _kept(*rows: Any) -> dict[Any, Any]:
    """Return what attacks leave for each other in this process: the cells of a seed have the very same rows."""
    return {}


def open_gap(
    data: Path,
    folder: Path,
    attacks: Sequence[Attack],
    *,
    columns: Columns = Columns(),
    model: ModelChoice = ModelChoice(),
    holdout: float = 0.5,
    rows: int | None = None,
    canaries: int | None = None,
    embeddings: str = "minilm",
    swaps: Sequence[str] = (),
) -> tuple[GapSetup, tuple[str, ...]]:
    """Read the data once and return what all cells share, with what reading it guessed.

    With `rows`, so many random ones are written to a file in `folder` and used instead. Raises DataError or UsageError
    for data that no cell could be trained on. `canaries` are planted as labels [default: a tenth of the rows, 2,000 at
    most; none where that is too few for any bound].
    """
    reading = read_examples(data, columns)
    kept = some_rows(reading.examples, rows)
    if kept is not reading.examples:
        known = {"id": kept.ids, "user": kept.users, "group": kept.groups}
        columns = Columns("text", "label", **{name: name for name, cells in known.items() if cells is not None})
        data = write_rows(kept, folder, "rows")
    weights = starting_weights(model.spec)
    if canaries is None:
        usual = min(_CANARIES, len(kept) // _ROWS_OF_A_CANARY)
        canaries = usual if usual >= FEWEST else 0
    elif canaries:
        LabelPlan.draw(canaries)  # or refused, before any training
    shared = GapSetup(data, fingerprint(data), model, weights, tuple(attacks), columns, holdout, canaries, embeddings)
    shared = replace(shared, swaps=tuple(swaps), labels=len(set(kept.labels or ())))
    return shared, reading.notes


def gap_tasks(
    setup: GapSetup,
    trainers: Sequence[Trainer],
    cells: Sequence[GapCell],
    folder: Path,
    privatised: Sequence[WordMechanism] = (),
    plain: Defense | None = None,
) -> tuple[GapTask, ...]:
    """Return what there is to do for each cell, in folders of their own inside `folder`.

    What is `privatised` is then trained on by `plain`.
    """
    by_name = {trainer.name: trainer for trainer in trainers}
    by_epsilon = {(each.name, each.epsilon): each for each in privatised}

    def task(cell: GapCell) -> GapTask:
        if not cell.privatised:
            return GapTask(setup, cell, by_name[cell.trainer].at(cell.epsilon), folder / cell.folder)
        assert plain is not None
        assert cell.epsilon is not None
        return GapTask(setup, cell, plain, folder / cell.folder, by_epsilon[cell.trainer, cell.epsilon])

    return tuple(map(task, cells))


def _result(task: GapTask, report: AuditReport, seconds: float | None, passes: Any) -> GapResult:
    if report.accuracy is None:
        why = "; ".join(f"{failure.attack}: {failure.reason}" for failure in report.failures)
        raise StatisticsError(f"no attack gave evidence ({why or report.grade_reason})")
    return GapResult(
        task.cell,
        task.defense.id,
        members=report.data.members,
        nonmembers=report.data.nonmembers,
        accuracy=_share(report.accuracy.nonmembers, _draws(report)),
        accuracy_members=report.accuracy.members,
        seconds=seconds,
        passes=passes if isinstance(passes, int) else None,
        guarantee=report.guarantee,
        alpha=report.multiplicity.alpha,
        evidence=(
            *report.judged,
            *(each for each in report.evidence if isinstance(metric(each.metric), FairnessMetric)),
        ),
        failures=report.failures,
        commonest=report.accuracy.commonest,
        accuracy_by_user=report.accuracy.by_user,
        plain=None if task.words is None else task.words.promise.plain,
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

    def __init__(self, watch: Progress = unwatched) -> None:
        self.seen: list[tuple[int, float]] = []
        self.steps, self._watch = 0, watch

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Note the time after a step."""
        self.seen, self.steps = [*self.seen[:1], (step, time.process_time())], steps
        self._watch(step, steps)

    @property
    def seconds(self) -> float | None:
        """The processor seconds of all steps; None where fewer than two were seen."""
        if len(self.seen) < 2 or self.seen[1][0] <= self.seen[0][0]:
            return None
        (first, began), (last, ended) = self.seen
        return (ended - began) / (last - first) * self.steps
