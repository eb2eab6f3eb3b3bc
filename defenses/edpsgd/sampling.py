"""Which rows a step takes, and how they are divided so that they fit into memory.

A logical batch is what one noisy step releases the sum of; who is in it decides the guarantee. A physical part is what
one forward and backward pass holds; the sum does not depend on the parts, so they may be made in any way, also by
looking at the data. Everything here is a function of (seed, step) alone, but for the draws of Poisson sampling, which
must be nobody else's and so depend on the history too. A shuffled order has no amplification and may be known.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from defenses.edpsgd.noise import NoiseSource
from redteam.core import UsageError
from redteam.plugins.defense import SHARE_BATCHES

IntArray = NDArray[np.int64]
Sampling = Literal["poisson", "shuffled"]

USUAL_LENGTH = 32  # tokens; turns "so many texts at once" into a budget of tokens


class Sampler:
    """The logical batches of a training over `size` rows.

    poisson: each row independently with probability `sample_rate`; the batches vary, and some may be empty.
    shuffled: a fresh permutation for each pass, cut into batches of `sample_rate * population`; with `drop_last`, what
    does not fill a batch is left out of the pass. The number of steps of a pass follows from the public numbers alone:
    rows beyond it wait for the next pass. The order follows from `size` too: a pass begun with one size has to end with
    it. Raises UsageError for a rate outside (0, 1] or an empty population.
    """

    def __init__(
        self,
        source: NoiseSource,
        *,
        size: int,
        population: int,
        sample_rate: float,
        sampling: Sampling = "poisson",
        drop_last: bool = False,
    ) -> None:
        """Check the numbers; nothing is drawn yet."""
        check_rate(sample_rate, population)
        if sampling not in ("poisson", "shuffled"):
            raise UsageError(f"sampling {sampling!r}: must be poisson or shuffled")
        self.source, self.size, self.sampling, self.sample_rate = source, size, sampling, sample_rate
        self.batch = max(1, round(sample_rate * population))
        self.steps_per_pass = steps_of_a_pass(sample_rate, population, drop_last=drop_last)
        self._order: tuple[int, IntArray] | None = None

    def rows(self, step: int) -> IntArray:
        """Return the rows of a step, ascending for poisson."""
        if self.sampling == "poisson":
            return np.flatnonzero(self._rng(step).random(self.size) < self.sample_rate)
        which, place = divmod(step, self.steps_per_pass)
        return self._permutation(which)[place * self.batch : (place + 1) * self.batch]

    def _rng(self, step: int) -> np.random.Generator:
        return self.source.generator(step, "poisson", branched=not SHARE_BATCHES.get())

    def _permutation(self, which: int) -> IntArray:
        if self._order is None or self._order[0] != which:
            self._order = which, self.source.generator(which, "shuffle").permutation(self.size)
        return self._order[1]


def steps_of_a_pass(sample_rate: float, population: int, *, drop_last: bool = False) -> int:
    """Return in how many shuffled batches a population is passed over once; a public number."""
    batches = population / max(1, round(sample_rate * population))
    return max(1, math.floor(batches) if drop_last else math.ceil(batches))


def check_rate(sample_rate: float, population: int) -> None:
    """Raise UsageError for a chance of being sampled that is none, or an empty population."""
    if population < 1:
        raise UsageError(f"population {population}: there must be at least one row to sample from")
    if not 0 < sample_rate <= 1:
        raise UsageError(
            f"sample rate {sample_rate:g} of {population:,} rows: must lie above 0 and at most at 1; "
            "a logical batch cannot be larger than the data"
        )


def parts_of(rows: IntArray, lengths: NDArray[Any] | None, *, at_once: int) -> list[IntArray]:
    """Divide a logical batch into physical parts; none where it is empty.

    With `lengths`, in tokens by row, like goes with like and a part has at most `at_once * 32` tokens, padding counted;
    without, at most `at_once` rows. A row that is longer than that is a part by itself.
    """
    if lengths is None:
        return [rows[i : i + at_once] for i in range(0, len(rows), at_once)]
    costs = np.maximum(lengths[rows], 1)
    order = np.argsort(costs, kind="stable")
    rows, costs = rows[order], costs[order]
    parts, start, budget = [], 0, at_once * USUAL_LENGTH
    while start < len(rows):
        window = costs[start : start + max(1, budget // int(costs[start]))]
        fit = max(1, int(np.searchsorted(window * np.arange(1, len(window) + 1), budget, side="right")))
        parts.append(rows[start : start + fit])
        start += fit
    return parts
