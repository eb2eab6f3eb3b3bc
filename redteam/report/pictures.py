"""What pictures of a report are drawn from: curves, binned scores, methods, environment; nothing of it is judged.

A report carries it as plain JSON, so that a gate, which draws nothing, does not have to know it. No training text and
no single score is in here: shares of all members or non-members in wide bins, and rates at fixed false-positive rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redteam import core
from redteam.core import ReportError
from redteam.report.values import AuditReport


@dataclass(frozen=True)
class RocPoint:
    """The TPR at one FPR, with an interval that holds by itself."""

    fpr: float
    tpr: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what no ROC curve can be; written so that NaN fails too."""
        if not (0 < self.fpr < 1 and 0 <= self.low <= self.tpr <= self.high <= 1):
            raise ValueError(f"not a point of a ROC curve: {self.tpr} in [{self.low}, {self.high}] at {self.fpr}")


@dataclass(frozen=True)
class Curve:
    """One signal: its ROC curve at rising FPRs, each interval at `alpha`, and its scores in bins.

    `edges` rise, one more than there are bins; `members` and `nonmembers` are the shares of either side in each bin,
    of which the first and the last hold all that lies further out.
    """

    attack: str
    signal: str
    alpha: float
    points: tuple[RocPoint, ...]
    edges: tuple[float, ...]
    members: tuple[float, ...]
    nonmembers: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse bins that do not fit."""
        bins = len(self.edges) - 1
        if not (bins >= 1 and len(self.members) == len(self.nonmembers) == bins and list(self.edges) == self._rising()):
            raise ValueError(f"the bins of {self.attack} {self.signal} do not fit together")
        if not all(0 <= share <= 1 for share in (*self.members, *self.nonmembers)):
            raise ValueError(f"a share of {self.attack} {self.signal} is not between 0 and 1")

    def _rising(self) -> list[float]:
        return sorted(set(self.edges))


@dataclass(frozen=True)
class Method:
    """What an attack is, and what it asks of the attacker: access, and models trained for it."""

    attack: str
    name: str
    needs: str
    models: int
    manual: str


@dataclass(frozen=True)
class Pictures:
    """All of it; empty in reports of older versions."""

    curves: tuple[Curve, ...] = ()
    methods: tuple[Method, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def pictures_of(report: AuditReport) -> Pictures:
    """Return what the pictures of a report are drawn from; ReportError where that is broken."""
    try:
        return core.decode(Pictures, dict(report.pictures), "pictures")
    except ValueError as error:
        raise ReportError(f"the report's {error}; audit again") from None


def saved(pictures: Pictures) -> dict[str, Any]:
    """Return it as a report carries it."""
    document: dict[str, Any] = core.encode(pictures)
    return document
