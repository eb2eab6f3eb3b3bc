"""One reference model: trained on its half, asked for every row, and forgotten unless it is to be kept."""

import time
from dataclasses import dataclass

from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.models.bundle import Bundle
from redteam.plugins.defense import Checkpoint
from redteam.references.recipe import ReferenceTrainer, Step, settle_randomness
from redteam.targets.gradients import gradient_norms
from redteam.targets.target import Access, Classifier, Target, WhiteBox, label_indices, own_label_log_odds


@dataclass(frozen=True)
class ReferenceJob:
    """What a worker needs to train one model: the rows of the plan, [n], and which of them it is trained on."""

    trainer: ReferenceTrainer
    rows: Examples
    included: BoolArray
    seed: int
    checkpoint: Checkpoint | None = None
    with_weights: bool = False
    with_gradients: bool = False


@dataclass(frozen=True)
class Reference:
    """What one reference model says of every row, [n]: log-odds of the row's own label, and whether it is right.

    `seconds` of the processor it took; `bundle` is the model, where it is to be kept and has weights. `gradients`,
    [f, n], are log norms of gradients of the rows' losses, where they were asked for and there are weights.
    """

    log_odds: FloatArray
    correct: BoolArray
    seconds: float = 0.0
    bundle: Bundle | None = None
    gradients: FloatArray | None = None


def train_reference(job: ReferenceJob, progress: Step | None = None) -> Reference:
    """Train and ask; the same numbers in every process, since nothing but the job decides them."""
    started = time.process_time()
    settle_randomness(job.seed)
    rows = job.rows.take(job.included.nonzero()[0])
    fitted = job.trainer.fit(rows, seed=job.seed, checkpoint=job.checkpoint, progress=progress)
    log_odds, correct = answers_of(fitted.model, job.rows)
    gradients = gradients_of(fitted.model, job.rows) if job.with_gradients else None
    bundle = fitted.bundle if job.with_weights else None
    return Reference(log_odds, correct, time.process_time() - started, bundle, gradients)


def answers_of(model: Classifier, rows: Examples) -> tuple[FloatArray, BoolArray]:
    """Return the log-odds of each row's own label and whether it is the model's answer, both [n].

    Raises TargetError where the model does not know a label, or its answers are no probabilities.
    """
    own = label_indices(model.labels, rows, name=model.name)
    answers = model.log_probabilities(rows)
    return own_label_log_odds(answers, own), answers.argmax(axis=1) == own


def gradients_of(model: Target, rows: Examples) -> FloatArray | None:
    """Return the log norms of the gradients of the rows' losses, [f, n]; None of a model without weights at hand."""
    if Access.WEIGHTS not in model.access or not isinstance(model, WhiteBox):
        return None
    return gradient_norms(model, rows)
