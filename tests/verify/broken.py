"""Broken private trainers, each the honest one with one thing wrong, and honest ones that look unusual.

`NAMED` are known to have passed once; `OWN` were made up beside them; `HONEST` must pass. What fails is in the names.
"""

import numpy as np
import torch
from doubles import Honest, of_rows, summed

from redteam.errors import UsageError

NAMED, OWN, HONEST = [], [], []


def to(group, name):
    """Put a trainer into a group, under a name."""

    def put(trainer):
        trainer.name = name
        group.append(trainer)
        return trainer

    return put


def normal(rng, entries):
    return rng.standard_normal(entries, dtype=np.float32)


def by_norm(trainer, model, rows, norms):
    """The sum of gradients, each over its `norms` [rows] where that is above the clip."""
    ids, gradients = of_rows(model, rows)
    factors = np.minimum(1.0, trainer.clip / np.maximum(norms(gradients), 1e-30))
    with np.errstate(invalid="ignore"):
        clipped = np.nan_to_num(gradients * factors[:, None], nan=0.0, posinf=0.0, neginf=0.0)
    return summed(model, ids, clipped)


# -- noise of another shape -----------------------------------------------------------------------------------------


@to(NAMED, "uniform noise of the same variance")
class Uniform(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.uniform(-np.sqrt(3), np.sqrt(3), entries).astype(np.float32)


@to(NAMED, "noise clamped to 2 sigma")
class Clamped(Honest):
    def noise(self, rng, step, layer, entries):
        return np.clip(normal(rng, entries), -2, 2)


@to(NAMED, "noise drawn again beyond 2 sigma")
class Redrawn(Honest):
    def noise(self, rng, step, layer, entries):
        noise = normal(rng, entries)
        while (far := np.abs(noise) > 2).any():
            noise[far] = normal(rng, int(far.sum()))
        return noise


@to(OWN, "noise clamped to 3 sigma")
class Clamped3(Honest):
    def noise(self, rng, step, layer, entries):
        return np.clip(normal(rng, entries), -3, 3)


@to(OWN, "Laplace noise of the same variance")
class Laplace(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.laplace(0, np.sqrt(0.5), entries).astype(np.float32)


@to(OWN, "Student noise of the same variance")
class Student(Honest):
    def noise(self, rng, step, layer, entries):
        return (rng.standard_t(8, entries) / np.sqrt(8 / 6)).astype(np.float32)


@to(OWN, "sum of four uniforms")
class FourUniforms(Honest):
    def noise(self, rng, step, layer, entries):
        return (rng.uniform(-1, 1, (4, entries)).sum(axis=0) * np.sqrt(3 / 4)).astype(np.float32)


@to(OWN, "signs for noise")
class Signs(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.choice(np.float32([-1, 1]), entries)


@to(OWN, "a tenth of the entries without noise")
class Sparse(Honest):
    def noise(self, rng, step, layer, entries):
        return normal(rng, entries) * (rng.random(entries) < 0.9)


@to(OWN, "absolute values of noise")
class OneSided(Honest):
    def noise(self, rng, step, layer, entries):
        return (np.abs(normal(rng, entries)) - 0.798) / 0.603


# -- noise on a grid ------------------------------------------------------------------------------------------------


@to(NAMED, "noise rounded to bfloat16")
class NoiseBf16(Honest):
    kind = torch.bfloat16

    def add(self, sums, noises):
        return super().add(sums, [torch.from_numpy(noise).to(self.kind).float().numpy() for noise in noises])


@to(NAMED, "noise rounded to float16")
class NoiseFp16(NoiseBf16):
    kind = torch.float16


@to(OWN, "noise drawn in float16")
class DrawnFp16(Honest):
    def noise(self, rng, step, layer, entries):
        return normal(rng, entries).astype(np.float16).astype(np.float32)


@to(OWN, "noise rounded to hundredths of sigma")
class Hundredths(Honest):
    def noise(self, rng, step, layer, entries):
        return np.round(normal(rng, entries) * 100) / 100


# -- noise that is not drawn anew -----------------------------------------------------------------------------------


@to(NAMED, "noise shared by neighbouring coordinates")
class Shared(Honest):
    def noise(self, rng, step, layer, entries):
        return np.repeat(normal(rng, (entries + 1) // 2), 2)[:entries]


@to(NAMED, "the same noise for two layers")
class TwoLayers(Honest):
    def noise(self, rng, step, layer, entries):
        if layer == 0:
            self.drawn = normal(rng, entries)
        return self.drawn


@to(OWN, "noise tiled")
class Tiled(Honest):
    def noise(self, rng, step, layer, entries):
        return np.resize(normal(rng, entries // 3), entries)


@to(OWN, "noise negated in the second half")
class Antithetic(Honest):
    def noise(self, rng, step, layer, entries):
        half = normal(rng, (entries + 1) // 2)
        return np.concatenate([half, -half])[:entries]


@to(OWN, "neighbours' noise averaged")
class Smoothed(Honest):
    def noise(self, rng, step, layer, entries):
        noise = normal(rng, entries + 1)
        return (noise[1:] + noise[:-1]) / np.sqrt(np.float32(2))


@to(OWN, "noise partly that of the other layer")
class PartlyShared(TwoLayers):
    def noise(self, rng, step, layer, entries):
        mixed = 0.2 * super().noise(rng, step, layer, entries) + np.sqrt(1 - 0.04) * normal(rng, entries)
        return mixed.astype(np.float32)


@to(OWN, "noise negated at each second step")
class Pairs(Honest):
    def noise(self, rng, step, layer, entries):
        held = self.__dict__.setdefault("held", {})
        if step % 2 == 0:
            held[layer] = normal(rng, entries)
        return held[layer] if step % 2 == 0 else -held[layer]


@to(OWN, "last step's noise subtracted")
class Telescoped(Honest):
    def noise(self, rng, step, layer, entries):
        held = self.__dict__.setdefault("held", {})
        new = normal(rng, entries)
        old = held.get((step - 1, layer), normal(rng, entries))
        held.clear() if layer == 0 and (step - 1, 1) in held and (step - 1, 0) not in held else None
        held[step, layer] = new
        held.pop((step - 1, layer), None)
        return (new - old) / np.sqrt(np.float32(2))


@to(OWN, "noise seeded alike at each step")
class SameSeed(Honest):
    def started(self, problem, settings):
        self.key = settings.seed

    def noise(self, rng, step, layer, entries):
        return normal(np.random.default_rng([self.key, layer]), entries)


@to(OWN, "noise seeded by its shape alone in a step")
class SeededByShape(SameSeed):
    def noise(self, rng, step, layer, entries):
        return normal(np.random.default_rng([self.key, step, entries]), entries)


@to(OWN, "noise from seed 42")
class Constant(Honest):
    def noise(self, rng, step, layer, entries):
        return normal(np.random.default_rng([42, step, layer]), entries)


@to(OWN, "noise from eight seeds in turn")
class FewSeeds(SameSeed):
    def noise(self, rng, step, layer, entries):
        return normal(np.random.default_rng([self.key, step % 8, layer]), entries)


# -- noise that is too little somewhere -----------------------------------------------------------------------------


@to(OWN, "no noise at the first step")
class NotAtFirst(Honest):
    def std(self, step, layer):
        return float(step > 0)


@to(OWN, "no noise at the last step")
class NotAtLast(Honest):
    def std(self, step, layer):
        return float(step < self.steps - 1)


@to(OWN, "noise of the first pass only")
class FirstPass(Honest):
    def std(self, step, layer):
        return 1.0 if step < round(1 / self.rate) else 0.5


@to(OWN, "noise that shrinks")
class Shrinks(Honest):
    def std(self, step, layer):
        return 0.99 ** (step * 100 / self.steps)


@to(OWN, "noise 0.9 of what it says")
class NineTenths(Honest):
    def std(self, step, layer):
        return 0.9


@to(OWN, "sigma without the clip")
class WithoutClip(Honest):
    def __call__(self, problem, settings):
        self.told = settings.clip
        return super().__call__(problem, settings)

    def started(self, problem, settings):
        self.clip = settings.clip * 2  # as where the clip is 2 and the noise sigma alone

    def std(self, step, layer):
        return 0.5


@to(OWN, "half the noise on the second table")
class HalfASecond(Honest):
    def std(self, step, layer):
        return 1.0 if layer == 0 else 0.5


@to(OWN, "noise divided by the layers")
class OverLayers(Honest):
    def std(self, step, layer):
        return 1 / np.sqrt(2)


@to(OWN, "noise on touched entries only")
class Touched(Honest):
    def add(self, sums, noises):
        return [total + np.where(total != 0, noise, 0) for total, noise in zip(sums, noises, strict=True)]


@to(OWN, "noise on untouched entries only")
class Untouched(Honest):
    def add(self, sums, noises):
        return [total + np.where(total == 0, noise, 0) for total, noise in zip(sums, noises, strict=True)]


@to(OWN, "no noise in the first tenth of a table")
class FirstTenth(Honest):
    def noise(self, rng, step, layer, entries):
        noise = normal(rng, entries)
        noise[: entries // 10] = 0
        return noise


@to(OWN, "half the noise where an example is read")
class LessWhereRead(Honest):
    def add(self, sums, noises):
        return [total + np.where(total != 0, noise / 2, noise) for total, noise in zip(sums, noises, strict=True)]


@to(OWN, "half the noise in small batches")
class LessIfSmall(Honest):
    def sums(self, model, rows):
        self.small = len(rows) < self.rate * model.weights.numel() - 2
        return super().sums(model, rows)

    def std(self, step, layer):
        return 0.5 if self.small else 1.0


# -- clipping -------------------------------------------------------------------------------------------------------


@to(NAMED, "clip per parameter")
class PerParameter(Honest):
    def sums(self, model, rows):
        ids, gradients = of_rows(model, rows)
        return summed(model, ids, np.nan_to_num(np.clip(gradients, -self.clip, self.clip)))


@to(NAMED, "clip by the largest entry")
class ByLargest(Honest):
    def sums(self, model, rows):
        return by_norm(self, model, rows, lambda g: np.abs(g).max(axis=1))


@to(OWN, "clip per parameter, C and sqrt(C) / 2")
class PerParameterHalf(Honest):
    def sums(self, model, rows):
        ids, gradients = of_rows(model, rows)
        bounds = self.clip * np.array([1.0, 0.5])
        return summed(model, ids, np.nan_to_num(np.clip(gradients, -bounds, bounds)))


@to(OWN, "clip of the first table alone")
class FirstAlone(Honest):
    def sums(self, model, rows):
        return by_norm(self, model, rows, lambda g: np.abs(g[:, 0]))


@to(OWN, "clip from above only")
class FromAbove(Honest):
    def sums(self, model, rows):
        ids, gradients = of_rows(model, rows)
        bound = self.clip / np.sqrt(2)
        return summed(model, ids, np.nan_to_num(np.minimum(gradients, bound), posinf=0.0, neginf=0.0))


@to(OWN, "no clip where the norm is below twice the clip")
class Late(Honest):
    def sums(self, model, rows):
        def norms(g):
            found = np.linalg.norm(g, axis=1)
            return np.where(found < 2 * self.clip, self.clip, found)

        return by_norm(self, model, rows, norms)


@to(OWN, "no clip where the norm is above 1000")
class Overflows(Honest):
    def sums(self, model, rows):
        def norms(g):
            found = np.linalg.norm(g, axis=1)
            return np.where(found > 1000 * self.clip, self.clip, found)

        return by_norm(self, model, rows, norms)


@to(OWN, "norms of the rows before")
class Stale(Honest):
    def sums(self, model, rows):
        return by_norm(self, model, rows, lambda g: np.roll(np.linalg.norm(g, axis=1), 1))


@to(OWN, "clip by the mean norm")
class MeanNorm(Honest):
    def sums(self, model, rows):
        def norms(g):
            found = np.linalg.norm(g, axis=1)
            return np.full(len(g), found[np.isfinite(found)].mean() if np.isfinite(found).any() else 1.0)

        return by_norm(self, model, rows, norms)


@to(OWN, "clip of the sum")
class OfTheSum(Honest):
    def sums(self, model, rows):
        total = np.nan_to_num(np.array(summed(model, *of_rows(model, rows))), posinf=0.0, neginf=0.0)
        return list(total * min(1.0, self.clip * max(1, len(rows)) / max(np.linalg.norm(total), 1e-30)))


@to(OWN, "clip 10 % too large")
class TenPercent(Honest):
    def sums(self, model, rows):
        return [1.1 * total for total in super().sums(model, rows)]


@to(OWN, "no clip in every tenth step")
class SomeSteps(Honest):
    def take(self, problem, rng, step, sigma):
        self.now = step
        super().take(problem, rng, step, sigma)

    def sums(self, model, rows):
        clipped = super().sums(model, rows)
        return [2 * total for total in clipped] if self.now % 10 == 9 else clipped


@to(OWN, "one row in fifty is not clipped")
class SomeRows(Honest):
    def sums(self, model, rows):
        def norms(g):
            return np.where(rows % 50 == 7, self.clip, np.linalg.norm(g, axis=1))

        return by_norm(self, model, rows, norms)


@to(OWN, "the raw gradient of an example is added to each sum")
class RawMean(Honest):
    def sums(self, model, rows):
        clipped, (ids, raw) = super().sums(model, rows), of_rows(model, rows)
        return [c + 0.02 * r for c, r in zip(clipped, summed(model, ids, np.nan_to_num(raw, posinf=0)), strict=True)]


# -- sampling and batches -------------------------------------------------------------------------------------------


@to(NAMED, "rate 1.5 times the claim")
class Rate(Honest):
    def claimed_rate(self, rate):
        return rate / 1.5


@to(NAMED, "sampling with replacement")
class Replaced(Honest):
    def rows(self, rng, size, step):
        return rng.integers(size, size=round(self.rate * size))


@to(OWN, "batches of one size")
class FixedSize(Honest):
    def rows(self, rng, size, step):
        return rng.permutation(size)[: round(self.rate * size)]


@to(OWN, "shuffled passes claimed as Poisson")
class Shuffled(Honest):
    def rows(self, rng, size, step):
        batch, steps = round(self.rate * size), -(-size // round(self.rate * size))
        if step % steps == 0:
            self.order = rng.permutation(size)
        return self.order[step % steps * batch :][:batch]


@to(OWN, "the same batches in each pass")
class SamePasses(Shuffled):
    def rows(self, rng, size, step):
        steps = -(-size // round(self.rate * size))
        if step >= steps:
            step = step % steps or steps
            return self.order[(step % steps) * round(self.rate * size) :][: round(self.rate * size)]
        return super().rows(rng, size, step)


@to(OWN, "a batch used twice")
class Twice(Honest):
    def rows(self, rng, size, step):
        if step % 2 == 0:
            self.held = super().rows(rng, size, step)
        return self.held


@to(OWN, "a window of neighbours")
class Window(Honest):
    def rows(self, rng, size, step):
        batch = rng.binomial(size, self.rate)
        return np.sort((rng.integers(size) + np.arange(batch)) % size)


@to(OWN, "row 0 in every batch")
class Row0(Honest):
    def rows(self, rng, size, step):
        return np.union1d([0], super().rows(rng, size, step))


@to(OWN, "one row in a hundred in every batch")
class Favoured(Honest):
    def rows(self, rng, size, step):
        return np.union1d(np.arange(0, size, 100), super().rows(rng, size, step))


@to(OWN, "rate doubled in the last batch")
class LastBatch(Honest):
    def rows(self, rng, size, step):
        rate = min(1.0, 2 * self.rate) if step == self.steps - 1 else self.rate
        return np.flatnonzero(rng.random(size) < rate)


@to(OWN, "odd rows twice as likely as even ones")
class Odd(Honest):
    def rows(self, rng, size, step):
        rates = self.rate * np.where(np.arange(size) % 2, 4 / 3, 2 / 3)
        return np.flatnonzero(rng.random(size) < rates)


@to(OWN, "rows from a constant seed")
class ConstantRows(Honest):
    def rows(self, rng, size, step):
        return super().rows(np.random.default_rng([7, step]), size, step)


@to(OWN, "each example augmented: counted twice")
class Augmented(Honest):
    def sums(self, model, rows):
        return [2 * total for total in super().sums(model, rows)]


@to(OWN, "a step more than it says")
class OneMore(Honest):
    def take(self, problem, rng, step, sigma):
        super().take(problem, rng, step, sigma)
        if step == self.steps - 1:
            super().take(problem, rng, step, sigma)


@to(OWN, "last batch's sum added again")
class Accumulated(Honest):
    def sums(self, model, rows):
        new = super().sums(model, rows)
        both = [a + b for a, b in zip(new, getattr(self, "old", [0, 0]), strict=True)]
        self.old = new
        return both

    def started(self, problem, settings):
        self.old = [0, 0]


@to(OWN, "divided by the batch as it is")
class RealBatch(Honest):
    def divisor(self, problem, rows):
        return max(1, len(rows))


@to(OWN, "empty batches skipped")
class SkipsEmpty(Honest):
    def release(self, problem, totals, divisor):
        if self.any:
            super().release(problem, totals, divisor)

    def sums(self, model, rows):
        self.any = len(rows) > 0
        return super().sums(model, rows)


@to(OWN, "no noise for empty batches")
class BareEmpty(SkipsEmpty):
    def release(self, problem, totals, divisor):
        Honest.release(self, problem, totals if self.any else [0 * total for total in totals], divisor)


@to(OWN, "the largest batch dropped")
class DropsLarge(SkipsEmpty):
    def sums(self, model, rows):
        self.any = len(rows) <= self.rate * model.weights.numel() * 1.25 + 1 or len(rows) < 3
        return Honest.sums(self, model, rows)


@to(OWN, "noise for each micro-batch claimed as for the sum")
class OnePart(Honest):
    def std(self, step, layer):
        return 1 / np.sqrt(8)  # of eight workers' noise, one's share arrives


@to(OWN, "zeros released where a batch is large")
class Zeros(DropsLarge):
    def release(self, problem, totals, divisor):
        Honest.release(self, problem, totals if self.any else [total * 0 for total in totals], divisor)


# -- what is not finite, and what raises ----------------------------------------------------------------------------


class Careless(Honest):
    """Sums what is not finite as well."""

    def sums(self, model, rows):
        ids, gradients = of_rows(model, rows)
        norms = np.linalg.norm(gradients, axis=1)
        with np.errstate(invalid="ignore"):
            clipped = gradients * np.minimum(1.0, self.clip / np.maximum(norms, 1e-30))[:, None]
        return summed(model, ids, clipped)


@to(NAMED, "no noise where a sum is not finite")
class NoNoiseIfNotFinite(Careless):
    def add(self, sums, noises):
        if all(np.isfinite(total).all() for total in sums):
            return super().add(sums, noises)
        return [np.nan_to_num(total) for total in sums]


@to(OWN, "a step left out where a sum is not finite")
class SkipsNotFinite(Careless):
    def release(self, problem, totals, divisor):
        if all(np.isfinite(total).all() for total in totals):
            super().release(problem, totals, divisor)


@to(OWN, "no clip where a sum is not finite")
class NoClipIfNotFinite(Careless):
    def sums(self, model, rows):
        sums = super().sums(model, rows)
        if all(np.isfinite(total).all() for total in sums):
            return sums
        return [np.nan_to_num(total, posinf=0.0, neginf=0.0) for total in summed(model, *of_rows(model, rows))]


@to(OWN, "no noise in a table whose sum is not finite")
class LayerNotFinite(Careless):
    def add(self, sums, noises):
        return [total + noise if np.isfinite(total).all() else total for total, noise in zip(sums, noises, strict=True)]


@to(OWN, "the last sum again, without noise, where one is not finite")
class LastSum(NoNoiseIfNotFinite):
    def started(self, problem, settings):
        self.last = [np.zeros(problem.model.first.num_embeddings)] * 2

    def add(self, sums, noises):
        if all(np.isfinite(total).all() for total in sums):
            self.last = sums
        else:
            return self.last
        return super().add(sums, noises)


@to(OWN, "no noise where a loss raises")
class Rescues(Honest):
    def take(self, problem, rng, step, sigma):
        state = rng.bit_generator.state
        try:
            super().take(problem, rng, step, sigma)
        except RuntimeError:
            rng.bit_generator.state = state
            rows = self.rows(rng, problem.size, step)
            problem.losses(torch.from_numpy(rows))
            self.release(problem, self.sums(problem.model, rows), self.divisor(problem, rows))


# -- honest ---------------------------------------------------------------------------------------------------------


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
