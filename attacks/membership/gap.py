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

It runs only where labels are all that the target shows. Where there are probabilities, RT101 and RT102 use the same gap
and more, and RT105 would only take its share of the report's error; then it runs when it is named.

MITRE ATLAS (v5) AML.T0024.000, infer training data membership. NIST AI 100-2 (2025): membership inference, black-box,
label-only. OWASP Top 10 for LLM applications (2025): LLM02, sensitive information disclosure.
"""

from collections.abc import Mapping

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of


class Gap(Attack):
    """Score an example by whether its label is predicted."""

    id = "RT105"
    name = "gap"
    needs = Access.LABELS
    signals = ("correct",)
    outdone_from = Access.LOSSES
    may_tie = True  # a target that is right on every text has no gap

    def score(self, target: Target, pool: Examples, context: AttackContext) -> Mapping[str, FloatArray]:
        """Return 1 where the predicted label is the example's own and 0 elsewhere, shape [n]; deterministic."""
        predicted = classifier(target).predict(pool)  # first: labels may only become known with the answers
        right = predicted == label_indices(labels_of(target), pool, name=target.name)
        return {"correct": right.astype(np.float64)}
