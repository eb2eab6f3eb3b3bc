"""Do the references answer as the target would? Where they do not, another recipe trained it, and attacks must know.

A model of the same recipe gives a row that it was not trained on the log-odds that others give it that were not trained
on it either, but for the noise of a training: the slope of the one on the mean of the others is a little below one.
Measured over a dozen recipes (a two-layer encoder, 77 labels, 2,000 rows, eight references): 0.92 +- 0.04 for the same,
1.22 for half the learning rate, 0.73 for half the batch, 0.53 for twice the passes, 2.06 for a third of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray
from redteam.plugins.reference_scores import ReferenceScores
from redteam.statistics.area import area
from redteam.statistics.ranking import rank

SAME_RECIPE = (0.85, 1.35)  # slopes of one recipe; beyond it, attacks do better without the rows' own means
_FEWEST = 10  # rows that a line is fitted to


@dataclass(frozen=True)
class Fidelity:
    """How the target compares with references on the rows that neither was trained on.

    `slope` of the target's log-odds on the mean of the references'; None where there are too few rows. `loss` and
    `accuracy` are of the target and of the references; accuracy is None where it is not known.
    """

    slope: float | None
    loss: tuple[float, float]
    accuracy: tuple[float, float] | None

    @property
    def same_recipe(self) -> bool:
        """Whether the slope is one of the same recipe."""
        return self.slope is not None and SAME_RECIPE[0] <= self.slope <= SAME_RECIPE[1]

    @property
    def words(self) -> str:
        """The comparison in one line."""
        low, high = SAME_RECIPE
        if self.slope is None:
            slope = "no slope, too few rows that neither was trained on"
        else:
            verdict = "as one recipe gives" if self.same_recipe else "ANOTHER RECIPE: attacks with them are weaker"
            slope = f"slope {self.slope:.2f} ({verdict}: {low:g} to {high:g})"
        right = "" if self.accuracy is None else f", {self.accuracy[0]:.1%} right against {self.accuracy[1]:.1%}"
        return (
            f"fidelity of the references: {slope}; on rows not trained on, the target's loss is {self.loss[0]:.2f} and "
            f"theirs {self.loss[1]:.2f}{right}"
        )


def fidelity(
    log_odds: FloatArray, is_member: BoolArray, references: ReferenceScores, correct: BoolArray | None = None
) -> Fidelity | None:
    """Compare a target's log-odds, [n], with its references' on non-members; None where there are none to compare.

    This joins scores with membership, and is for reports. Attacks, which are blind, choose by `blind_slope`.
    """
    outside = ~is_member & ~references.included.all(axis=0)
    if not outside.any():
        return None
    theirs, out = references.log_odds[:, outside], ~references.included[:, outside]
    mean = np.where(out, theirs, 0.0).sum(axis=0) / out.sum(axis=0)
    losses = _loss(log_odds[outside]).mean(), _loss(theirs)[out].mean()
    right = None
    if correct is not None and references.correct is not None:
        right = float(correct[outside].mean()), float(references.correct[:, outside][out].mean())
    return Fidelity(_slope(mean, log_odds[outside]), (float(losses[0]), float(losses[1])), right)


def blind_slope(log_odds: FloatArray, references: ReferenceScores) -> float | None:
    """Return the slope of a target's log-odds on the references', relative to what each of them has on the others.

    It uses no membership: the line is fitted over all rows, on the middle between the means of the references that were
    trained on a row and of those that were not. About half of the rows are members of each model, which blurs the line
    of the target as it blurs that of each reference when that one plays the target; so their ratio is about 1 where the
    recipe is the same, whatever the blur. None where there are fewer than three references or no line can be fitted.
    """
    own = _on_the_middle(log_odds, references)
    others = [
        _on_the_middle(references.log_odds[model], rest)
        for model in range(len(references))
        if len(rest := references.without(model)) > 1
    ]
    known = [slope for slope in others if slope is not None]
    if own is None or len(known) < 2 or np.mean(known) <= 0:
        return None
    return own / float(np.mean(known))


def forecast(references: ReferenceScores, score: Callable[[FloatArray, ReferenceScores], FloatArray]) -> float | None:
    """Return the mean AUC of an attack's score over the references, each in turn as the target, the others its own.

    It asks the target nothing, so that an attack may be chosen by it at no cost in confidence. None with fewer than
    three references.
    """
    found = []
    for model in range(len(references)):
        rest = references.without(model)
        if len(rest) > 1:
            scores = score(references.log_odds[model], rest)
            found.append(area(rank(scores, references.included[model], may_tie=True)))
    return float(np.mean(found)) if found else None


def offset(log_odds: FloatArray, references: ReferenceScores) -> FloatArray:
    """Return how far a target's log-odds, [n], lie from the middle of its references': the simplest score with them."""
    return log_odds - middle(references)


def middle(references: ReferenceScores) -> FloatArray:
    """Return the middle between the mean of the references trained on a row and of the others, [n].

    Where a row has only one of the two, the other lies as far from it as they do on average.
    """
    inside, odds = references.included, references.log_odds
    counts = inside.sum(axis=0), (~inside).sum(axis=0)
    means = [
        np.where(side, odds, 0.0).sum(axis=0) / np.maximum(n, 1)
        for side, n in zip((inside, ~inside), counts, strict=True)
    ]
    both = (counts[0] > 0) & (counts[1] > 0)
    gap = float((means[0] - means[1])[both].mean()) if both.any() else float(odds[inside].mean() - odds[~inside].mean())
    there = np.where(counts[0] > 0, means[0], means[1] + gap)
    out = np.where(counts[1] > 0, means[1], means[0] - gap)
    between: FloatArray = (there + out) / 2
    return between


def _on_the_middle(log_odds: FloatArray, references: ReferenceScores) -> float | None:
    return _slope(middle(references), log_odds) if len(references) > 1 else None


def _slope(x: FloatArray, y: FloatArray) -> float | None:
    """Return the least-squares slope of y on x; None for too few rows or none that differ."""
    if len(x) < _FEWEST or np.ptp(x) == 0:
        return None
    return float(np.polyfit(x, y, 1)[0])


def _loss(log_odds: FloatArray) -> FloatArray:
    loss: FloatArray = np.logaddexp(0.0, -log_odds)
    return loss
