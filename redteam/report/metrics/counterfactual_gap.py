"""Counterfactual gap: how far probabilities move with the group that a text names, beyond what any swap moves them."""

from redteam.report import LUCK, number
from redteam.report.fairness import SwapMetric
from redteam.report.values import Evidence


class CounterfactualGap(SwapMetric):
    """The mean total variation between the answers to a text and to its swap, minus that of the placebo swap."""

    name, symbol, order = "counterfactual_gap", "counterfactual gap", 61
    description = "probabilities depend on the group that a text names"
    remedy = "train on texts in which the groups are exchanged (redteam train --defense counterfactual); measure again"
    given_by = "redteam fairness, of a target that shows probabilities"
    measured_in = "probability"

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that probabilities move."""
        return (
            f"exchanging the groups of {evidence.signal} in a text moves its probabilities more than the placebo swap "
            f"does: gap minus placebo {self.against(evidence.interval, limit, ', limit ')}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say by how much."""
        low, value = evidence.interval.low, evidence.interval.value
        if value <= 0:
            return "the group that a text names moves no more probability than words that must not matter do"
        sure = f"and at least {number(low)} on the cautious reading" if low > 0 else LUCK
        return f"the group that a text names moves {number(value)} of the probability from one label to others, {sure}"
