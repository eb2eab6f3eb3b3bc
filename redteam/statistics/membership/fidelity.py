"""Whether references answer like the target, and what an attack with them will find; neither sees a membership."""

from collections.abc import Callable

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray
from redteam.statistics.area import area
from redteam.statistics.membership.stacking import ReferenceTable
from redteam.statistics.ranking import rank

SAME_RECIPE = (0.85, 1.35)  # slopes of one recipe; beyond, scores do better without the rows' own means
WIDEST = (0.6, 1.7)  # as far as references of one recipe may differ among each other
_FEWEST = 4  # references from which on their own slopes say how much one recipe varies
_RELATED = 0.05  # mean correlation among references below which they say nothing of each other's rows
_SURE = 3.0  # standard errors of that mean where they say nothing, which it must be above


def fidelity_slope(target: FloatArray, references: ReferenceTable) -> float | None:
    """Return how the target's log-odds rise with a reference's, over how those of references rise with each other's.

    1 for a target of the same recipe, below for one that is less sure than its references, above for one that is surer;
    None of a single reference, or of ones that say the same of every row or nothing of each other. Both slopes are
    dampened alike by what models of one recipe differ, so that no row need be known to be a non-member. Complements are
    not compared with each other: each was trained on what the other was not. Of a pair alone it is how much the
    target's log-odds vary over how much the references' do. References that are nearly sure of all rows say nothing of
    each other's: what is left is noise, over which any slope may come out.
    """
    log_odds, count = references.log_odds, len(references)
    if count < 2 or any(np.ptp(each) == 0 for each in log_odds):
        return None
    apart = _apart(references)
    if not apart.any():
        return float(np.sqrt(target.var() / log_odds.var(axis=1).mean()))
    slopes = _slopes(np.vstack([log_odds, target]))
    return _over(float(slopes[-1, :-1].mean()), slopes[:-1, :-1], log_odds, apart)


def slopes_of_one_recipe(references: ReferenceTable) -> tuple[float, float]:
    """Return between which slopes a target counts as of the references' recipe.

    Where a training varies much, as a short one does, references differ as much from each other: from four on the
    window is widened to the slopes that each has on the others, over how these rise with each other's (over how all do,
    where but one pair is left), though not beyond `WIDEST`.
    """
    low, high = SAME_RECIPE
    if len(references) < _FEWEST or any(np.ptp(each) == 0 for each in references.log_odds):
        return low, high
    slopes, apart = _slopes(references.log_odds), _apart(references)
    for k, others in enumerate(apart):
        left = apart & np.outer(others, others)
        own = _over(float(slopes[k, others].mean()), slopes, references.log_odds, left if left.any() else apart)
        if own is not None:
            low, high = min(low, max(own, WIDEST[0])), max(high, min(own, WIDEST[1]))
    return low, high


def _over(own: float, slopes: FloatArray, log_odds: FloatArray, apart: BoolArray) -> float | None:
    """Return a mean slope over that of the references which `apart` compares; None where these are not related.

    Whether they are is told by correlations: one model that is nearly sure of all rows has slopes as large as you like.
    """
    related = float(np.asarray(np.corrcoef(log_odds))[apart].mean())
    error = 1 / np.sqrt(log_odds.shape[1] * apart.sum() / 2)
    among = float(slopes[apart].mean())
    return own / among if related > max(_RELATED, _SURE * error) and among > 0 else None


def _apart(references: ReferenceTable) -> BoolArray:
    """Return which references are compared with each other, [k, k]: neither one with itself nor with its complement."""
    apart = ~np.eye(len(references), dtype=np.bool_)
    for model, other in enumerate(references.partner):
        apart[model, other] &= other < 0
    return apart


def _slopes(log_odds: FloatArray) -> FloatArray:
    """Return the least-squares slope of each row on each other, [k, k]."""
    shared = np.cov(log_odds, bias=True)
    slopes: FloatArray = shared / np.diag(shared)
    return slopes


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
