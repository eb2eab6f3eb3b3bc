"""Words recovered: which share of the words of a text an attacker gets back, on average over released texts."""

from collections.abc import Iterator

from redteam.report import share
from redteam.report.metrics import Metric
from redteam.report.recovered import REMEDY, TAGS, impossible
from redteam.report.values import AuditReport, Evidence


class WordsRecovered(Metric):
    """The mean over texts of the share of words that are guessed right."""

    name, symbol, order = "words_recovered", "words recovered", 81
    description = "words that were exchanged can be guessed back"
    remedy = f"words that were exchanged are guessed back: {REMEDY}"
    tags = TAGS
    given_by = "--released and an attack on released texts"
    worst_grade = "C"  # who was a member does not matter: all of these texts were released

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved number cannot be so."""
        yield from impossible(evidence)

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that too much comes back."""
        against = self.against(evidence.interval, limit, ", limit ")
        return f"an attacker guesses back the words of released texts ({evidence.attack}): {self.symbol} {against}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how many."""
        low, value = evidence.interval.low, evidence.interval.value
        return f"{share(value)} words of a released text are guessed back, {share(low)} or more cautiously read"
