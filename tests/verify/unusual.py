"""Honest trainers that look unusual."""

import numpy as np
import torch
from broken_sampling import Shuffled
from broken_trouble import Careless
from doubles import Honest, of_rows, summed
from planting import HONEST, by_norm, to

from redteam.core import UsageError


@to(HONEST, "more noise than it says")
class MoreNoise(Honest):
    def std(self, step, layer):
        return 1.5


@to(HONEST, "released in bfloat16")
class ReleasedBf16(Honest):
    kind = torch.bfloat16

    def release(self, problem, totals, divisor):
        super().release(problem, [torch.from_numpy(total).to(self.kind).float().numpy() for total in totals], divisor)


@to(HONEST, "released in float16")
class ReleasedFp16(ReleasedBf16):
    kind = torch.float16


@to(HONEST, "clipped in L1")
class L1(Honest):
    def sums(self, model, rows):
        return by_norm(self, model, rows, lambda g: np.abs(g).sum(axis=1))


@to(HONEST, "clip 2 % too small")
class Slack(Honest):
    def sums(self, model, rows):
        return [0.98 * total for total in super().sums(model, rows)]


@to(HONEST, "clip a fifth too small")
class Smaller(Honest):
    part = np.float32(0.8)

    def sums(self, model, rows):
        return [self.part * total for total in super().sums(model, rows)]


@to(HONEST, "a third of the clip, and more noise than it says")
class SmallerAndNoisier(Smaller):
    part = np.float32(1 / 3)

    def std(self, step, layer):
        return 1.2


@to(HONEST, "clipped in L1, and a fifth too small")
class SmallerL1(L1):
    def sums(self, model, rows):
        return [np.float32(0.8) * total for total in super().sums(model, rows)]


@to(HONEST, "norm plus a small number")
class Plus(Honest):
    def sums(self, model, rows):
        return by_norm(self, model, rows, lambda g: np.linalg.norm(g, axis=1) + 1e-6)


@to(HONEST, "another scale of the update")
class Scaled(Honest):
    def divisor(self, problem, rows):
        return 1 / 37.0


@to(HONEST, "no amplification claimed")
class NotAmplified(Honest):
    def claimed_rate(self, rate):
        return 1.0


@to(HONEST, "losses asked for twice")
class AsksTwice(Honest):
    def take(self, problem, rng, step, sigma):
        state = rng.bit_generator.state
        problem.losses(torch.from_numpy(self.rows(rng, problem.size, step)))
        rng.bit_generator.state = state
        super().take(problem, rng, step, sigma)


@to(HONEST, "shuffled, and says so")
class SaysShuffled(Shuffled):
    sampling = "shuffled"


@to(HONEST, "sums what is not finite")
class Naive(Careless):
    pass


@to(HONEST, "float64 throughout")
class Doubles(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.standard_normal(entries)


@to(HONEST, "torch's noise")
class Torch(Honest):
    def noise(self, rng, step, layer, entries):
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return torch.randn(entries, generator=generator).numpy()


@to(HONEST, "noise that grows")
class Grows(Honest):
    def std(self, step, layer):
        return 1 + step / self.steps


@to(HONEST, "fewer rows than it says")
class FewerRows(Honest):
    def claimed_rate(self, rate):
        return min(1.0, 1.5 * rate)


@to(HONEST, "normalised to the clip")
class Normalised(Honest):
    def sums(self, model, rows):
        ids, gradients = of_rows(model, rows)
        norms = np.linalg.norm(gradients, axis=1)[:, None]
        with np.errstate(invalid="ignore"):
            unit = self.clip * gradients / (norms + 0.01)
        return summed(model, ids, np.where(np.isfinite(norms), np.nan_to_num(unit), 0.0))


@to(HONEST, "by autograd")
class Autograd(Honest):
    """Takes gradients from the losses it asks for, not from the model's numbers; rows must not share an entry."""

    def take(self, problem, rng, step, sigma):
        rows = self.rows(rng, problem.size, step)
        if len(np.unique(problem.model.ids.numpy())) < problem.size:
            raise UsageError("rows that share an entry have no gradients of their own here")
        tables = list(problem.model.parameters())
        losses = problem.losses(torch.from_numpy(rows))
        parts = [part.flatten() for part in torch.autograd.grad(losses.sum(), tables)]
        norms = torch.stack(parts).norm(dim=0)
        factors = (self.clip / (norms + 1e-6)).clamp(max=1.0)
        noises = [sigma * self.clip * self.noise(rng, step, 0, len(table)) for table in tables]
        self.release(problem, self.add([(part * factors).numpy() for part in parts], noises), problem.size * self.rate)
