"""Trainers that clip otherwise than they say."""

import numpy as np
from doubles import Honest, of_rows, summed
from planting import NAMED, OWN, by_norm, to


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


@to(OWN, "the first row of a batch is not clipped")
class FirstRow(Honest):
    def sums(self, model, rows):
        def norms(g):
            found = np.linalg.norm(g, axis=1)
            found[:1] = self.clip
            return found

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
