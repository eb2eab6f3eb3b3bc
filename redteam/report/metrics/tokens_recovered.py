"""Tokens recovered: which share of the words of a client can be read out of what it sends."""

from redteam.report import plural, share
from redteam.report.clients import ClientMetric
from redteam.report.values import Evidence


class TokensRecovered(ClientMetric):
    """The mean over clients of the share of their tokens, or tokens with positions, that an attack names."""

    name, symbol, order = "tokens_recovered", "tokens recovered", 70
    description = "words of a client's texts can be read out of its update"
    remedy = (
        "words show in updates: train with client-level differential privacy; frozen word embeddings and several local "
        "steps hide positions and sentences, not all words; secure aggregation hides them among those of many clients"
    )

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say what is recovered."""
        return (
            f"words of clients' texts are recovered from their updates ({evidence.attack}, {evidence.signal}): "
            f"share of a client's {self.against(evidence.interval, limit, ', limit ')}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say of how many."""
        return (
            f"of a client's words that no other of these clients has, {share(evidence.interval.value)} can be read "
            f"out of its update, measured on {plural(evidence.members, 'client or sum', 'clients or sums')}"
        )
