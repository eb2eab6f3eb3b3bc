"""Do the references answer as the target would? Where they do not, another recipe trained it, and attacks must know.

A model of the same recipe gives a row the log-odds that others give it, but for the noise of a training, which flattens
the slope of the one on the others. So the slope is divided by what references have on each other, and one recipe gives
about 1. Measured over several recipes (a two-layer encoder, 77 labels, 2,000 rows, eight references) the slope before
that was 0.92 +- 0.04 for the same, 1.22 for half the learning rate, 0.73 for half the batch, 0.53 for twice the passes,
and 2.06 for a third of them; beyond 0.85 to 1.35 attacks did better without the rows' own means. Attacks, which are
blind, choose by the same slope and the same window, `redteam.statistics.membership.fidelity`.
"""

from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray
from redteam.plugins.reference_scores import ReferenceScores
from redteam.statistics.membership.fidelity import fidelity_slope, slopes_of_one_recipe
from redteam.statistics.membership.stacking import ReferenceTable, finite

_OTHER = "ANOTHER RECIPE, or one that varies more than they show: attacks with them are weaker; one gives"


@dataclass(frozen=True)
class Fidelity:
    """How the target compares with references.

    `slope` is that of the target's log-odds on theirs over what these have on each other, None where there is none;
    `window` is where it lies for one recipe. `loss` and `accuracy` are of the target and of the references on rows that
    neither was trained on; None where there are no such rows, or it is not known which answers are right.
    """

    slope: float | None
    window: tuple[float, float]
    loss: tuple[float, float] | None
    accuracy: tuple[float, float] | None

    @property
    def same_recipe(self) -> bool:
        """Whether the slope is one of the same recipe."""
        return self.slope is not None and self.window[0] <= self.slope <= self.window[1]

    @property
    def words(self) -> str:
        """The comparison in one line."""
        low, high = self.window
        slope = "no slope: they are too few, or say nothing of each other's rows, as where they are sure of nearly all"
        if self.slope is not None:
            verdict = "as one recipe gives:" if self.same_recipe else _OTHER
            slope = f"slope {self.slope:.2f} ({verdict} {low:.2f} to {high:.2f})"
        right = "" if self.accuracy is None else f", {self.accuracy[0]:.1%} right against {self.accuracy[1]:.1%}"
        rest = ""
        if self.loss is not None:
            losses = f"the target's loss is {self.loss[0]:.2f} and theirs {self.loss[1]:.2f}"
            rest = f"; on rows not trained on, {losses}{right}"
        return f"fidelity of the references: {slope}{rest}"


def fidelity(
    log_odds: FloatArray, is_member: BoolArray, references: ReferenceScores, correct: BoolArray | None = None
) -> Fidelity:
    """Compare a target's log-odds, [n], with its references'; membership joins for loss and accuracy alone."""
    table = ReferenceTable.of(references.log_odds, references.included, references.partner)
    slope, window = fidelity_slope(finite(log_odds), table), slopes_of_one_recipe(table)
    outside = ~is_member & ~references.included.all(axis=0)
    if not outside.any():
        return Fidelity(slope, window, None, None)
    theirs, out = references.log_odds[:, outside], ~references.included[:, outside]
    losses = float(_loss(log_odds[outside]).mean()), float(_loss(theirs)[out].mean())
    right = None
    if correct is not None and references.correct is not None:
        right = float(correct[outside].mean()), float(references.correct[:, outside][out].mean())
    return Fidelity(slope, window, losses, right)


def _loss(log_odds: FloatArray) -> FloatArray:
    loss: FloatArray = np.logaddexp(0.0, -log_odds)
    return loss
