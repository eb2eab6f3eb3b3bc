"""Watch a training for its label canaries: one score of each from all updates, as an adversary who sees them computes.

At each step the adversary knows the weights and the noisy gradient. In a canary's own row of the last layer stands, in
the sum of the step, noise of standard deviation s and, if the step took it, its clipped gradient g; nothing else moves
that row but what the other canaries are expected to do there, which is taken off. So with q the sampling rate and <x,
g> the sum's part along g, the score adds the log-likelihood ratio

    log(1 - q + q exp((<x, g> - |g|^2 / 2) / s^2))

of "each step took it with probability q" against "none did". All canaries say one text, so that one forward pass tells
g for all of them, and the norms of a few stand for all. Who was included enters nowhere.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from redteam.core import UsageError
from redteam.core.arrays import FloatArray
from redteam.data.label_canaries import ACCESSES, SEEN, WatchedSteps
from redteam.models.initial import InitialModel
from redteam.models.label_rows import CanaryRun, LabelRequest, PlantedRows, canary_tokens, plant_rows
from redteam.plugins.defense import Mechanism
from redteam.report.values import Guarantee
from redteam.statistics.epsilon.planned import plan as plan_rules

_SAMPLE = 6  # canaries whose norms stand for all
_ALPHA = 0.05  # that rules are planned for; each holds at any other


def plant(initial: InitialModel) -> "tuple[PlantedRows | None, LabelWatch | None]":
    """Plant the label canaries that a model asks for, in place, and return them with what watches them; or neither.

    Raises UsageError where its last layer takes none.
    """
    request = initial.canaries
    if request is None:
        return None, None
    model, name = initial.model, "the model"
    tokens = canary_tokens(initial.tokenizer, request.plan.text, max_length=initial.max_length, name=name)
    included = torch.from_numpy(request.plan.included)
    planted = plant_rows(model, tokens, included, labels=len(initial.labels), name=name)
    return planted, LabelWatch(model, planted, request)


def harvest(planted: PlantedRows | None, watch: "LabelWatch | None") -> CanaryRun | None:
    """Return what a training did with its label canaries, and cut its last layer back to the users' labels."""
    if planted is None or watch is None:
        return None
    found = watch.result()
    planted.cut()
    return found


