"""Label canaries in a training loop of one's own: `LoopCanaries`, beside a `PrivateTrainer`.

    >>> from torch.nn.functional import cross_entropy
    >>> x, y, model = torch.randn(200, 8), torch.arange(200) % 2, nn.Sequential(nn.Linear(8, 2))
    >>> canaries = LoopCanaries(model, "0", 100, lambda model: model(torch.ones(1, 8)))
    >>> x, y = torch.cat([x, torch.ones(len(canaries.targets), 8)]), torch.cat([y, canaries.targets])
    >>> optimizer, rows = torch.optim.SGD(model.parameters(), lr=0.1), 200 + canaries.expected
    >>> private = PrivateTrainer(
    ...     model, optimizer, clip=1.0, noise_multiplier=1.0, sample_rate=0.1, population=rows
    ... )
    >>> canaries.watch(private, steps=20, delta=1e-5)
    >>> for rows in private.batches(steps=20, size=len(x)):
    ...     outcome = private.step(lambda part: cross_entropy(model(x[part]), y[part], reduction="none"), rows)
    >>> shown = canaries.finish(alpha=0.05)
    >>> sorted(shown.bounds)
    ['all updates', 'black box', 'final weights']
    >>> private.close()
    >>> model(torch.ones(1, 8)).shape
    torch.Size([1, 2])

Each canary is one and the same example with a label of its own, included with probability 1/2. See `redteam train
--label-canaries` for the same without a loop, with a ledger that an audit reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd.trainer import PrivateTrainer
from redteam.canary.label_scores import scores_by_adversary
from redteam.canary.label_watch import LabelWatch
from redteam.core import UsageError
from redteam.data.label_canaries import ACCESSES, LabelPlan, WatchedSteps
from redteam.models.label_rows import LabelRequest, grow
from redteam.plugins.defense import Mechanism
from redteam.statistics.epsilon import EpsilonBound, planned_bounds


@dataclass(frozen=True)
class LoopEvidence:
    """Lower bounds on epsilon by adversary, and what the steps were.

    `bounds` are by the noise that is ruled out where steps are Poisson samples, else those of `one_run`, which need
    random inclusion alone. Each is wrong at most alpha of the time. Where `watched.troubles()` yields anything, the
    steps were not what they are accounted for, and a bound that is low says nothing at all.
    """

    bounds: dict[str, EpsilonBound]
    one_run: dict[str, EpsilonBound]
    watched: WatchedSteps


class LoopCanaries:
    """Label canaries in the last layer of any model, `head` by name, for a loop with a `PrivateTrainer`.

    `logits(model)` gives the model's scores of the canaries' example, [1, labels]. Make it before the optimiser: the
    layer grows in place. Then add the example to the training data once for each of `targets`, the labels of those that
    are in, and let the public population count `expected` more. Raises UsageError where the layer is no trained
    `torch.nn.Linear` with a bias, or `count` too few for any bound.
    """

    def __init__(self, model: nn.Module, head: str, count: int, logits: Callable[[nn.Module], Tensor]) -> None:
        """Draw who is in, and give the layer a row for each canary."""
        plan = LabelPlan.draw(count)
        layer = dict(model.named_modules()).get(head)
        if type(layer) is not nn.Linear or layer.bias is None:
            found = "no module of the model" if layer is None else f"a {type(layer).__name__}"
            raise UsageError(f"head {head!r}: is {found}; label canaries take a torch.nn.Linear with a bias")
        if not (layer.weight.requires_grad and layer.bias.requires_grad):
            raise UsageError(f"head {head!r}: is not trained, so no label canary could be")
        self._model, self._rows = model, grow(head, layer, torch.from_numpy(plan.included), logits)
        self._watch = LabelWatch(model, self._rows, LabelRequest(plan))
        self._watched = False

    @property
    def targets(self) -> Tensor:
        """The labels of the canaries that are in, int64."""
        return self._rows.targets

    @property
    def expected(self) -> int:
        """How many of them are in on average: public, where the number of those that are is secret."""
        return self._rows.count // 2

    def watch(self, private: PrivateTrainer, *, steps: int, delta: float) -> None:
        """Fix the rule of each bound, from the epsilon of so many steps, and watch each of them from now on.

        `private` is the loop's trainer, of which no step was done; `delta` is that of every epsilon. Raises
        UsageError where a step was done already, the canaries are watched, or it trains another model.
        """
        from defenses.accounting import guarantee

        if private.steps_done or self._watched:
            raise UsageError("watch() comes once, before the first step: what was done before would not be seen")
        learned = (p for group in private.optimizer.param_groups for p in group["params"])
        if not any(each is self._rows.layer.weight for each in learned):
            raise UsageError(f"the trainer trains another model: head {self._rows.name!r} is not in its optimiser")
        release, rate = private.release(steps), private.sample_rate
        how: dict[str, Any] = {"nominal": [release], "accounted": [release], "delta": delta}
        mechanism = Mechanism(private.clip, private.noise_multiplier, rate, steps, private.sampling)
        told = guarantee(**how)
        self._watch.begin(private.optimizer, mechanism, told, divisor=rate * private.population)
        self._watched = True

    def finish(self, *, alpha: float) -> LoopEvidence:
        """Watch no longer, cut the layer back to the users' labels, and return what the canaries show.

        `alpha` is the chance that a bound is wrong, each by itself. Raises UsageError where not every step was watched.
        """
        self._watch.close()
        run, (now, users) = self._watch.result(), self._watch.read()
        if not self._watched or self._watch.steps != run.watched.steps:
            raise UsageError(f"{self._watch.steps:,} of {run.watched.steps:,} steps were watched: finish() comes last")
        self._rows.cut()
        steps, inside = run.watched, run.plan.included
        how: dict[str, Any] = {"delta": run.plan.delta, "alpha": alpha, "sampled": steps.sampled}
        how["only"] = ("subsampled", "one_run")
        scores = scores_by_adversary(run.scores, run.tensors, now, users)
        found = {
            access: planned_bounds(scores[access][inside], scores[access][~inside], run.plan.rules[access], **how)
            for access in ACCESSES
        }
        judged = "one_run" if steps.sampled is None else "subsampled"
        bounds, one_run = ({access: each[name] for access, each in found.items()} for name in (judged, "one_run"))
        return LoopEvidence(bounds, one_run, steps)
