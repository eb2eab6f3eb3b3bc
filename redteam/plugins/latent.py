"""What plugs in as a privatiser of whole texts: a text becomes a vector, which is clipped, and gets noise.

Texts come back from the noisy vectors by a decoder, which costs no privacy where it was not learned from the texts to
protect. What is guaranteed is local differential privacy of a whole text: Pr[M(t) in S] <= exp(epsilon) Pr[M(t') in S]
+ delta for any two texts t, t', of whatever length.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.core.randomness import Randomness


class VectorMechanism(ABC):
    """A privatiser of vectors of texts: settings in a frozen dataclass, of which `epsilon` and `size` are two.

    `id` is stable and never re-used; `size` is how many numbers a vector has. A method raises UsageError where the
    settings do not go together.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    epsilon: float
    size: int

    @property
    @abstractmethod
    def claimed_delta(self) -> float:
        """The delta that goes with epsilon; 0 for none."""

    @property
    @abstractmethod
    def norm(self) -> Literal[1, 2]:
        """The order of the norm that the noise goes by."""

    def clipped(self, vectors: FloatArray) -> FloatArray:
        """Return vectors with that norm cut to 1, float64 [n, size]."""
        lengths = np.linalg.norm(vectors, ord=self.norm, axis=1, keepdims=True)
        made: FloatArray = vectors / np.maximum(1.0, lengths)
        return made

    @abstractmethod
    def noise(self, count: int, randomness: Randomness) -> FloatArray:
        """Return noise for so many vectors, float64 [count, size]."""

    def accounted(self, first: FloatArray, second: FloatArray) -> float | None:
        """Return the epsilon at `claimed_delta` of two clipped vectors, [size]; None where no formula is known."""
        return None

    def perturbed(self, vectors: FloatArray, randomness: Randomness) -> FloatArray:
        """Return what goes on to the decoder, float64 [n, size]."""
        return self.clipped(vectors) + self.noise(len(vectors), randomness)
