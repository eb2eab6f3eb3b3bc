"""AUC gap of groups: by how much more one group leaks than another, of the pair for which most is proven."""

from redteam.report import LUCK, number
from redteam.report.metrics import Metric
from redteam.report.values import Evidence


class AucGroupGap(Metric):
    """The largest difference of the AUC between two groups."""

    name, symbol, order = "auc_group_gap", "AUC gap of groups", 53
    description = "members of one group are told from its non-members better than those of another"
    remedy = "add training texts of the group that is exposed, or train with differential privacy; then audit again"
    tags = ("MITRE ATLAS AML.T0024.000", "NIST AI 100-2 NISTAML.033", "OWASP ML04:2023")
    given_by = "a membership attack (RT1xx) and a column of two groups or more (--group-column)"
    measured_in = "probability"

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that one group is more exposed."""
        shown = self.against(evidence.interval, limit, ", limit ")
        return f"{evidence.signal} tells members of one group better than those of another: gap of the AUC {shown}"

    def meaning(self, evidence: Evidence) -> str:
        """Say by how much."""
        low, value = evidence.interval.low, evidence.interval.value
        sure = f"and by at least {number(low)} on the cautious reading" if low > 0 else LUCK
        return f"the AUC of the most and the least exposed group differs by {number(value)}, {sure}"
