"""A score without any reference model: how far a row's log-odds are above what is to be expected of such a row."""

from collections.abc import Sequence

from redteam.core.arrays import FloatArray
from redteam.statistics.membership.neighbours import NeighbourKernel, label_means
from redteam.statistics.membership.regression import unexplained


def neighbour_score(log_odds: FloatArray, rows: NeighbourKernel, known: Sequence[FloatArray]) -> FloatArray:
    """Return the target's log-odds less what its label and its neighbours explain, shape [n].

    What is to be expected is a curve in the mean log-odds of the other rows of the label and in each of `known`, arrays
    of shape [n]: how well the label fits the text, what a reference model says. Of what is left, the part that
    neighbours share goes too. The result is not divided by a fitted spread, which would lose most of the TPR at a low
    FPR.
    """
    return rows.own(unexplained(log_odds, [*known, label_means(log_odds, rows.labels)]))
