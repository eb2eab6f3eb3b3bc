"""AUC by group: how well members of the group that leaks most are told from its non-members.

An AUC has no threshold that could be tuned on a group, which overstates what small groups leak (Kulynych et al. 2022).
"""

from redteam.report import LUCK
from redteam.report.metrics import Metric
from redteam.report.values import Evidence


class AucByGroup(Metric):
    """The largest AUC of the attack that settles limits, over the groups."""

    name, symbol, order = "auc_by_group", "AUC by group", 52
    description = "members of one group can be told from its non-members"
    remedy = (
        "train for fewer epochs or with differential privacy (DP-SGD), and add texts of the group that is exposed: "
        "rare groups are overfitted first; then audit again"
    )
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 NISTAML.033", "OWASP ML04:2023")
    given_by = "a membership attack (RT1xx) and a group column (--group-column)"
    measured_in = "probability"
    allowed = "at least 0.5 (chance) and below 1"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit lies between chance and certainty."""
        return 0.5 <= limit < 1

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that one group is exposed."""
        shown = self.against(evidence.interval, limit, ", limit ")
        return (
            f"an outsider who thresholds {evidence.signal} tells members of one group from its non-members: AUC {shown}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say how often an attacker is right about the group that leaks most."""
        low, value = evidence.interval.low, evidence.interval.value
        sure = f"and at least {low * 100:.0f} times on the cautious reading" if low > 0.5 else LUCK
        return f"of the group that leaks most the attacker picks the right one {value * 100:.0f} times in 100, {sure}"
