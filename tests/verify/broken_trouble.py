"""Trainers that go wrong where a sum is not finite, or a loss raises."""

import numpy as np
import torch
from doubles import Honest, of_rows, summed
from planting import NAMED, OWN, to


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
