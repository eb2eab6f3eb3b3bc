"""Texts recovered: which share of released texts an attacker gets back whole."""

from collections.abc import Iterator

from redteam.report import share
from redteam.report.metrics import Metric
from redteam.report.recovered import REMEDY, TAGS, impossible
from redteam.report.values import AuditReport, Evidence


class TextsRecovered(Metric):
    """The share of texts of which every word is guessed right."""

    name, symbol, order = "texts_recovered", "texts recovered", 82
    description = "whole texts can be guessed back"
    remedy = f"whole texts are guessed back: {REMEDY}"
    tags = TAGS
    given_by = "--released and an attack on released texts"
    worst_grade = "C"  # who was a member does not matter: all of these texts were released

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved number cannot be so."""
        yield from impossible(evidence)

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that too much comes back."""
        against = self.against(evidence.interval, limit, ", limit ")
        return f"an attacker guesses back whole texts ({evidence.attack}): {self.symbol} {against}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how many."""
        low, value = evidence.interval.low, evidence.interval.value
        return f"{share(value)} released texts are guessed back word for word, {share(low)} or more cautiously read"
