"""RT101 loss threshold: a model's loss is lower on examples it was trained on (Yeom et al., CSF 2018).

The adversary asks for the probability of each example's own label and calls those members whose cross-entropy is
below a threshold. One query an example, no other model, no training: what anybody with an API key can do. It needs
the loss alone, so saved losses or scores can stand in for the model. White-box access changes only the precision:
losses come from the logits in float64, where probabilities in float32 would tie at 1.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Mapping

from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target


class LossThreshold(Attack):
    """Score an example by minus its loss."""

    id = "RT101"
    name = "loss threshold"
    needs = Access.LOSSES
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))
    signals = ("loss",)
    strength = 10

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return minus the loss in nats, shape [n]; deterministic."""
        return {"loss": -target.losses(pool)}
