"""What metrics of released texts have in common: a share over texts, which no membership goes into."""

from collections.abc import Iterator

from redteam.report.values import Evidence

TAGS = ("MITRE ATLAS AML.T0024.001", "NIST AI 100-2 NISTAML.032", "OWASP ML03")
REMEDY = (
    "exchange words with a smaller epsilon, or train with differential privacy (DP-SGD) on the texts as they are and "
    "release no text at all"
)
_CLOSE = 1e-6


def impossible(evidence: Evidence) -> Iterator[str]:
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
