"""RT105 gap: a classifier is right more often on what it was trained on (Yeom et al., CSF 2018).

The adversary sees predicted labels and nothing else, and calls those examples members that the target gets right. Of
all attacks this needs least: one query an example, no probability, no other model. Its advantage is the gap between the
accuracy on members and on non-members, so its AUC is 1/2 + gap / 2, ties counted half. It is the floor of every other
attack: a model with a gap leaks, and one without may leak all the same to whoever sees more, or asks for the label of
changed texts too (Choquette-Choo et al., ICML 2021).

The score has two values: 1 where the label is right, 0 where it is wrong. A threshold therefore reaches two points of
the ROC curve, to call nobody a member or everybody whom the target gets right. In between lie randomised attackers, who
call some of these, drawn by lot: the TPR at an FPR of f is theirs, f / (accuracy on non-members) x (accuracy on
members), and its interval is of that rate too. Only where the target gets fewer than a share f of the non-members
right does the plain attack reach that FPR, and the TPR is then the accuracy on members.

Two things make it stronger. With `--set RT105.slips=8` a text whose label is right is asked for again with one slip of
the keyboard, two, and so on, until the label is wrong: what a model was trained on lies further from the boundary
(Choquette-Choo et al., ICML 2021). The score is then how many it withstands. A text costs no request once its label is
wrong, and no round is begun that the target's limit of requests would break off. Where there are reference models, what
they make of a row is taken off: a row that every model gets right says nothing.

It runs only where labels are all that the target shows. Where there are probabilities, RT101 and RT102 use the same gap
and more, and RT105 would only take its share of the report's error; then it runs when it is named.

MITRE ATLAS (v5.6.1) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025) NISTAML.033, membership
inference, here label-only. OWASP Machine Learning Security Top 10 (2023) ML04, membership inference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from attacks.membership._edits import edited
from attacks.membership._rows import table
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.plugins.settings import Setting
from redteam.report.values import Taxonomy
from redteam.statistics.membership.regression import unexplained
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of


@dataclass(frozen=True)
class Gap(Attack):
    """Score an example by whether its label is predicted, and by how many slips of the keyboard it withstands."""

    slips: int = Setting("Slips after which a text is asked for at the most; 0 asks once.", least=0).default(0)

    id = "RT105"
    name = "gap"
    needs = Access.LABELS
    taxonomy = Taxonomy(("AML.T0024.000",), ("NISTAML.033",), ("ML04:2023",))
    signals = ("correct",)
    uses_references = True
    strength = 30
    outdone_from = Access.LOSSES
    may_tie = True  # a target that is right on every text has no gap

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return 1 where the predicted label is the example's own and 0 elsewhere, one more for each slip, shape [n].

        With reference models it is what they do not explain of that. Deterministic.
        """
        withstood = _right(target, pool).astype(np.float64)
        if self.slips:
            asked = _withstand(target, pool, withstood, self.slips, context)
            context.remark(f"asked for texts with up to {asked} slips of the keyboard")
        references = context.reference_scores
        if references is None or not len(references):
            return {"correct": withstood}
        context.remark(f"less what {len(references)} reference models explain")
        found = table(references).moments()
        return {"correct": unexplained(withstood, [found.middle, found.gap])}


def _right(target: Target, rows: Examples) -> BoolArray:
    predicted = classifier(target).predict(rows)  # first: labels may only become known with the answers
    right: BoolArray = predicted == label_indices(labels_of(target), rows, name=target.name)
    return right


def _withstand(target: Target, pool: Examples, withstood: FloatArray, most: int, context: AttackContext) -> int:
    """Add 1 to `withstood` for each slip that a right row withstands; return after how many slips texts were asked."""
    texts, left = pool.texts, context.requests
    if texts is None:
        return 0
    alive = np.flatnonzero(withstood)
    for count in range(1, most + 1):
        if not len(alive) or (left is not None and len(alive) > left):
            return count - 1
        changed = tuple(edited(texts[row], count, seed=context.seed) for row in alive)
        rows = replace(pool.take(alive.tolist()), texts=changed)
        left = None if left is None else left - len(alive)
        alive = alive[_right(target, rows)]
        withstood[alive] += 1
    return most
