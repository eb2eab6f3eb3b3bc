"""The step of exact per-example clipping, and what every step tells whoever trains."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from defenses.edpsgd import history
from defenses.edpsgd.checks import check_losses, check_optimizer
from defenses.edpsgd.clipper import ExampleClipper
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import IntArray, parts_of
from redteam.core import UsageError

Losses = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Outcome:
    """One step: the mean of its finite losses (NaN where there is none), its rows, and those dropped as non-finite."""

    loss: float
    rows: int
    dropped: int


class ExampleSteps:
    """The step of exact per-example clipping: clipped sums into the gradient buffer, noise on top, the optimiser."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        source: NoiseSource,
        *,
        clip: float,
        noise_multiplier: float,
        divisor: float,
        physical_batch: int,
    ) -> None:
        """Prepare the model; `close` undoes it. Raises UnsupportedLayer, or UsageError for a foreign optimiser."""
        self.optimizer, self.source, self.physical_batch = optimizer, source, physical_batch
        self.scale, self.std = 1.0 / divisor, noise_multiplier * clip / divisor
        self.clipper = ExampleClipper(model, clip=clip)
        try:
            check_optimizer(optimizer, self.clipper.parameters)
        except UsageError:
            self.clipper.close()
            raise

    def step(self, number: int, losses: Losses, rows: IntArray, lengths: IntArray | None) -> Outcome:
        """Do step `number` on a logical batch; the losses of its physical parts come from `losses`."""
        total, finite, dropped = 0.0, 0, 0
        losses = self.clipper.named(losses)
        buffer, parts = self.clipper.buffer, parts_of(rows, lengths, at_once=self.physical_batch)
        self.clipper.check_batch(number, losses, parts, self.source.generator(number, "separation", branched=True))
        buffer.zero_()
        for part in parts:
            values = losses(torch.from_numpy(part).to(buffer.device))
            check_losses(values, len(part))
            dropped += self.clipper.add(values, scale=self.scale).dropped
            kept = values.detach()[values.detach().isfinite()]
            total, finite = total + float(kept.double().sum()), finite + kept.numel()
        # Before the noise, which depends on it.
        history.extend(self.source, rows, [buffer], [self.std], self.optimizer)
        self.source.add(buffer, self.std, step=number)
        self.clipper.publish()  # copies, a zero_grad() in the user's loop, and an empty batch need it
        self.optimizer.step()
        return Outcome(total / finite if finite else math.nan, len(rows), dropped)

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """What is trained."""
        return self.clipper.parameters

    @property
    def settings(self) -> tuple[Any, ...]:
        """What tells its trainings from those of other trainers."""
        return type(self).__name__, self.scale, self.std

    def close(self) -> None:
        """Leave the model as it was, trained."""
        self.clipper.close()