class LabelWatch:
    """Watches every update of one training; `close` takes its hook off the optimiser."""

    def __init__(self, model: nn.Module, planted: PlantedRows, request: LabelRequest) -> None:
        """Copy the model before anybody hooks it; the copy works out gradients, without dropout."""
        self.planted, self._request = planted, request
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._copy = copy.deepcopy(model).eval()
        self._mine = [p for p in self._copy.parameters() if p.requires_grad]
        layer = self._copy.get_submodule(planted.name)
        self._body = [p for p in self._mine if all(p is not own for own in layer.parameters())]
        self._layer: Any = layer
        self._read: list[Tensor] = []
        layer.register_forward_pre_hook(lambda _, given: self._read.append(given[0]))
        self._text()  # refuses a model that takes no canaries before anything is trained
        count = planted.count
        self._likelihood, self._total, self._expected, self._noise = (np.zeros(count) for _ in range(4))
        self._shares, self._steps = 0.0, 0
        self._handle: RemovableHandle | None = None
        self._plan, self._mechanism, self._plain, self._divisor = request.plan, Mechanism(1.0, 0.0, 1.0, 1), False, 1.0

    def begin(
        self, optimizer: torch.optim.Optimizer, mechanism: Mechanism, guarantee: Guarantee | None, *, divisor: float
    ) -> None:
        """Plan the rules from the epsilon of the guarantee, tell them, and watch `optimizer` from its next step on.

        Gradients are sums over `divisor`. Infinite clip and no noise is training without privacy.
        """
        accounted = None if guarantee is None else guarantee.accounted
        claim, delta = (None, self._plan.delta) if accounted is None else (accounted.epsilon, accounted.delta)
        # A nominal epsilon below what is accounted for is the noise that was added: it says better what shows.
        likely = None if guarantee is None else min(guarantee.accounted.epsilon, guarantee.nominal.epsilon)
        how: dict[str, Any] = {"claim": likely, "delta": delta, "alpha": _ALPHA}
        seen = SEEN if likely is not None else dict.fromkeys(ACCESSES, 1.0)  # without noise everybody sees everything
        rules = {each: plan_rules(self.planted.count, **how, seen=seen[each]) for each in ACCESSES}
        self._plan = replace(self._plan, claim=claim, delta=delta, rules=rules)
        self._request.keep(self._plan)
        self._plain = guarantee is not None and not guarantee.accounted.epsilon > guarantee.nominal.epsilon
        self._mechanism, self._divisor = mechanism, divisor
        self._handle = optimizer.register_step_pre_hook(lambda *_: self.observe())

    @property
    def steps(self) -> int:
        """How many updates were seen."""
        return self._steps

    def close(self) -> None:
        """Watch no longer."""
        if self._handle is not None:
            self._handle.remove()

    def observe(self) -> None:
        """Take in one update: the weights that it was made at, and its gradient."""
        self._follow()
        read, chances, share = self._text()
        std, rate = self._mechanism.noise_multiplier * self._mechanism.clip, self._mechanism.sample_rate
        length = float(read.norm())
        clipped = np.minimum(1.0, self._mechanism.clip * share / np.maximum((1.0 - chances) * length, 1e-30))
        scale = (1.0 - chances) * clipped
        squared = (scale * length) ** 2
        along = -(self.planted.rows(gradient=True) @ read).double().numpy() * self._divisor
        # Each other canary in the step pushes the row back by its own probability of this label.
        others = rate * self.planted.count / 2 * float(clipped.mean()) * chances * length**2
        product = (along + others) * scale
        self._total += product
        self._expected += rate * squared
        self._noise += std**2 * squared
        if std > 0:
            ratio = (product - squared / 2) / std**2
            self._likelihood += ratio if rate >= 1 else np.logaddexp(math.log1p(-rate), math.log(rate) + ratio)
        self._shares, self._steps = self._shares + share, self._steps + 1

    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, in plain values."""
        columns = {"likelihood": self._likelihood, "total": self._total, "expected": self._expected}
        columns |= {"noise": self._noise}
        return {name: torch.from_numpy(column.copy()) for name, column in columns.items()} | {
            "shares": self._shares,
            "steps": self._steps,
        }

    def take(self, kept: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint kept; UsageError where that is of other canaries."""
        if len(kept.get("likelihood", ())) != self.planted.count:
            raise UsageError("the unfinished training watched other label canaries: repeat it, or say --restart")
        self._likelihood, self._total, self._expected, self._noise = (
            kept[name].numpy().copy() for name in ("likelihood", "total", "expected", "noise")
        )
        self._shares, self._steps = float(kept["shares"]), int(kept["steps"])

    def result(self) -> CanaryRun:
        """Return what was seen, and the canaries' own rows as they are now."""
        m, rows = self._mechanism, self.planted.rows()
        scores = self._likelihood if m.noise_multiplier > 0 else self._total
        moved, error = self._moved()
        share = self._shares / max(1, self._steps)
        how = m.sampling, m.sample_rate, m.steps, m.noise_multiplier, self._plain
        watched = WatchedSteps(*how, moved, error, share, *self._shaken())
        tensors = {"weight": rows[:, :-1].clone(), "bias": rows[:, -1].clone()}
        return CanaryRun(self._plan, watched, tuple(scores.tolist()), tensors)

    def read(self) -> tuple[Tensor, Tensor]:
        """Return what the last layer reads now of the canaries' example, [d], and the scores of the users' labels."""
        self._follow()
        whole, _, _ = self._text()
        with torch.no_grad():
            users = self._layer(whole[None, :-1])[0, : self.planted.labels]
        return whole[:-1], users

    def _follow(self) -> None:
        with torch.no_grad():
            for mine, theirs in zip(self._mine, self._trained, strict=True):
                mine.copy_(theirs)

    def _moved(self) -> tuple[float, float]:
        """Return how far canaries that are in moved the updates over what clip and sampling admit, and its error.

        Steps that were not seen count as steps that moved nothing.
        """
        if self._steps and not math.isfinite(self._mechanism.clip):
            return 1.0, 0.0
        inside, seen = self.planted.included.numpy(), max(1, self._steps)
        most = float(self._expected[inside].mean()) * max(1.0, self._mechanism.steps / seen)
        if not most > 0:
            return 0.0, 0.0
        moved: FloatArray = self._total[inside] / most
        return float(moved.mean()), float(moved.std(ddof=1) / math.sqrt(len(moved)))

    def _shaken(self) -> tuple[float | None, float]:
        """Return how far canaries left out moved, about their mean, over what the noise of each step does to them, and
        its standard error; None where steps do not add the same noise to all weights.

        What they have in common is not the noise, which differs from row to row and from step to step.
        """
        left = ~self.planted.included.numpy()
        if not (self._plain and self._mechanism.noise_multiplier > 0 and self._steps and left.sum() > 1):
            return None, 0.0
        shaken = self._total[left] / np.sqrt(self._noise[left])
        return float(shaken.std(ddof=1)), 1 / math.sqrt(2 * (len(shaken) - 1))

    def _text(self) -> tuple[Tensor, FloatArray, float]:
        """Return what the copy's last layer reads of the canaries' text and a one, [d + 1], the probability of each
        canary's label, and how much of the norm of its gradient lies in its own row, the mean of a few."""
        self._read.clear()
        with torch.enable_grad():
            logits = self.planted.logits(self._copy)
        if len(self._read) != 1 or self._read[0].dim() != 2 or len(self._read[0]) != 1:
            raise UsageError("label canaries: the model's last layer reads no single vector of an example: plant none")
        read, all_chances = self._read[0], logits.detach()[0].softmax(-1)
        whole = torch.cat([read.detach()[0], torch.ones(1)])
        few = {int(each) for each in np.linspace(0, self.planted.count - 1, _SAMPLE)}
        labels = self.planted.labels
        shares = [self._share(read, all_chances, labels + each, float(whole.norm())) for each in sorted(few)]
        return whole, all_chances[self.planted.labels :].double().numpy(), float(np.mean(shares))

    def _share(self, read: Tensor, chances: Tensor, label: int, length: float) -> float:
        wrong = chances.clone()
        wrong[label] -= 1.0
        squared = (float(wrong.norm()) * length) ** 2
        if self._body and read.requires_grad:
            upstream = (wrong @ self._layer.weight.detach())[None]
            found = torch.autograd.grad(read, self._body, upstream, retain_graph=True, allow_unused=True)
            squared += sum(float(each.norm()) ** 2 for each in found if each is not None)
        return abs(float(wrong[label])) * length / max(math.sqrt(squared), 1e-30)
