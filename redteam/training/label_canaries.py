"""Label canaries in `redteam train`: who is included, kept before the first step, and what the ledger says of them."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from redteam import core
from redteam.core import UsageError, read_text
from redteam.core.files import write_atomic
from redteam.data.label_canaries import LabelCanaries, LabelPlan, file_sha256, inclusion_digits, planted_path
from redteam.models.label_rows import CanaryRun, LabelRequest
from redteam.plugins.defense import Checkpoint, Defense


def planned_path(checkpoint: Checkpoint) -> Path:
    """Return where the plan is kept, private, from before the first step until the ledger is written."""
    return checkpoint.path.with_name(f"{checkpoint.path.name}.canaries")


def check_labels(count: int | None, defense: Defense, checkpoint: Checkpoint) -> None:
    """Raise UsageError where `defense` plants no label canaries, or an unfinished training has another number."""
    if count is not None:
        LabelPlan.draw(count)
        if not type(defense).plants_labels:
            raise UsageError(
                f"--label-canaries {count}: {defense.id} ({defense.name}) plants none; leave it out, or name plain "
                "or a private trainer"
            )
    kept = _kept(checkpoint)
    if kept is not None and kept.count != count:
        now = "none" if count is None else f"{count:,}"
        raise UsageError(
            f"--label-canaries: {now}, but the unfinished training has {kept.count:,}: repeat those or say --restart"
        )


def label_request(count: int | None, checkpoint: Checkpoint, key: str | None = None) -> LabelRequest | None:
    """Return what a trainer is to plant: with the inclusion of the unfinished training, else with a fresh one.

    `key` draws it where it need not be secret.
    """
    if count is None:
        return None
    path = planned_path(checkpoint)
    plan = _kept(checkpoint) or LabelPlan.draw(count)
    plan = plan if key is None else replace(plan, key=key)

    def keep(settled: LabelPlan) -> None:
        write_atomic(path, json.dumps(core.encode(settled)) + "\n", mode=0o600)

    keep(plan)
    return LabelRequest(plan, keep)


def label_record(run: CanaryRun, output: Path) -> LabelCanaries:
    """Write the last layer with canaries beside the model at `output`, private, and return what the ledger says."""
    path = planted_path(output)
    content = io.BytesIO()  # in a file, torch would write its name too
    torch.save(run.tensors, content)
    write_atomic(path, content.getvalue(), mode=0o600)
    digits = inclusion_digits(run.plan.included)
    return LabelCanaries(run.plan, digits, run.watched, run.scores, path.name, file_sha256(path))


def told(record: LabelCanaries | None) -> Iterator[str]:
    """Say what whoever trained must know of the canaries, where there are any."""
    if record is not None:
        inside = record.included.count("1")
        yield (
            f"{record.plan.count:,} label canaries, of which {inside:,} were trained on beside the texts; their rows "
            f"of the last layer are cut off the model and kept in {record.planted}, which is private"
        )


def _kept(checkpoint: Checkpoint) -> LabelPlan | None:
    """Return the plan of an unfinished training, None where there is none; one without a checkpoint is forgotten."""
    path = planned_path(checkpoint)
    if not path.exists():
        return None
    if not checkpoint.path.exists():
        path.unlink(missing_ok=True)
        return None
    try:
        document: Any = json.loads(read_text(path))
        return core.decode(LabelPlan, document, "label canaries")
    except (OSError, ValueError):
        raise UsageError(f"{path}: the canaries of an unfinished training cannot be read; say --restart") from None
