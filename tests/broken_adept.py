"""RD307 with planted errors: the one that was published, and a fixed seed."""

from dataclasses import dataclass

from defenses.text.adept import Adept
from redteam.core.randomness import Randomness


@dataclass(frozen=True)
class WrongNorm(Adept):
    """What was published: clips by the L2 norm, and adds Laplace noise of the L1 scale (Habernal 2021)."""

    id, name = "RD396", "wrong-norm"
    kind: str = "laplace"

    def clipped(self, vectors):
        return Adept(kind="gaussian").clipped(vectors)


@dataclass(frozen=True)
class NotLookedInto(WrongNorm):
    """The same, whose noise nobody has a formula for."""

    id = "RD397"

    def accounted(self, first, second):
        return None


@dataclass(frozen=True)
class FixedNoise(Adept):
    """Noise of a seed that is written into the code."""

    id = "RD398"

    def noise(self, count, randomness):
        return super().noise(count, Randomness(42))
