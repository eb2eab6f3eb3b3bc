"""Unchanged: which share of the words of a text was not exchanged at all, on average over released texts."""

from collections.abc import Iterator

from redteam.report import share
from redteam.report.metrics import Metric
from redteam.report.recovered import REMEDY, TAGS, impossible
from redteam.report.values import AuditReport, Evidence


class UnchangedWords(Metric):
    """The mean over texts of the share of words that went out as they came."""

    name, symbol, order = "unchanged", "words unchanged", 80
    description = "released texts hold many of their words as they were"
    remedy = f"many words were not exchanged: {REMEDY}"
    tags = TAGS
    given_by = "--released and an attack on released texts"
    worst_grade = "C"  # who was a member does not matter: all of these texts were released

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved number cannot be so."""
        yield from impossible(evidence)

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that too much comes back."""
        against = self.against(evidence.interval, limit, ", limit ")
        return f"words of released texts are those that were written ({evidence.attack}): {self.symbol} {against}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how many."""
        low, value = evidence.interval.low, evidence.interval.value
        return (
            f"{share(value)} words of a released text are what its author wrote, {share(low)} or more cautiously read"
        )
