"""Exposure: by how many bits planted secrets stand out among all that could have been (Carlini et al. 2019)."""

from redteam.report import LUCK, Limit, number, plural
from redteam.report.metrics import Metric
from redteam.report.values import Evidence


class Exposure(Metric):
    """The median over canaries of log2 of the candidates less log2 of the planted one's rank."""

    name, symbol, order = "exposure", "exposure", 40
    description = "planted secrets are memorised"
    remedy = (
        "rare sequences are memorised: remove duplicates, clip or mask secrets before training, or "
        "train with differential privacy (DP-SGD); then audit again"
    )
    tags = ("MITRE ATLAS AML.T0024", "NIST AI 100-2 NISTAML.03")
    given_by = "an extraction attack that ranks"
    measured_in = "bits"
    worst_grade = "C"
    of_canaries = True
    allowed = "a finite number, at least 0"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit is a number of bits."""
        return limit >= 0

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that planted secrets stand out."""
        return (
            "secrets planted in the training data stand out from those that were not "
            f"({evidence.attack}, {evidence.signal}): exposure {self.against(evidence.interval, limit, ', limit ')}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say among how many the middle one is first."""
        low, value = evidence.interval.low, evidence.interval.value
        sure = f"and among at least {_power(low)} on the cautious reading" if low > 0 else LUCK
        return (
            f"of {plural(evidence.members, 'planted secret')} the middle one ranks about first among "
            f"{_power(value)} candidates, {sure}; of one that the model never saw, chance makes that 2"
        )

    def way_out(self, limit: Limit, evidence: Evidence) -> str:
        """Say that longer secrets, or more of them, could break the limit."""
        return "plant longer secrets and train again" if evidence.attainable > 0 else super().way_out(limit, evidence)


def _power(bits: float) -> str:
    return number(2**bits, digits=0) if bits < 60 else f"2^{bits:.0f}"
