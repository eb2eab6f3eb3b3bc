"""Scores of a target among reference models, less what neighbours share; from four references on, several in one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from redteam.core.arrays import BoolArray, FloatArray
from redteam.statistics.membership.expectation import neighbour_score
from redteam.statistics.membership.likelihood import (
    curve_ratio,
    moderated_sides,
    moderated_t,
    shared_spread_ratio,
    spread_of,
)
from redteam.statistics.membership.moments import Moments, moments, offset, ratio, ratio_offline
from redteam.statistics.membership.neighbours import NeighbourKernel, label_means
from redteam.statistics.membership.regression import logistic_weights

FEWEST = 4  # references that are enough to learn from how scores add up
_FEWEST_OWN = 4  # references of a pseudo-target from which a variance of each row says something
_LARGEST = 10.0  # of a log likelihood ratio: beyond, one row would bend the fit
_SQUARE = 30.0
_SHOWN = 5.0  # standard errors by which references must show their own rows: below, weights are mostly noise
_TINY = 1e-9


@dataclass(frozen=True)
class ReferenceTable:
    """Reference models by rows: log-odds and inclusion, shape [k, n], and each model's complement or -1.

    `gradients`, shape [k, f, n], are log norms of gradients of a row's loss, the smaller the surer the model.
    """

    log_odds: FloatArray
    included: BoolArray
    partner: tuple[int, ...]
    gradients: FloatArray | None = None

    @classmethod
    def of(
        cls,
        log_odds: FloatArray,
        included: BoolArray,
        partner: tuple[int, ...],
        gradients: FloatArray | None = None,
    ) -> "ReferenceTable":
        """Return the table of answers that may hold probabilities of 1 and 0."""
        return cls(np.array([finite(each) for each in log_odds]), included, partner, gradients)

    def __len__(self) -> int:
        """Return how many models there are."""
        return len(self.log_odds)

    def others(self, model: int) -> "ReferenceTable":
        """Return the models without one and its complement, which knows as much about it; none has a partner there."""
        keep = [i for i in range(len(self)) if i not in (model, self.partner[model])]
        pulls = None if self.gradients is None else self.gradients[keep]
        return ReferenceTable(self.log_odds[keep], self.included[keep], (-1,) * len(keep), pulls)

    def moments(self) -> Moments:
        """Return what the models say of each row."""
        return moments(self.log_odds, self.included)


def finite(odds: FloatArray) -> FloatArray:
    """Return log-odds with those of a p that was rounded to 1 or 0 at log 2 beyond all others of the model."""
    known = odds[np.isfinite(odds)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    return np.clip(odds, low - np.log(2), high + np.log(2))


def local_score(
    target: FloatArray, references: ReferenceTable, rows: NeighbourKernel, fit: Sequence[FloatArray]
) -> FloatArray:
    """Return how much likelier the target is in than out, what neighbours share of its excess taken off, shape [n].

    The excess is over the middle between in and out. One reference cannot tell what training on the row does: it is one
    column more of the regression on `fit`, arrays of shape [n] that tell how well the label fits.
    """
    found = references.moments()
    if len(references) == 1:
        return found.direction * neighbour_score(target, rows, [*fit, found.middle])
    return curve_ratio(found.middle + rows.own(offset(target, found)), found)


def other_recipe_score(
    target: FloatArray, references: ReferenceTable, rows: NeighbourKernel, fit: Sequence[FloatArray]
) -> FloatArray:
    """Return the same for references of another recipe, whose log-odds mean something else, shape [n].

    The expectation is a regression of the target's own log-odds on what the references say.
    """
    found = references.moments()
    gap = [found.gap] if len(references) > 1 else []
    return found.direction * neighbour_score(target, rows, [*fit, found.middle, *gap])


@dataclass(frozen=True)
class Stacked:
    """A score, shape [n], and whether it is the stacked one: else references show too little of their own rows."""

    score: FloatArray
    learned: bool


def stacked_score(
    target: FloatArray, references: ReferenceTable, rows: NeighbourKernel, gradients: FloatArray | None = None
) -> FloatArray:
    """Return the score of `stack`, shape [n]."""
    return stack(target, references, rows, gradients).score


def stack(
    target: FloatArray, references: ReferenceTable, rows: NeighbourKernel, gradients: FloatArray | None = None
) -> Stacked:
    """Return how sure a logistic regression on several scores is that a row is in.

    It is fitted where each reference plays the target, itself and its complement left out of the references. With
    `gradients`, the target's log norms, shape [f, n], it sees those among the references' own too, but for norms that
    are the same for all rows of a model and rank nobody.

    References that were trained to remember nothing do not tell what a target that remembers looks like: weights
    learned from them are noise, and would hide its members. So it must tell the references' own members on rows that
    it was not fitted on; where it does not, the score is the local one, which need not learn in which direction to
    look.
    """
    many = all(_has_own_spread(references.others(k)) for k in range(len(references)))
    found = references.moments()
    spread = spread_of(found)  # two numbers for all rows: no row is known by them

    def seen(said: FloatArray, others: ReferenceTable, pulls: FloatArray | None) -> FloatArray:
        parts = [_columns(said, others, rows, spread, many)]
        if pulls is not None and others.gradients is not None:
            among = others.gradients.swapaxes(0, 1)
            parts += [
                _gradient_columns(-pull, moments(-each, others.included), rows, many)
                for pull, each in zip(pulls, among, strict=True)
            ]
        return np.column_stack(parts)

    pulls: Sequence[FloatArray | None] = [None] * len(references)
    if gradients is not None and references.gradients is not None:
        telling = (np.ptp(references.gradients, axis=2) > 0).all(axis=0) & (np.ptp(gradients, axis=1) > 0)
        gradients, pulls = gradients[telling], list(references.gradients[:, telling])
        references = replace(references, gradients=references.gradients[:, telling])
    x = np.concatenate([seen(references.log_odds[k], references.others(k), pulls[k]) for k in range(len(references))])
    is_in = np.concatenate(list(references.included))
    mean, deviation = x.mean(axis=0), x.std(axis=0) + _TINY
    x = (x - mean) / deviation
    if not _shows_members(x, is_in, np.tile(rankdata(found.middle, "ordinal") % 2 == 0, len(references))):
        return Stacked(local_score(target, references, rows, ()), learned=False)
    weights = logistic_weights(x, is_in)
    return Stacked((seen(target, references, gradients) - mean) / deviation @ weights[1:] + weights[0], learned=True)


def _shows_members(x: FloatArray, is_in: BoolArray, first: BoolArray) -> bool:
    """Return whether a logistic regression on one half of the rows tells who is in on the other, far beyond chance."""
    errors = 0.0
    for half in (first, ~first):
        inside = is_in[~half]
        n_in, n_out = int(inside.sum()), int((~inside).sum())
        if not n_in or not n_out or is_in[half].all() or not is_in[half].any():
            return False
        ranks = rankdata(x[~half] @ logistic_weights(x[half], is_in[half])[1:])
        above = (ranks[inside].mean() - (n_in + 1) / 2) / n_out  # the AUC
        errors += (above - 0.5) / np.sqrt((1 / n_in + 1 / n_out) / 12)
    return bool(errors / np.sqrt(2) >= _SHOWN)


def _has_own_spread(references: ReferenceTable) -> bool:
    """Return whether a variance of each row says something: enough models, and two of a row on either side."""
    sides = (references.included, ~references.included)
    return len(references) >= _FEWEST_OWN and all(side.sum(axis=0).max() >= 2 for side in sides)


def _columns(
    target: FloatArray,
    references: ReferenceTable,
    rows: NeighbourKernel,
    spread: tuple[float, float] | None,
    many: bool,
) -> FloatArray:
    """Return what the logistic regression sees of a target, shape [n, columns].

    Everything twice: as it is, and less what neighbours share. `many` tells whether each row has a variance.
    """
    found = references.moments()
    excess = offset(target, found)
    own = rows.own(excess)
    easy = np.tanh(found.middle / 3)  # what an excess means depends on how easy the row is
    of_label = label_means(excess, rows.labels)
    columns = [of_label, of_label * easy, found.middle, found.gap, target, np.minimum(target, 0.0)]
    for each in (excess, own):
        columns += [each, np.minimum(each, 0.0), each * easy, np.clip(each * np.abs(each), -_SQUARE, _SQUARE)]
    relative = ratio(target, references.log_odds)
    columns += [relative, np.minimum(relative, 0.0), rows.own(relative)]
    columns += [ratio_offline(target, references.log_odds, references.included)]
    likelier = [curve_ratio(each, found) for each in (target, found.middle + own)]
    if spread is not None:
        likelier += [shared_spread_ratio(each, found, spread) for each in (target, found.middle + own)]
    if many:
        likelier += [moderated_t(target, found)]
        likelier += [moderated_sides(each, found) for each in (target, found.middle + own)]
    return np.column_stack([*columns, *(np.clip(each, -_LARGEST, _LARGEST) for each in likelier)])


def _gradient_columns(pull: FloatArray, found: Moments, rows: NeighbourKernel, many: bool) -> FloatArray:
    """Return what it sees of one norm, negated so that it rises as the model is surer, shape [n, columns]."""
    excess = offset(pull, found)
    own = rows.own(excess)
    likelier = [curve_ratio(each, found) for each in (pull, found.middle + own)]
    likelier += [moderated_sides(pull, found)] if many else []
    columns = [excess, np.minimum(excess, 0.0), own, np.minimum(own, 0.0), found.gap]
    return np.column_stack([*columns, *(np.clip(each, -_LARGEST, _LARGEST) for each in likelier)])
