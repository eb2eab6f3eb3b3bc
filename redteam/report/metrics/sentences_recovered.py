"""Sentences recovered: which share of the texts of a client can be read out of what it sends, word for word."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from redteam.report import Limit, Outcome, Ruling, Sample, plural, share, too_small
from redteam.report.clients import attainable, contradictions
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence


class SentencesRecovered(Metric):
    """The mean over clients of the share of their texts that an attack gives back exactly."""

    name, symbol, order = "sentences_recovered", "sentences recovered", 71
    description = "whole texts of a client can be read out of its update"
    remedy = (
        "whole texts can be read out of updates: train with client-level differential privacy, or send updates only "
        "added up over many clients, by secure aggregation; dropout and several local steps hinder but do not stop it"
    )
    tags = ("MITRE ATLAS AML.T0024", "NIST AI 100-2 NISTAML.03")
    given_by = "redteam updates"
    worst_grade = "B"
    of_clients = True

    def read(self, table: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Return the limit; a report that is about no updates has nothing to hold against it."""
        return tuple(replace(limit, required=False) for limit in super().read(table))

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float | None:
        """Return the largest bound that so many clients could show."""
        return attainable(members, alpha)

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved number cannot be so."""
        yield from contradictions(evidence)

    def rule_on(self, limit: Limit, report: AuditReport) -> Ruling:
        """Hold the limit against what was recovered; of a report about no updates say that nothing settles it."""
        if report.unit == "client":
            return super().rule_on(limit, report)
        return Ruling(
            aside=(f"{limit.name} is about clients' updates, which redteam updates attacks: not settled here",)
        )

    def cannot_break(self, limit: Limit, outcomes: Sequence[tuple[Evidence, Outcome]]) -> tuple[str, ...]:
        """Say of how few clients nothing could break the limit."""
        weak = [evidence for evidence, outcome in outcomes if outcome == "underpowered"]
        return too_small(limit, weak, lambda *_: "attack the updates of more clients")

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say what is recovered."""
        return (
            f"whole texts of clients are recovered from their updates ({evidence.attack}, {evidence.signal}): "
            f"share of a client's {self.against(evidence.interval, limit, ', limit ')}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say of how many."""
        return (
            f"{share(evidence.interval.value)} texts of a client can be read out of its update word for word, measured "
            f"on {plural(evidence.members, 'client')}"
        )

    def prospect(self, limit: Limit, sample: Sample) -> str:
        """Say that no audit of a model settles it."""
        return "is about clients' updates, which redteam updates attacks"
