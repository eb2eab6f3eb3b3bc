"""How a trainer is run to be verified."""

from dataclasses import dataclass

import numpy as np

from redteam.core import UsageError

_FEWEST = 200


@dataclass(frozen=True)
class VerificationPlan:
    """How the trainer is run: the mechanism it is asked for, and on how many canaries.

    `rate` is the expected share of the rows in a step, `epochs` the number of expected passes; `short` is how many
    canaries the short trainings have.
    """

    canaries: int = 100_000
    epsilon: float = 2.0
    delta: float = 1e-5
    clip: float = 1.0
    rate: float = 0.2
    epochs: int = 50
    short: int = 4_003

    def __post_init__(self) -> None:
        """Raise UsageError for settings with which nothing can be run."""
        if self.canaries < _FEWEST:
            raise UsageError(f"--canaries {self.canaries}: at least {_FEWEST} are needed to show anything")
        if not (0 < self.rate <= 1 and self.rate * self.canaries >= 1):
            raise UsageError(
                f"sampling rate {self.rate:g} of {self.canaries:,} canaries: give a rate above 0, at most 1"
            )
        if not (0 < self.delta < 1 and 0 < self.clip < np.inf and 0 < self.epsilon < np.inf):
            raise UsageError("epsilon and clip must be positive numbers, and delta between 0 and 1")
