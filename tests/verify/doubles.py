"""Private trainers for the Dirac model, fast because they work its gradients out by hand: one honest, the rest not.

Each bug is the honest trainer with one thing changed. Noise, sampling and accounting are real.
"""

from functools import lru_cache

import numpy as np
import torch

from defenses.accounting import Phase, Release, calibrate, spent
from redteam.plugins.defense import Mechanism, PrivateRun
from redteam.report.values import Budget, Guarantee


@lru_cache
def noise_for(epsilon, delta, rate, steps, sampling="poisson"):
    """The noise multiplier of `epsilon`, and what it spends."""

    def release(sigma):
        return Release((Phase(sigma, steps),), sampling, rate)

    sigma = calibrate(epsilon=epsilon, delta=delta, release_of=release)
    return sigma, spent([release(sigma)], delta=delta)


def of_rows(model, rows):
    """The entry of each row, and its gradient there in either table, [rows, 2]."""
    ids = model.ids.numpy()[rows]
    return ids, model.weights.numpy()[rows, None] * model.shares.numpy()[ids]


def summed(model, ids, gradients):
    """The sum of gradients of rows at their entries, one array a table."""
    entries = model.first.num_embeddings
    return [np.bincount(ids, column, minlength=entries).astype(np.float32) for column in gradients.T]


class Honest:
    """Per-example clipping, Poisson sampling, noise on everything at every step: what it claims, it does."""

    name = "honest"
    sampling = "poisson"

    def __call__(self, problem, settings):
        rate = settings.batch_size / problem.population
        steps = round(settings.epochs / rate)
        claimed = self.claimed_rate(rate)
        sigma, epsilon = noise_for(settings.epsilon, settings.delta, claimed, steps, self.sampling)
        rng = np.random.default_rng(settings.seed)
        self.rate, self.steps, self.clip = rate, steps, settings.clip
        self.started(problem, settings)
        for step in range(steps):
            self.take(problem, rng, step, sigma)
        budget = Budget(epsilon, settings.delta, "example", "add or remove one", "PLD")
        mechanism = Mechanism(settings.clip, sigma, claimed, steps, self.sampling)
        return PrivateRun(mechanism, Guarantee(budget, budget))

    def started(self, problem, settings):
        """Prepare for a training."""

    def take(self, problem, rng, step, sigma):
        """Do one step."""
        rows = self.rows(rng, problem.size, step)
        problem.losses(torch.from_numpy(rows))  # an adversary hears of them
        sums = self.sums(problem.model, rows)
        stds = [self.std(step, layer) * sigma * self.clip for layer in range(2)]
        noises = [std * self.noise(rng, step, layer, len(sums[layer])) for layer, std in enumerate(stds)]
        self.release(problem, self.add(sums, noises), self.divisor(problem, rows))

    def add(self, sums, noises):
        return [total + noise for total, noise in zip(sums, noises, strict=True)]

    def divisor(self, problem, rows):
        return self.rate * problem.population

    def release(self, problem, totals, divisor):
        for parameter, total in zip(problem.model.parameters(), totals, strict=True):
            parameter.grad = torch.from_numpy(np.asarray(total) / divisor).float().reshape(parameter.shape)
        problem.optimizer.step()

    def claimed_rate(self, rate):
        return rate

    def rows(self, rng, size, step):
        return np.flatnonzero(rng.random(size, dtype=np.float32) < self.rate)

    def std(self, step, layer):
        """The noise over what it should be."""
        return 1.0

    def noise(self, rng, step, layer, entries):
        return rng.standard_normal(entries, dtype=np.float32)

    def sums(self, model, rows):
        """The clipped sum's entries, for each layer: an example has its weight at one entry of both."""
        ids, gradients = of_rows(model, rows)
        norms = np.linalg.norm(gradients, axis=1)
        gradients[~np.isfinite(norms)], norms[~np.isfinite(norms)] = 0.0, 1.0  # they add nothing
        return summed(model, ids, gradients * np.minimum(1.0, self.clip / np.maximum(norms, 1e-30))[:, None])


class NoClipping(Honest):
    name = "no clipping"

    def sums(self, model, rows):
        return summed(model, *of_rows(model, rows))


class ClipsTheAverage(NoClipping):
    """The mean gradient is clipped, and noised as a mean of clipped ones."""

    name = "clips after averaging"

    def sums(self, model, rows):
        mean = np.array(super().sums(model, rows)) / max(1, len(rows))
        return list(mean * min(1.0, self.clip / max(np.linalg.norm(mean), 1e-30)) * max(1, len(rows)))


class NoiseOverTheBatch(Honest):
    """Noise of standard deviation sigma C / L on the sum, which is then divided by L once more."""

    name = "noise scaled by C/L"

    def __call__(self, problem, settings):
        self.batch = settings.batch_size
        return super().__call__(problem, settings)

    def std(self, step, layer):
        return 1.0 / self.batch


class NoiseOnceAnEpoch(Honest):
    name = "noise at one step an epoch"

    def std(self, step, layer):
        return float(step % round(1 / self.rate) == 0)


