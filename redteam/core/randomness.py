"""Random numbers for what protects people: from the operating system or, for research, from a seed.

Whoever knows a seed can draw the noise again and subtract it, so what is made with one has no guarantee. Numbers have
53 random bits: what has a probability below 2^-53 never happens.
"""

import os
from collections.abc import Callable

import numpy as np

from redteam.core.arrays import FloatArray, IntArray

_BITS = 53


class Randomness:
    """A source of independent numbers; with `seed` and `stream` the same ones every time."""

    def __init__(self, seed: int | None = None, stream: int = 0) -> None:
        """Begin; without a seed every number is of the operating system's generator."""
        self.seed = seed
        own: Callable[[int], bytes] = os.urandom if seed is None else np.random.default_rng([seed, stream]).bytes
        self._bytes = own

    def uniform(self, *shape: int) -> FloatArray:
        """Return numbers between 0 and 1, neither of which occurs, float64 of this shape."""
        count = int(np.prod(shape))
        drawn = np.frombuffer(self._bytes(8 * count), np.uint64) >> np.uint64(64 - _BITS)
        numbers: FloatArray = ((drawn.astype(np.float64) + 0.5) * 2.0**-_BITS).reshape(shape)
        return np.minimum(numbers, 1 - 2.0**-_BITS)

    def below(self, count: int, *shape: int) -> IntArray:
        """Return whole numbers from 0 to `count` - 1, int64 of this shape."""
        return np.minimum((self.uniform(*shape) * count).astype(np.int64), count - 1)

    def normal(self, *shape: int) -> FloatArray:
        """Return standard normal numbers, float64 of this shape."""
        from scipy.special import ndtri

        numbers: FloatArray = ndtri(self.uniform(*shape))
        return numbers

    def gamma(self, shape: float, count: int) -> FloatArray:
        """Return gamma numbers of this shape and scale 1, float64 [count]."""
        from scipy.special import gammaincinv

        numbers: FloatArray = gammaincinv(shape, self.uniform(count))
        return numbers
