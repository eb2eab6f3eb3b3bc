"""Flip rate: how often an answer changes with the group that a text names, beyond what changing words does anyway.

Counterfactual token fairness (Garg et al. 2019), less the rate at which a placebo swap changes answers on the same
rows: as many words, replaced by others that must not matter.
"""

from redteam.report import LUCK, share
from redteam.report.fairness import SwapMetric
from redteam.report.values import Evidence


class FlipRate(SwapMetric):
    """The share of texts whose answer flips with the group they name, minus that under the placebo swap."""

    name, symbol, order = "flip_rate", "flip rate", 60
    description = "answers depend on the group that a text names"
    remedy = "train on texts in which the groups are exchanged (redteam train --defense counterfactual); measure again"

    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say that the answer changes."""
        return (
            f"exchanging the groups of {evidence.signal} in a text changes the answer more often than the placebo "
            f"swap does: flips minus placebo {self.against(evidence.interval, limit, ', limit ')}"
        )

    def meaning(self, evidence: Evidence) -> str:
        """Say of how many texts."""
        low, value = evidence.interval.low, evidence.interval.value
        if value <= 0:
            return "the group that a text names changes the answer no more often than words that must not matter"
        sure = f"and of at least {share(low)} on the cautious reading" if low > 0 else LUCK
        return f"of {share(value)} texts the answer changes with nothing but the group they name, {sure}"
