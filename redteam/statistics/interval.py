"""A number with its confidence interval."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A measured value with a confidence interval that misses the truth at most `alpha` of the time."""

    value: float
    low: float
    high: float
    alpha: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:  # written so that NaN fails too
            raise ValueError(f"not an interval: {self.low} <= {self.value} <= {self.high}")
