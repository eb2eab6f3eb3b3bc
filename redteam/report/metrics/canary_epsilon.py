"""Epsilon by label canaries: what an adversary of the training, or of the model with its canaries, proves of it.

Their own random inclusion is what it rests on, so that the grade of the users' split does not matter. It is held
against a guarantee, and against the limit of a policy on epsilon, like any other epsilon.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from redteam.report import LOW_BOUND, Limit, number
from redteam.report.metrics.epsilon import Epsilon
from redteam.report.values import AuditReport, Evidence, Grade

_CLOSE = 1e-6


class CanaryEpsilon(Epsilon):
    """The privacy loss that label canaries prove, at a delta."""

    name, order = "canary_epsilon", 95
    worst_grade: ClassVar[Grade] = "C"
    given_by = "label canaries: train with --label-canaries"
    options: ClassVar[tuple[str, ...]] = ()

    def read(self, table: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Refuse a limit of its own."""
        raise ValueError(f"{self.key}: label canaries are held against max_epsilon: set that")

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved epsilon cannot be so."""
        if evidence.delta is None or not 0 <= evidence.delta < 1:
            yield f"{evidence.id} is an epsilon at delta {evidence.delta}"
        elif min(evidence.members, evidence.nonmembers) < 1:
            yield f"{evidence.id} is of {evidence.members} canaries in and {evidence.nonmembers} left out"
        elif not 0 <= evidence.interval.low <= evidence.attainable + _CLOSE:
            yield f"{evidence.id} is beyond what its canaries can show"

    def meaning(self, evidence: Evidence) -> str:
        """Say what the adversary sees, and how much of epsilon that shows."""
        return (
            f"of the worst example that could be trained on, an adversary with {evidence.signal} learns as much as "
            f"epsilon {number(evidence.interval.low)} admits, at least. {LOW_BOUND}"
        )

    def legend(self, report: AuditReport) -> str | None:
        """Say that it is a lower bound, where nothing else says so."""
        return None if any(each.metric == Epsilon.name for each in report.evidence) else super().legend(report)

    def way_out(self, limit: Limit, evidence: Evidence) -> str:
        """Say that more canaries would do."""
        return "train with more label canaries"
