"""How unusual a row's log-odds are among those of known non-members of like text: no reference model is trained.

Quantile regression as an attack (Bertran et al., NeurIPS 2023) by a Gaussian process: of a row's text and label it
predicts the log-odds that a non-member would have, with a standard deviation of its own. What is learned from is known
non-members, kept apart from the audit. Where they are not like the audited rows it says so instead of giving a score.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import ks_2samp

from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray, IntArray
from redteam.statistics.membership.neighbours import PENALTIES, similarity

FEWEST = 100  # known non-members
_LEVEL = 0.9  # of the quantile that is told where calibration fails
_ERROR = 1e-3  # of the test, where all is well
_MOST_FAR = 0.2


@dataclass(frozen=True)
class Labelled:
    """Rows by their vectors of length 1, shape [n, d], and labels as numbers, shape [n]."""

    vectors: FloatArray
    labels: IntArray

    def __getitem__(self, rows: slice) -> "Labelled":
        return Labelled(self.vectors[rows], self.labels[rows])

    def near(self, other: "Labelled") -> FloatArray:
        """Return the similarity of each row to each of the other's, shape [n, m]."""
        return similarity(self.vectors, self.labels, other.vectors, other.labels)


class NonMemberModel:
    """What non-members of a text and a label are expected to have, learned from `odds` of known ones, shape [m]."""

    def __init__(self, known: Labelled, odds: FloatArray) -> None:
        """Fit it; the penalty is that of the least error left one out."""
        self.known, self._mean = known, float(odds.mean())
        kernel, centred = known.near(known), odds - odds.mean()
        best = np.inf
        for penalty in PENALTIES:
            inverse = cho_solve(cho_factor(kernel + penalty * np.eye(len(odds))), np.eye(len(odds)))
            apart = 1 / np.diag(inverse)
            left = inverse @ centred * apart
            if np.square(left).mean() < best:
                best = float(np.square(left).mean())
                self._inverse, self._weights, self._penalty = inverse, inverse @ centred, penalty
                self._scale, self._apart = float(np.mean(np.square(left) / apart)), apart
                self.left_out = left / np.sqrt(self._scale * apart)

    def surprise(self, rows: Labelled, odds: FloatArray) -> FloatArray:
        """Return by how many standard deviations the rows' log-odds are above what is expected, shape [n]."""
        near = rows.near(self.known)
        surprise: FloatArray = (odds - self._mean - near @ self._weights) / np.sqrt(self._scale * self._width(rows))
        return surprise

    def check_like(self, rows: Labelled) -> None:
        """Raise StatisticsError where over 20 % of the rows lie further off than 95 % of the known ones do.

        By the variance that the process gives them, which is low where known rows of the label and of like text are.
        """
        far = float((self._width(rows) > np.quantile(self._apart, 0.95)).mean())
        if far > _MOST_FAR:
            raise StatisticsError(
                f"{far:.0%} of the audited rows have other texts or labels than the non-members kept apart: at most "
                f"{_MOST_FAR:.0%} may"
            )

    def _width(self, rows: Labelled) -> FloatArray:
        near = rows.near(self.known)
        width: FloatArray = 1.6 + self._penalty - np.einsum("ij,jk,ik->i", near, self._inverse, near, optimize=True)
        return np.maximum(width, self._penalty)


def check_calibrated(known: Labelled, odds: FloatArray) -> None:
    """Raise StatisticsError where a model of one half of the known non-members is wrong about the other half.

    The surprise of the second half must be distributed as that of the first, each of its rows left out: by a
    Kolmogorov-Smirnov test at 0.001. The halves are every other row, in whatever order they are given.
    """
    if len(odds) < FEWEST:
        raise StatisticsError(f"{len(odds)} non-members kept apart: at least {FEWEST} are needed")
    first, second = slice(0, None, 2), slice(1, None, 2)
    model = NonMemberModel(known[first], odds[first])
    found = model.surprise(known[second], odds[second])
    if ks_2samp(model.left_out, found).pvalue < _ERROR:
        above = float((found > np.quantile(model.left_out, _LEVEL)).mean())
        raise StatisticsError(f"quantiles are off: {above:.0%} of known non-members are above the one at {_LEVEL:.0%}")