class NoiseUsedAgain(Honest):
    """Noise is drawn at the first step of an epoch, and used again until the next."""

    name = "noise drawn once an epoch"

    def noise(self, rng, step, layer, entries):
        epoch = step // round(1 / self.rate)
        return np.random.default_rng([self.key, epoch, layer]).standard_normal(entries, dtype=np.float32)

    def __call__(self, problem, settings):
        self.key = settings.seed
        return super().__call__(problem, settings)


class HalfTheNoise(Honest):
    name = "sigma halved"

    def std(self, step, layer):
        return 0.5


class MicroBatches(Honest):
    """Means of b neighbours are clipped, and accounted as if each were an example."""

    name = "micro-batches accounted as examples"
    b = 8

    def sums(self, model, rows):
        ids, gradients = of_rows(model, rows)
        micro = np.arange(len(rows)) // self.b
        entries = model.first.num_embeddings
        keys, place = np.unique(micro * entries + ids, return_inverse=True)
        means = np.array([np.bincount(place, column) for column in gradients.T]).T / self.b
        owner = keys // entries
        norms = np.sqrt(np.bincount(owner, (means**2).sum(axis=1)))
        clipped = means * np.minimum(1.0, self.clip / np.maximum(norms, 1e-30))[owner][:, None]
        return summed(model, keys % entries, clipped)


class MicroBatchesOfTwo(MicroBatches):
    name = "micro-batches of 2"
    b = 2


class MicroBatchesOf32(MicroBatches):
    name = "micro-batches of 32"
    b = 32


class RandomMicroBatches(MicroBatches):
    """Rows go to micro-batches by lot, so no family stays together."""

    name = "random micro-batches accounted as examples"

    def __call__(self, problem, settings):
        self.lots = np.random.default_rng([settings.seed, 1])
        return super().__call__(problem, settings)

    def sums(self, model, rows):
        return super().sums(model, self.lots.permutation(rows))


class RandomMicroBatchesOfTwo(RandomMicroBatches):
    name = "random micro-batches of 2"
    b = 2


class RandomPairsOfUnits(Honest):
    """Gradients are brought to one length, random pairs of them are added up, and their sums are clipped."""

    name = "random pairs of unit gradients"

    def __call__(self, problem, settings):
        self.lots = np.random.default_rng([settings.seed, 1])
        return super().__call__(problem, settings)

    def sums(self, model, rows):
        ids, gradients = of_rows(model, self.lots.permutation(rows))
        norms = np.linalg.norm(gradients, axis=1)
        there = np.isfinite(norms) & (norms > 0)
        gradients[~there], norms[~there] = 0.0, 1.0
        pairs = np.arange(len(rows)) // 2
        both = np.bincount(pairs, there)[pairs] == 2 if len(rows) else there
        return summed(model, ids, self.clip * gradients / (norms * np.where(both, 2**0.5, 1.0))[:, None])


class NeverAdded(Honest):
    """Releases noise alone."""

    name = "gradient never added"

    def sums(self, model, rows):
        return [np.zeros(model.first.num_embeddings, dtype=np.float32)] * 2


class Leaks(Honest):
    """Its gradients are honest; raw ones go to the weights, past the optimiser."""

    name = "raw gradients past the optimiser"

    def sums(self, model, rows):
        raw = torch.from_numpy(NoClipping.sums(self, model, rows)[0])
        with torch.no_grad():
            model.first.weight.sub_(raw.float().unsqueeze(1))
        return super().sums(model, rows)


class LeaksAtTheEnd(Honest):
    name = "raw gradients after the last step"

    def __call__(self, problem, settings):
        run = super().__call__(problem, settings)
        problem.model.second.weight.data[: problem.size, 0] -= problem.model.weights
        return run


class NoiseForOneLayer(Honest):
    """Each layer is clipped, the first one gets noise."""

    name = "per-layer clip, noise for one layer"

    def sums(self, model, rows):
        return [np.sqrt(2.0) * total for total in super().sums(model, rows)]

    def std(self, step, layer):
        return float(layer == 0)


class DecayedNoise(Honest):
    name = "decayed noise accounted at its start"

    def std(self, step, layer):
        return 1.0 / (1.0 + 2.0 * step / self.steps)


class TwiceTheData(Honest):
    """The accountant is told of twice the data, so of half the rate."""

    name = "accountant given twice the data"

    def claimed_rate(self, rate):
        return rate / 2


class FixedOrder(Honest):
    name = "Poisson claimed, fixed order done"

    def rows(self, rng, size, step):
        batch = round(self.rate * size)
        start = step * batch % size
        return np.arange(start, min(start + batch, size))


class ConstantSeed(Honest):
    """The noise does not depend on the seed."""

    name = "noise from a constant seed"

    def noise(self, rng, step, layer, entries):
        return np.random.default_rng([step, layer]).standard_normal(entries, dtype=np.float32)


BUGS = (
    NoClipping,
    ClipsTheAverage,
    NoiseOverTheBatch,
    NoiseOnceAnEpoch,
    NoiseUsedAgain,
    HalfTheNoise,
    MicroBatches,
    MicroBatchesOfTwo,
    MicroBatchesOf32,
    NoiseForOneLayer,
    DecayedNoise,
    TwiceTheData,
    FixedOrder,
    ConstantSeed,
)
