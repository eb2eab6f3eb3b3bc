"""What every lower bound on epsilon is made of, and what it must never be: NaN, negative, or more than attainable."""

from dataclasses import dataclass

from redteam.core import StatisticsError


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on epsilon, and the largest that this sample could have shown with this method.

    `attainable` is what complete separation would have given at the same sizes, threshold strategy, delta and alpha.
    `assumption` says in words what must hold for the bound to hold.
    """

    low: float
    attainable: float
    method: str
    assumption: str

    def __post_init__(self) -> None:
        """Refuse what is no bound; written so that NaN fails too."""
        if not 0.0 <= self.low <= self.attainable:
            raise StatisticsError(
                f"epsilon bound {self.low} of {self.attainable} attainable is none: 0 <= low <= attainable"
            )


def require_delta(delta: float, *, positive: bool = False) -> float:
    """Return `delta` where 0 <= delta < 1, above 0 where `positive`; raise StatisticsError where it is not."""
    if not (0.0 <= delta < 1.0):  # written so that NaN fails too
        raise StatisticsError(f"delta is {delta}; it must be at least 0 and below 1")
    if positive and delta == 0.0:
        raise StatisticsError("delta is 0, where every Gaussian mechanism has infinite epsilon; give a delta above 0")
    return delta


def require_counts(what: str, part: int, whole: int) -> None:
    """Raise StatisticsError unless 0 <= part <= whole and whole >= 1, all whole numbers."""
    if not (0 <= part <= whole and whole >= 1 and part == int(part) and whole == int(whole)):
        raise StatisticsError(f"{part} of {whole} {what} is no count; 0 <= k <= n, n >= 1")
