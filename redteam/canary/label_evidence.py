"""What label canaries contribute to an audit: lower bounds on epsilon from what three adversaries could observe.

All updates: a score of each canary that training itself recorded, as whoever collects gradients computes it. Final
weights: how far a canary's own row moved, along what its text puts into the last layer. Black box: the log-probability
of its label. The last two are of the model as it was trained, whose last layer is kept beside the ledger, on the body
of the model that is audited.

Where a training accounts for each example by itself and samples it by itself, each is judged by the bound that rules
out noise multipliers of its very mechanism; the bound that needs random inclusion alone stands beside. Elsewhere that
one is judged. Rules are those that the ledger fixed before the first step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redteam.canary.label_scores import scores_by_adversary
from redteam.core import LedgerError, TargetError, UsageError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data.label_canaries import ACCESSES, UPDATES, WEIGHTS, LabelCanaries, file_sha256
from redteam.models.bundle import read_tensors
from redteam.models.label_rows import canary_tokens, last_linear
from redteam.report import Limit
from redteam.report.metrics import metric
from redteam.report.values import Evidence, Failure, rule_of
from redteam.statistics import Interval
from redteam.statistics.epsilon import EpsilonBound, planned_bounds
from redteam.targets.target import Target

ATTACK, METRIC = "label-canaries", "canary_epsilon"
_RULE = rule_of(ATTACK, METRIC)


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """The label canaries of a model: what the ledger says of them, who is in, and their rows of the last layer.

    `target` is the model that they were planted in, where an experiment audits another.
    """

    canaries: LabelCanaries
    included: BoolArray
    rows: dict[str, torch.Tensor]
    notes: list[str] = field(default_factory=list)
    target: Target | None = None

    @classmethod
    def open(cls, canaries: LabelCanaries, ledger: Path, target: Target) -> "LabelAudit":
        """Read the last layer beside the ledger; LedgerError where it, or the inclusion, is not what training wrote.

        UsageError for a target without a model file: an endpoint serves the users' labels alone.
        """
        included = canaries.check(ledger)
        if not hasattr(target, "model") or not hasattr(target, "tokenizer"):
            raise UsageError(
                f"{target.name}: the ledger has label canaries, which are scored on the model itself and asked of no "
                "endpoint or function: audit the model file, or give --members and --nonmembers"
            )
        path = ledger.with_name(Path(canaries.planted).name)
        if not path.is_file() or file_sha256(path) != canaries.planted_sha256:
            what = "is not what training wrote" if path.is_file() else "is not there"
            raise LedgerError(f"{path}: the last layer with the label canaries {what}: restore it, or train again")
        rows = read_tensors(path)
        shapes = [tuple(rows[name].shape) if name in rows else () for name in ("weight", "bias")]
        if shapes != [(canaries.plan.count, *shapes[0][-1:]), (canaries.plan.count,)]:
            raise LedgerError(f"{path}: holds no rows of {canaries.plan.count} label canaries: train again")
        return cls(canaries, included, rows)

    @property
    def method(self) -> str:
        """The bound that is judged."""
        return "one_run" if self.canaries.watched.sampled is None else "subsampled"

    def planned(self, limits: Sequence[Limit] | None, *, claimed: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the ids of the numbers that are judged, and of those beside.

        Judged are they where an epsilon is `claimed`, or limited; without a policy, `limits` None, all are.
        """
        first = tuple(f"{_RULE}:{access}" for access in ACCESSES)
        beside = tuple(f"{_RULE}:{access}, one run" for access in ACCESSES) if self._beside else ()
        judged = claimed or limits is None or any(metric(each.metric).guaranteed for each in limits)
        return (first, beside) if judged else ((), (*first, *beside))

    def foreseen(self, level: Callable[[str], float]) -> Iterator[str]:
        """Yield a line for each adversary: what it takes, and the largest bound that so many canaries could show."""
        kept, inside = Path(self.canaries.planted).name, int(self.included.sum())
        yield f"{self.canaries.plan.count:,} label canaries, {inside:,} of them trained on"
        takes = {UPDATES: "a score of each in the ledger", WEIGHTS: f"their rows in {kept}"}
        for access in ACCESSES:
            best = self._evidence(self.included.astype(np.float64), access, access, self.method, level)
            yield (
                f"{access}: takes {takes.get(access, takes[WEIGHTS])}; epsilon up to {best.attainable:.2f} at error "
                f"{best.interval.alpha:.2g}, by {'the noise that is ruled out' if self._beside else 'one run'}"
            )

    @property
    def _beside(self) -> bool:
        """Whether the bound from one run stands beside another."""
        return self.method != "one_run"

    def run(self, target: Target, level: Any) -> Iterator[Evidence | Failure]:
        """Yield a bound for each adversary, wrong at most `level(id)` of the time; a Failure where the steps were not
        what was claimed, so that what canaries do not show is no evidence.
        """
        scores = self.scores(self.target or target)
        for access in ACCESSES:
            yield self._evidence(scores[access], access, access, self.method, level)
            if self._beside:
                yield self._evidence(scores[access], access, f"{access}, one run", "one_run", level)
        for trouble in self.canaries.watched.troubles():
            yield Failure(ATTACK, "failed", f"{trouble}: what they do not show is no evidence")

    def scores(self, target: Target) -> dict[str, FloatArray]:
        """Return one score a canary for each adversary, higher meaning "was in"."""
        model: Any = target
        name, layer = last_linear(model.model, name=target.name)
        limit = int(getattr(model, "max_length", 0) or 512)
        tokens = canary_tokens(model.tokenizer, self.canaries.plan.text, max_length=limit, name=target.name)
        read: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0].detach().cpu()))
        try:
            with torch.inference_mode():
                logits = model.model(input_ids=torch.tensor([tokens], device=layer.weight.device)).logits
        finally:
            hook.remove()
        if len(read) != 1 or read[0].shape != (1, self.rows["weight"].shape[1]):
            raise TargetError(f"{target.name}: its {name} does not read what the label canaries' rows are of")
        return scores_by_adversary(self.canaries.scores, self.rows, read[0][0], logits[0].cpu())

    def _evidence(self, scores: FloatArray, access: str, signal: str, method: str, level: Any) -> Evidence:
        plan, inside = self.canaries.plan, self.included
        alpha = level(f"{_RULE}:{signal}")
        how: dict[str, Any] = {"delta": plan.delta, "alpha": alpha, "only": (method,)}
        how["sampled"] = self.canaries.watched.sampled
        bound: EpsilonBound = planned_bounds(scores[inside], scores[~inside], plan.rules[access], **how)[method]
        said = f"{ATTACK}: a bound{', one run,' if signal != access else ''} holds where {bound.assumption}"
        if said not in self.notes:
            self.notes.append(said)
        interval = Interval(bound.low, bound.low, bound.attainable, alpha)
        sizes = int(inside.sum()), int((~inside).sum())
        return Evidence(ATTACK, signal, METRIC, interval, *sizes, bound.attainable, delta=plan.delta)
