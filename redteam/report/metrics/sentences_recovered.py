"""Sentences recovered: which share of the texts of a client can be read out of what it sends, word for word."""

from redteam.report import plural, share
from redteam.report.clients import ClientMetric
from redteam.report.values import Evidence


class SentencesRecovered(ClientMetric):
    """The mean over clients of the share of their texts that an attack gives back exactly."""

    name, symbol, order = "sentences_recovered", "sentences recovered", 71
    description = "whole texts of a client can be read out of its update"
    remedy = (
        "whole texts can be read out of updates: train with client-level differential privacy, or send updates only "
        "added up over many clients, by secure aggregation; dropout and several local steps hinder but do not stop it"
    )

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
            f"on {plural(evidence.members, 'client or sum', 'clients or sums')}"
        )
