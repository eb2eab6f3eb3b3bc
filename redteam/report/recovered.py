"""What metrics of released texts have in common: a share over texts, which no membership goes into."""

from collections.abc import Iterator
from typing import ClassVar

from redteam.report import share
from redteam.report.metrics import Metric
from redteam.report.values import AuditReport, Evidence

_CLOSE = 1e-6
_SMALLER = (
    "exchange words with a smaller epsilon, or train with differential privacy (DP-SGD) on the texts as they are and "
    "release no text at all"
)


class ReleasedMetric(Metric):
    """A metric of what released texts give back; one says what comes back, in `found`, `back` and `problem`."""

    tags = ("MITRE ATLAS AML.T0024.001", "NIST AI 100-2 NISTAML.032", "OWASP ML03")
    given_by = "--released and an attack on released texts"
    worst_grade = "C"  # who was a member does not matter: all of these texts were released
    found: ClassVar[str]  # a finding, up to the attack that made it
    back: ClassVar[str]  # what a share is of, and what became of it
    problem: ClassVar[str]  # what is to be remedied

    @property
    def remedy(self) -> str:  # type: ignore[override]
        """What to do where the limit is broken."""
        return f"{self.problem}: {_SMALLER}"

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved share of released texts cannot be so."""
        interval, texts = evidence.interval, evidence.members
        if not (interval.low >= 0 and interval.high <= 1):
            yield f"{evidence.id} is not between 0 and 1"
        elif not (texts >= 1 and texts == evidence.nonmembers):
            yield f"{evidence.id} is of {texts} texts and of {evidence.nonmembers}"
        elif not abs(evidence.attainable - (interval.alpha / 2) ** (1 / texts)) <= _CLOSE:
            yield f"{evidence.id} says that {evidence.attainable:g} is attainable, which {texts} texts do not have"
        elif interval.low > evidence.attainable + _CLOSE:
            yield f"{evidence.id} is beyond what {texts} texts can show"

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that too much comes back."""
        against = self.against(evidence.interval, limit, ", limit ")
        return f"{self.found} ({evidence.attack}): {self.symbol} {against}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how much."""
        low, value = evidence.interval.low, evidence.interval.value
        return f"{share(value)} {self.back}, {share(low)} or more cautiously read"
