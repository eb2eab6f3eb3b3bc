"""Subgroup AUC: how well a label is told from the others within a group, and across groups (Borkan et al. 2019).

`subgroup`: within the group; `BPSN`: positives of all others against negatives of the group, low where the group is
taken for positive; `BNSP`: negatives of all others against its positives, low where its positives are missed.
"""

from redteam.report import number
from redteam.report.fairness import FairnessMetric
from redteam.report.values import Evidence


class SubgroupAuc(FairnessMetric):
    """The lowest AUC over groups, bounded from below."""

    name, symbol, order, sense = "subgroup_auc", "subgroup AUC", 64, "min"
    description = "a label is told from the others less well where a group is concerned than the policy demands"
    remedy = "add training texts of the group that loses, of the label that is confused; then measure again"
    given_by = "redteam fairness with a group column, of a target that shows probabilities"
    measured_in = "probability"
    allowed = "above 0 and at most 1"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit is an AUC that a model could miss."""
        return 0 < limit <= 1

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say where labels are confused."""
        shown = self.against(evidence.interval, limit, ", limit ")
        return f"labels are confused where one group is concerned ({evidence.signal}): lowest AUC {shown}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how often the order is right."""
        value, high = evidence.interval.value, evidence.interval.high
        return (
            f"of a text with the label and one without, the first has the higher score {number(100 * value, digits=0)} "
            f"times in 100 in the worst group, and {number(100 * high, digits=0)} times at the most"
        )
