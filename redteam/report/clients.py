"""What is measured on clients' updates: shares of a client's texts that were recovered, with bounds and words."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from redteam.report import Limit, Outcome, Ruling, Sample, too_small
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence, Grade

GRADES: dict[Grade, str] = {
    "A": "every client's update is held beside one that never saw its texts, and clients were drawn at random",
    "B": "every client's update is held beside one that never saw its texts; the numbers are about clients like these",
    "C": "texts are found in updates that never saw them, so that what is found in a client's own says nothing",
}
NOT_SEEN = (
    "a stronger attack than those run: a pass says that these attacks failed, it is no proof of privacy",
    "what rounds tell together that were not given: a client's other rounds, other sums that hold it",
    "texts of other models than those that begin as BERT does, and longer ones than a head of attention is wide",
    "whoever changes the weights that clients begin with: the attacker only reads",
)


def attainable(clients: int, alpha: float) -> float:
    """Return the lower bound of the share of clients' texts where all was recovered of every client."""
    return float((alpha / 2) ** (1 / clients)) if clients > 0 else 0.0


def contradictions(evidence: Evidence) -> Iterator[str]:
    """Yield what in a saved share of clients' texts cannot be so."""
    interval, clients = evidence.interval, evidence.members
    if evidence.unit != "client" or clients < 1:
        yield f"{evidence.id} is of no clients"
    elif not 0 <= interval.low <= interval.high <= 1:
        yield f"{evidence.id} is not between 0 and 1"
    elif abs(evidence.attainable - attainable(clients, interval.alpha)) > 1e-6:
        yield f"{evidence.id} says that {evidence.attainable:g} is attainable, which {clients} clients do not have"
    elif interval.low > evidence.attainable + 1e-6:
        yield f"{evidence.id} is beyond what {clients} clients can show"


class ClientMetric(Metric):
    """A metric of what updates leak of their clients' texts: its sample is clients, and it needs no members."""

    tags = ("MITRE ATLAS AML.T0024", "NIST AI 100-2 NISTAML.03")
    given_by = "redteam updates"
    worst_grade = "B"
    of_clients = True
    chance: ClassVar[float] = 0.0  # what an update without the texts gives, and the limit where none is set

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float | None:
        """Return the largest bound that so many clients could show."""
        return attainable(members, alpha)

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved number cannot be so."""
        yield from contradictions(evidence)

    def rule_on(self, limit: Limit, report: AuditReport) -> Ruling:
        """Hold the limit against what was recovered; of a report about no updates say that nothing settles it.

        Where an attack did not apply, that nothing was recovered is no pass, be the limit set or not. Who took part is
        asked only where there are texts of others, and missed only where a limit was set.
        """
        if report.unit == "client":
            missed = bool(report.failures) and self.chance == 0
            return super().rule_on(replace(limit, required=limit.required or missed), report)
        return Ruling(
            aside=(f"{limit.name} is about clients' updates, which redteam updates attacks: not settled here",)
        )

    def cannot_break(self, limit: Limit, outcomes: Sequence[tuple[Evidence, Outcome]]) -> tuple[str, ...]:
        """Say of how few clients nothing could break the limit."""
        weak = [evidence for evidence, outcome in outcomes if outcome == "underpowered"]
        return too_small(limit, weak, lambda *_: "attack the updates of more clients")

    def prospect(self, limit: Limit, sample: Sample) -> str:
        """Say that no audit of a model settles it."""
        return "is about clients' updates, which redteam updates attacks"
