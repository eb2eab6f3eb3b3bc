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
    of one recipe differ, so that no row need be known to be a non-member. Complements are not compared with each other:
    each was trained on what the other was not. Of a pair alone it is how much the target's log-odds vary over how much
    the references' do.
    """
    log_odds, count = references.log_odds, len(references)
    if count < 2 or any(each.var() == 0 for each in log_odds):
        return None
    apart = [(i, j) for i in range(count) for j in range(count) if j not in (i, references.partner[i])]
    if not apart:
        return float(np.sqrt(target.var() / log_odds.var(axis=1).mean()))
    among = float(np.mean([_slope(log_odds[i], log_odds[j]) for i, j in apart]))
    return float(np.mean([_slope(target, each) for each in log_odds])) / among if among > 0 else None


def _slope(y: FloatArray, x: FloatArray) -> float:
    return float(np.mean((x - x.mean()) * y) / x.var())


def forecast(references: ReferenceTable, score: Callable[[FloatArray, ReferenceTable], FloatArray]) -> FloatArray:
    """Return the AUC of `score(target, references)` with each reference in turn as the target, shape [k].

    Its complement is left out too. It tells what the attack will find in a target of this recipe before the target is
    touched. Empty where nobody is left to score with.
    """
    others = [references.others(k) for k in range(len(references))]
    if not all(len(left) for left in others):
        return np.empty(0)
    played = [score(references.log_odds[k], left) for k, left in enumerate(others)]
    return np.array(
        [area(rank(scores, is_in, may_tie=True)) for scores, is_in in zip(played, references.included, strict=True)]
    )
