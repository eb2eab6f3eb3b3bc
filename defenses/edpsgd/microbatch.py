"""Clipped means of micro-batches: the mechanism of eDP-SGD (Dupuy et al. 2022, arXiv 2107.14586).

A reconstruction from the public description. A batch of L rows is divided into M = L / b micro-batches; the mean
gradient of each is clipped layer by layer to C_l = C s_l, the M of them are added, noise of standard deviation
sigma_e C_l goes onto each layer, and the whole is divided by M. sigma_e decays from epoch to epoch.

What is accounted is more than its nominal noise says. One row moves the clipped mean of its micro-batch from one point
of a ball of radius C to any other: the sensitivity is 2C and not C (for b = 1, where each row is a micro-batch of its
own, C). Noise of sigma C_l on each of K layers hides K such balls at once: by sqrt(K) less. Every epoch counts with its
own noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from defenses.edpsgd import history
from defenses.edpsgd.checks import check_losses, check_optimizer
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import IntArray, parts_of
from defenses.edpsgd.separation import Separation, unclipped
from defenses.edpsgd.steps import Losses, Outcome
from redteam.core import UsageError

if TYPE_CHECKING:
    from defenses.accounting import Phase

Decay = Literal["none", "linear", "exponential", "step"]
Scaling = Literal["none", "size"]
LayerNoise = Literal["own", "joint"]

_SLACK = 1e-5  # of the clip, so that rounding cannot break the bound
_EPOCHS_OF_A_STEP = 5


@dataclass(frozen=True)
class MicrobatchRule:
    """How means are clipped and hidden.

    `scaling` none: every layer has the clip C; size: C sqrt(d_l / d), so that all layers together have C. `noise` own:
    sigma C_l on layer l; joint: sigma times the norm of all C_l on every layer. `decay`, with its `rate` kappa: linear
    sigma / (1 + kappa e), exponential sigma exp(-kappa e), step sigma (1 - kappa) ^ floor(e / 5).
    """

    clip: float
    size: int
    scaling: Scaling = "none"
    noise: LayerNoise = "own"
    decay: Decay = "none"
    rate: float = 0.05

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"microbatch {self.size}: a micro-batch has at least one row")
        for name, value, known in (
            ("layer_scaling", self.scaling, ("none", "size")),
            ("layer_noise", self.noise, ("own", "joint")),
            ("noise_decay", self.decay, ("none", "linear", "exponential", "step")),
        ):
            if value not in known:
                raise UsageError(f"{name} {value!r}: must be one of {', '.join(known)}")
        if not 0 <= self.rate < (1 if self.decay == "step" else math.inf):
            raise UsageError(f"decay_rate {self.rate:g}: must be at least 0, and below 1 for noise_decay step")

    def count(self, batch: float) -> int:
        """Return M, the number of micro-batches of an expected batch: a public number."""
        return max(1, round(batch / self.size))

    def factor(self, epoch: int) -> float:
        """Return the share of the noise that is left in an epoch, counted from 0."""
        if self.decay == "linear":
            return 1 / (1 + self.rate * epoch)
        if self.decay == "exponential":
            return math.exp(-self.rate * epoch)
        return (1 - self.rate) ** (epoch // _EPOCHS_OF_A_STEP) if self.decay == "step" else 1.0

    def clips(self, sizes: Sequence[int]) -> tuple[float, ...]:
        """Return C_l for layers of so many weights."""
        whole = sum(sizes)
        return tuple(self.clip * (math.sqrt(size / whole) if self.scaling == "size" else 1.0) for size in sizes)

    def stds(self, sizes: Sequence[int]) -> tuple[float, ...]:
        """Return the standard deviation of each layer's noise on the sum, at noise multiplier 1 and without decay."""
        clips = self.clips(sizes)
        return clips if self.noise == "own" else (math.hypot(*clips),) * len(clips)

    def phases(self, sigma: float, sizes: Sequence[int], *, steps: int, steps_per_epoch: int) -> "tuple[Phase, ...]":
        """Return what `steps` steps are accounted as, epoch by epoch: effective noise multipliers."""
        from defenses.accounting import Phase, effective_multiplier

        whole = effective_multiplier(self.stds(sizes), self.clips(sizes), micro_batches=self.size > 1)
        starts = range(0, steps, steps_per_epoch)
        return tuple(
            Phase(sigma * self.factor(epoch) * whole, min(steps_per_epoch, steps - start))
            for epoch, start in enumerate(starts)
        )


