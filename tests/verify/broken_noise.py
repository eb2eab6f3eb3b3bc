"""Trainers whose noise is not drawn anew, or is too little somewhere."""

import numpy as np
from doubles import Honest
from planting import NAMED, OWN, normal, to


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


@to(OWN, "noise in half as many dimensions as coordinates")
class Projected(Honest):
    """A band of frequencies, the coordinates then shuffled, the same way at each step."""

    def noise(self, rng, step, layer, entries):
        drawn = np.zeros(entries // 2 + 1, dtype=np.complex128)
        drawn[: entries // 4] = [1, 1j] @ rng.standard_normal((2, entries // 4))
        noise = np.fft.irfft(drawn, entries)[np.random.default_rng([9, layer]).permutation(entries)]
        return (noise / noise.std()).astype(np.float32)


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
