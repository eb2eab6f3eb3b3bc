"""Do the references answer as the target would? Where they do not, another recipe trained it, and attacks must know.

A model of the same recipe gives a row that it was not trained on the log-odds that others give it that were not trained
on it either, but for the noise of a training, which flattens the slope of the one on the mean of the others: the more,
the fewer there are. So the slope is divided by what references have on each other, and one recipe gives about 1.
Measured over several recipes (a two-layer encoder, 77 labels, 2,000 rows, eight references) the slope itself was
0.92 +- 0.04 for the same, 1.22 for half the learning rate, 0.73 for half the batch, 0.53 for twice the passes, and 2.06
for a third of them; beyond 0.85 to 1.35 attacks did better without the rows' own means.
"""

from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray
from redteam.plugins.reference_scores import ReferenceScores

SAME_RECIPE = (0.9, 1.5)  # relative slopes of one recipe: 0.85 to 1.35 by the 0.92 that it has with eight references
_FEWEST = 10  # rows that a line is fitted to


@dataclass(frozen=True)
class Fidelity:
    """How the target compares with references on the rows that neither was trained on.

    `slope` is that of the target's log-odds on the mean of the references', `relative` to what these have on each
    other; None where there are too few rows. `loss` and `accuracy` are of the target and of the references; accuracy is
    None where it is not known.
    """

    slope: float | None
    relative: float | None
    loss: tuple[float, float]
    accuracy: tuple[float, float] | None

    @property
    def same_recipe(self) -> bool:
        """Whether the relative slope is one of the same recipe."""
        return self.relative is not None and SAME_RECIPE[0] <= self.relative <= SAME_RECIPE[1]

    @property
    def words(self) -> str:
        """The comparison in one line."""
        low, high = SAME_RECIPE
        if self.slope is None or self.relative is None:
            slope = "no slope, too few rows that neither was trained on"
        else:
            verdict = "as one recipe gives" if self.same_recipe else "ANOTHER RECIPE: attacks with them are weaker"
            slope = (
                f"slope {self.slope:.2f}, {self.relative:.2f} of theirs on each other ({verdict}: {low:g} to {high:g})"
            )
        right = "" if self.accuracy is None else f", {self.accuracy[0]:.1%} right against {self.accuracy[1]:.1%}"
        return (
            f"fidelity of the references: {slope}; on rows not trained on, the target's loss is {self.loss[0]:.2f} and "
            f"theirs {self.loss[1]:.2f}{right}"
        )


def fidelity(
    log_odds: FloatArray, is_member: BoolArray, references: ReferenceScores, correct: BoolArray | None = None
) -> Fidelity | None:
    """Compare a target's log-odds, [n], with its references' on non-members; None where there are none to compare.

    This joins scores with membership, and is for reports. Attacks, which are blind, choose by `fidelity_slope` of
    `redteam.statistics.membership.fidelity`.
    """
    outside = ~is_member & ~references.included.all(axis=0)
    if not outside.any():
        return None
    theirs, out = references.log_odds[:, outside], ~references.included[:, outside]
    losses = _loss(log_odds[outside]).mean(), _loss(theirs)[out].mean()
    right = None
    if correct is not None and references.correct is not None:
        right = float(correct[outside].mean()), float(references.correct[:, outside][out].mean())
    slope = _slope(mean_outside(references), log_odds, ~is_member)
    relative = _relative(log_odds, ~is_member, references)
    return Fidelity(slope, relative, (float(losses[0]), float(losses[1])), right)


def mean_outside(references: ReferenceScores) -> FloatArray:
    """Return the mean of the references that were not trained on a row, [n]; NaN where all were."""
    out = ~references.included
    with np.errstate(invalid="ignore"):
        mean: FloatArray = np.where(out, references.log_odds, 0.0).sum(axis=0) / out.sum(axis=0)
    return mean


def _relative(log_odds: FloatArray, rows: BoolArray, references: ReferenceScores) -> float | None:
    """Return the target's slope on its `rows` by the references' slopes on theirs, each on the same other models.

    With one pair, or one model, no other is left: then how far the numbers spread is compared.
    """
    slopes, outside = [], ~references.included
    for model in range(len(references)):
        rest = references.without(model)
        if len(rest):
            x = mean_outside(rest)
            slopes.append((_slope(x, log_odds, rows), _slope(x, references.log_odds[model], outside[model])))
    known = [(own, theirs) for own, theirs in slopes if own is not None and theirs is not None]
    if known:
        own, theirs = (float(np.mean(each)) for each in zip(*known, strict=True))
        return own / theirs if theirs > 0 else None
    if slopes or rows.sum() < _FEWEST:
        return None
    spread = [float(references.log_odds[k][outside[k]].std()) for k in range(len(references)) if outside[k].any()]
    return float(log_odds[rows].std()) / float(np.mean(spread)) if spread and min(spread) > 0 else None


def _slope(x: FloatArray, y: FloatArray, rows: BoolArray) -> float | None:
    """Return the least-squares slope of y on x over some rows; None for too few, or none that differ."""
    there = rows & np.isfinite(x)
    if there.sum() < _FEWEST or np.ptp(x[there]) == 0:
        return None
    return float(np.polyfit(x[there], y[there], 1)[0])


def _loss(log_odds: FloatArray) -> FloatArray:
    loss: FloatArray = np.logaddexp(0.0, -log_odds)
    return loss
