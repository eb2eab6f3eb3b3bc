"""Whether references answer like the target, and what an attack with them will find; neither sees a membership."""

from collections.abc import Callable

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.statistics.area import area
from redteam.statistics.membership.stacking import ReferenceTable
from redteam.statistics.ranking import rank

SAME_RECIPE = (0.85, 1.35)


def fidelity_slope(target: FloatArray, references: ReferenceTable) -> float | None:
    """Return how the target's log-odds rise with a reference's, over how those of references rise with each other's.

    1 for a target of the same recipe, below for one that is less sure than its references, above for one that is surer;
    None of a single reference, or of ones that say the same of every row. Both slopes are dampened alike by what models
    of one recipe differ, so that no row need be known to be a non-member.
    """
    count = len(references)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    if not pairs or any(each.var() == 0 for each in references.log_odds):
        return None
    # Of complements each was trained on what the other was not, which takes a quarter of the squared gap off.
    apart = float(references.moments().gap.mean()) ** 2 / 4
    among = [_slope(references, i, references.log_odds[j], apart * (references.partner[i] == j)) for i, j in pairs]
    of_target = [_slope(references, i, target, 0.0) for i in range(count)]
    return float(np.mean(of_target) / np.mean(among)) if np.mean(among) > 0 else None


def _slope(references: ReferenceTable, model: int, y: FloatArray, more: float) -> float:
    """Return the regression of `y` on a model's log-odds, with so much more covariance."""
    x = references.log_odds[model]
    return (float(np.mean((x - x.mean()) * y)) + more) / float(x.var())


def forecast(references: ReferenceTable, score: Callable[[FloatArray, ReferenceTable], FloatArray]) -> FloatArray:
    """Return the AUC of `score(target, references)` with each reference in turn as the target, shape [k].

    Its complement is left out too. It tells what the attack will find in a target of this recipe before the target is
    touched. Empty where nobody is left to score with.
    """
    others = [references.others(k) for k in range(len(references))]
    if not all(len(left) for left in others):
        return np.empty(0)
    played = [score(references.log_odds[k], left) for k, left in enumerate(others)]
    return np.array([area(rank(scores, is_in)) for scores, is_in in zip(played, references.included, strict=True)])
