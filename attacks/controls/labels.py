"""RT902 label control: do members and non-members have the same labels? (after Das, Zhang, Tramer 2024).

Each example is scored by the share of members among the earlier examples of its label, in the same progressive
cross-validation as RT901. Above chance, some labels are commoner on one side, and a membership score that is higher for
some labels than for others would measure that: the audit matches both sides by label and looks again. A split
stratified by label scores below chance, which is fine: there the labels are more alike than a random split would make
them.
"""

import numpy as np

from attacks.controls.progressive import FOLDS, deal
from redteam.core import DataError
from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.plugins.attack import Control


class LabelControl(Control):
    """Predict membership from the label alone."""

    id = "RT902"
    name = "label control"
    may_be_below_chance = True
    reads_labels = True

    def score(self, pool: Examples, is_member: BoolArray, *, seed: int) -> FloatArray:
        """Return the share of members among a label's earlier examples, shape [n]; NaN in the first fold.

        Raises DataError where there are no labels or all are the same.
        """
        if pool.labels is None or len(set(pool.labels)) < 2:
            raise DataError("fewer than two labels: there is nothing to compare")
        labels, folds = np.unique(np.array(pool.labels, dtype=object), return_inverse=True)[1], deal(is_member, seed)
        scores, overall = np.full(len(pool), np.nan), is_member.mean()
        for k in range(1, FOLDS):
            past, now = np.concatenate(folds[:k]), folds[k]
            members = np.bincount(labels[past], weights=is_member[past], minlength=labels.max() + 1)
            seen = np.bincount(labels[past], minlength=labels.max() + 1)
            scores[now] = ((members + overall) / (seen + 1))[labels[now]]
        return scores
