"""RD307 adept: an autoencoder turns a text into a vector, which is clipped and gets noise, and back into a text.

After Krishna, Gupta and Dupuy, "ADePT: Auto-encoder based Differentially Private Text Transformation", EACL 2021
(2102.01502). What was published clips by the L2 norm C and adds Laplace noise of scale 2 C / epsilon in each of n
coordinates. Two such vectors are up to 2 C sqrt(n) apart in the L1 norm, which is what Laplace noise goes by, so that
epsilon is sqrt(n) times what it says (Habernal, EMNLP 2021, 2109.03175). Here Laplace noise goes with clipping by
the L1 norm, and Gaussian noise, whose scale is exact (Balle and Wang, ICML 2018), with clipping by the L2 norm.

Epsilon is of a whole text, in place of any other of any length. It holds for texts that the autoencoder was not learned
from: give public ones.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.core.randomness import Randomness
from redteam.plugins.latent import VectorMechanism
from redteam.plugins.settings import Setting
from redteam.statistics.epsilon.gaussian import gdp_epsilon

_APART = 2.0  # how far two vectors of norm 1 can be


@dataclass(frozen=True)
class Adept(VectorMechanism):
    """Texts through a clipped and noisy vector."""

    id = "RD307"
    name = "adept"

    epsilon: float = Setting("Epsilon of a whole text, in place of any other.", above=0).default(50.0)
    delta: float = Setting("The delta of Gaussian noise.", above=0, below=1).default(1e-5)
    kind: Literal["gaussian", "laplace"] = Setting("Of the noise: clips by the L2 or the L1 norm.").default("gaussian")
    size: int = Setting("Numbers that a text becomes.", least=2, most=512).default(32)

    @property
    def claimed_delta(self) -> float:
        """None with Laplace noise."""
        return self.delta if self.kind == "gaussian" else 0.0

    @property
    def norm(self) -> Literal[1, 2]:
        """L2 for Gaussian noise, L1 for Laplace's."""
        return 2 if self.kind == "gaussian" else 1

    def noise(self, count: int, randomness: Randomness) -> FloatArray:
        """Draw Gaussian or Laplace noise."""
        if self.kind == "gaussian":
            return gaussian_scale(self.epsilon, self.delta) * randomness.normal(count, self.size)
        return laplace(_APART / self.epsilon, randomness.uniform(count, self.size))

    def accounted(self, first: FloatArray, second: FloatArray) -> float:
        """Return the L1 distance in scales, or the exact epsilon of the L2 distance."""
        if self.kind == "laplace":
            return float(np.abs(first - second).sum() / (_APART / self.epsilon))
        return gdp_epsilon(
            float(np.linalg.norm(first - second)) / gaussian_scale(self.epsilon, self.delta), delta=self.delta
        )


def laplace(scale: float, uniform: FloatArray) -> FloatArray:
    """Return Laplace noise by its inverse distribution function."""
    made: FloatArray = scale * np.where(uniform < 0.5, np.log(2 * uniform), -np.log(2 * (1 - uniform)))
    return made


@lru_cache(maxsize=8)
def gaussian_scale(epsilon: float, delta: float) -> float:
    """Return the least scale at which vectors that are 2 apart have this epsilon at delta, by bisection."""
    small, large = 1e-9, 1.0  # in units of that distance
    while gdp_epsilon(1 / large, delta=delta) > epsilon:
        large *= 2
    for _ in range(80):
        middle = (small + large) / 2
        small, large = (small, middle) if gdp_epsilon(1 / middle, delta=delta) <= epsilon else (middle, large)
    return _APART * large