def layers_of(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the trainable weights by the module that holds them; what is tied counts with its first holder."""
    seen: set[int] = set()
    layers = []
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in seen]
        seen |= {id(p) for p in own}
        if own:
            layers.append(own)
    return layers


class MicrobatchSteps:
    """The step of the paper's mechanism; no per-example gradients, one ordinary backward pass a micro-batch."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        source: NoiseSource,
        rule: MicrobatchRule,
        *,
        noise_multiplier: float,
        batch: float,
        size: int,
        steps_per_epoch: int,
        physical_batch: int,
    ) -> None:
        """Lay the gradients of `model` out in one buffer, layer by layer; `size` is how many rows there are."""
        layers = layers_of(model)
        refuse_batch_statistics(model)
        self.optimizer, self.source, self.rule, self.sigma = optimizer, source, rule, noise_multiplier
        self.rows, self.steps_per_epoch, self.physical_batch = size, steps_per_epoch, physical_batch
        self.count = rule.count(batch)
        self.parameters = [p for layer in layers for p in layer]
        check_optimizer(optimizer, self.parameters)
        self.separation = Separation(model, unclipped(self.parameters, rule.clip), alone=True)
        sizes = [sum(p.numel() for p in layer) for layer in layers]
        self.clips, self.stds = rule.clips(sizes), rule.stds(sizes)
        self.released, self.mean = (torch.zeros(sum(sizes), device=self.parameters[0].device) for _ in range(2))
        self.released_layers, self.mean_layers = torch.split(self.released, sizes), torch.split(self.mean, sizes)

    def step(self, number: int, losses: Losses, rows: IntArray, lengths: IntArray | None) -> Outcome:
        """Do step `number` on a logical batch."""
        values: list[torch.Tensor] = []
        dropped = 0
        micros = self._divide(number, rows)
        parts = [part for micro in micros for part in parts_of(micro, None, at_once=self.physical_batch)]
        rng = self.source.generator(number, "separation", branched=True)
        self.separation.check_batch(number, losses, parts, self.mean.device, rng)
        self.released.zero_()
        self._point(self.mean)
        for micro in micros:
            self.mean.zero_()
            for part in parts_of(micro, None, at_once=self.physical_batch):
                values.append(self._backward(part, losses, len(micro)))
            dropped += 0 if self._add() else len(micro)
        history.extend(self.source, rows, [self.released], self._stds_at(number), self.optimizer)
        self._add_noise(number)
        self._point(self.released)
        self.optimizer.step()
        kept = torch.cat(values).double() if values else torch.zeros(0)
        kept = kept[kept.isfinite()]
        return Outcome(float(kept.mean()) if len(kept) else math.nan, len(rows), dropped)

    @property
    def settings(self) -> tuple[Any, ...]:
        """What tells its trainings from those of other trainers."""
        return type(self).__name__, repr(self.rule), self.count, self.sigma

    def close(self) -> None:
        """Leave no gradients behind."""
        for parameter in self.parameters:
            parameter.grad = None

    def _divide(self, number: int, rows: IntArray) -> list[IntArray]:
        """Return the micro-batches that are not empty, of a logical batch.

        Each row draws its own number, whoever else is in the batch. Cutting the batch into pieces of b would not do:
        one row more would push all the rows behind it into the next piece, change every mean, and the sensitivity
        would be 2MC. So micro-batches have b rows on average only, and an empty one adds nothing.
        """
        if self.rule.size == 1:
            return [rows[i : i + 1] for i in range(len(rows))]
        drawn = self.source.generator(number, "micro-batch").random(self.rows)[rows]
        which = np.minimum((drawn * self.count).astype(np.int64), self.count - 1)
        order = np.argsort(which, kind="stable")
        pieces = np.split(rows[order], np.flatnonzero(np.diff(which[order])) + 1)
        return [piece for piece in pieces if len(piece)]

    def _stds_at(self, number: int) -> list[float]:
        """Return the standard deviation of the noise on each layer's mean."""
        sigma = self.sigma * self.rule.factor(number // self.steps_per_epoch)
        return [sigma * std / self.count for std in self.stds]

    def _add_noise(self, number: int) -> None:
        """Draw the noise of all layers at once, each then at its own scale: one stream, no number twice."""
        stds = self._stds_at(number)
        self.source.fill(self.mean, float(any(stds)), step=number)
        for released, noise, std in zip(self.released_layers, self.mean_layers, stds, strict=True):
            released.add_(noise, alpha=std)

    def _point(self, flat: torch.Tensor) -> None:
        views = torch.split(flat, [p.numel() for p in self.parameters])
        for parameter, view in zip(self.parameters, views, strict=True):
            parameter.grad = view.view_as(parameter)

    def _backward(self, part: IntArray, losses: Losses, rows: int) -> torch.Tensor:
        values = losses(torch.from_numpy(part).to(self.mean.device))
        check_losses(values, len(part))
        (values.sum() / rows).backward()  # type: ignore[no-untyped-call]
        return values.detach()

    def _add(self) -> bool:
        """Add the clipped mean; False, and nothing added, where it is not finite."""
        norms = torch.stack([torch.linalg.vector_norm(layer) for layer in self.mean_layers]).double()
        if not bool(norms.isfinite().all()):
            return False
        limits = torch.tensor(self.clips, dtype=torch.float64, device=norms.device) * (1 - _SLACK)
        factors = (limits / norms.clamp(min=1e-300)).clamp(max=1.0) / self.count
        for released, mean, factor in zip(self.released_layers, self.mean_layers, factors.tolist(), strict=True):
            released.add_(mean, alpha=factor)
        return True


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise UsageError for batch normalisation, through which every row changes the gradients of all others."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f"{name}: {type(module).__name__} mixes the rows of a batch: no row can be bounded; use LayerNorm"
            )
