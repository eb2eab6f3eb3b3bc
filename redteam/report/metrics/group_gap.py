"""Group gap: the largest difference of a rate between two groups, as of selection, true or false positives.

The interval is that of the pair of groups whose gap is proven largest, all pairs at once: the gap of the best and the
worst group in a sample is larger than the true one even where all fare alike.
"""

from redteam.report import LUCK, share
from redteam.report.fairness import FairnessMetric
from redteam.report.values import Evidence


class GroupGap(FairnessMetric):
    """The largest difference of a rate over all pairs of groups."""

    name, symbol, order = "group_gap", "group gap", 62
    description = "groups get an answer, right or wrong, at different rates"
    remedy = "add training texts of the group that loses, or weigh them up; where labels are at fault, mend these"
    given_by = "redteam fairness with a group column"

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that a rate differs."""
        shown = self.against(evidence.interval, limit, ", limit ")
        return f"the {evidence.signal} differs between groups: gap {shown}"

    def meaning(self, evidence: Evidence) -> str:
        """Say for how many people."""
        low, value = evidence.interval.low, evidence.interval.value
        sure = f"and by at least {share(low)} on the cautious reading" if low > 0 else LUCK
        return f"the {evidence.signal} of two groups differs by {share(value)} people, {sure}"
