"""Members told: how often what was sent tells whose texts, or which, it was trained on."""

from collections.abc import Sequence

from redteam.report import Limit, Outcome, plural, share
from redteam.report.clients import ClientMetric
from redteam.report.values import Evidence


class MembersTold(ClientMetric):
    """The share of pairs, a client who took part and one who did not or two texts alike, that is told right."""

    name, symbol, order = "members_told", "members told", 72
    description = "who took part in a round, or which texts were used, can be told from an update"
    remedy = (
        "updates tell who took part: train with client-level differential privacy; secure aggregation over many "
        "clients makes it harder, and does not stop it"
    )
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 NISTAML.033")
    measured_in = "probability"
    allowed = "at least 0.5 (chance) and below 1"
    chance = 0.5

    def allows(self, limit: float) -> bool:
        """Tell whether a limit lies between chance and certainty."""
        return 0.5 <= limit < 1

    def cannot_break(self, limit: Limit, outcomes: Sequence[tuple[Evidence, Outcome]]) -> tuple[str, ...]:
        """Say of how few nothing could break a limit that was set; the other limits judge few clients too."""
        return super().cannot_break(limit, outcomes) if limit.required else ()

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say what is told."""
        return (
            f"updates tell which {evidence.signal} they were trained on ({evidence.attack}): "
            f"right in {self.against(evidence.interval, limit, ', limit ')} of pairs"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say of what pairs."""
        return (
            f"of two {evidence.signal}, one behind an update and one not, it tells the right one in "
            f"{share(evidence.interval.value)} of cases, measured on {plural(evidence.members, 'pair')} of senders"
        )
