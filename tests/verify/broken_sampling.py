"""Trainers that sample otherwise than they say, or do otherwise with batches."""

import numpy as np
from doubles import Honest
from planting import NAMED, OWN, to


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
