"""Group accuracy: how often the answer is right in the group where it is right least often (worst-group accuracy)."""

from redteam.report import share
from redteam.report.fairness import FairnessMetric
from redteam.report.values import Evidence


class GroupAccuracy(FairnessMetric):
    """The accuracy in the worst of all groups, bounded from below."""

    name, symbol, order, sense = "group_accuracy", "worst-group accuracy", 63, "min"
    description = "answers are less often right for one group than the policy demands"
    remedy = "add training texts of the group that loses, or weigh them up; then measure again"
    given_by = "redteam fairness with a group column"
    allowed = "above 0 and at most 1"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit is an accuracy that a model could miss."""
        return 0 < limit <= 1

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that a group is served worse."""
        shown = self.against(evidence.interval, limit, ", limit ")
        return f"in one group answers are right less often than demanded: worst-group accuracy {shown}"

    def meaning(self, evidence: Evidence) -> str:
        """Say how often."""
        value, high = evidence.interval.value, evidence.interval.high
        return f"in the worst group {share(value)} answers are right, and {share(high)} at the most"
