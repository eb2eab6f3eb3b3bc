"""What reference models say of each row in a few numbers, and the scores that need no more of them than means."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, logsumexp

from redteam.core.arrays import BoolArray, FloatArray

_TINY = 1e-300


@dataclass(frozen=True)
class Moments:
    """Means of the models that were trained on a row and of those that were not, shape [n] each.

    Where a row has no model on one side, that side's mean is the other's, moved by what the sides differ on average.
    `squares_in` and `squares_out` are sums of squared deviations from the mean of the own side.
    """

    n_in: FloatArray
    n_out: FloatArray
    mean_in: FloatArray
    mean_out: FloatArray
    squares_in: FloatArray
    squares_out: FloatArray

    @property
    def middle(self) -> FloatArray:
        """Halfway between in and out, shape [n]."""
        return (self.mean_in + self.mean_out) / 2

    @property
    def gap(self) -> FloatArray:
        """How much surer models are that were trained on the row, shape [n]."""
        return self.mean_in - self.mean_out

    @property
    def direction(self) -> float:
        """-1 where training on a row makes models less sure of it by over 3 standard errors, else 1.

        Vectors of a length of their own do that: a word that only one text of the training data has takes weight from
        the rest of it, and from no text that the model does not know.
        """
        gap = self.gap[(self.n_in > 0) & (self.n_out > 0)]
        if len(gap) > 1:
            return -1.0 if gap.mean() < -3 * gap.std() / np.sqrt(len(gap)) else 1.0
        error = self.mean_in.std() * np.sqrt(4 / len(self.gap))  # between two halves of the rows
        return -1.0 if self.gap.mean() < -3 * error else 1.0

    @property
    def freedom(self) -> FloatArray:
        """The degrees of freedom of both sides' squares together, shape [n]."""
        return np.maximum(self.n_in - 1, 0) + np.maximum(self.n_out - 1, 0)


def moments(log_odds: FloatArray, included: BoolArray) -> Moments:
    """Return the moments of reference log-odds, shape [k, n]."""
    n_in, mean_in, squares_in = _side(log_odds, included)
    n_out, mean_out, squares_out = _side(log_odds, ~included)
    shift = _shift(log_odds, included, n_in, n_out, mean_in - mean_out)
    return Moments(
        n_in,
        n_out,
        np.where(n_in > 0, mean_in, mean_out + shift),
        np.where(n_out > 0, mean_out, mean_in - shift),
        squares_in,
        squares_out,
    )


def _side(log_odds: FloatArray, there: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    count = there.sum(axis=0).astype(np.float64)
    mean = np.where(there, log_odds, 0.0).sum(axis=0) / np.maximum(count, 1)
    return count, mean, np.square(np.where(there, log_odds - mean, 0.0)).sum(axis=0)


def _shift(log_odds: FloatArray, included: BoolArray, n_in: FloatArray, n_out: FloatArray, gap: FloatArray) -> float:
    """Return by how much the sides differ: within rows that have both, else between all of the one and of the other."""
    both = (n_in > 0) & (n_out > 0)
    if both.any():
        return float(gap[both].mean())
    if included.all() or not included.any():
        return 0.0
    return float(log_odds[included].mean() - log_odds[~included].mean())


def offset(target: FloatArray, found: Moments) -> FloatArray:
    """Return the target's log-odds less the middle between in and out, shape [n].

    With complementary pairs the middle is free of what the neighbours' membership does to the references: what lifts a
    row in one model of a pair lowers it in the other.
    """
    return target - found.middle


def ratio(target: FloatArray, log_odds: FloatArray) -> FloatArray:
    """Return log p less the log of its mean over all references, half of them in: shape [n].

    RMIA (Zarifzadeh et al., ICML 2024) compares this with the same of a population, which is a monotone step function
    of it: the population can only make its ROC curve coarser. BASE (Lassila et al. 2025) is this.
    """
    score: FloatArray = log_expit(target) - _log_mean(log_odds)
    return score


def _log_mean(log_odds: FloatArray) -> FloatArray:
    """Return the log of the mean p over models, shape [n].

    From the mean 1 - p where that is small, as p near 1 has no decimals left; from logs where every p is below the
    smallest number. To take logs first and add their exponentials is three times the work.
    """
    doubt = expit(-log_odds).mean(axis=0)
    made: FloatArray = np.log1p(-np.minimum(doubt, 0.5))
    for few, mean in ((doubt > 0.5, _plain_mean), (doubt >= 1, _mean_of_logs)):
        if few.any():
            made[few] = mean(log_odds[:, few])
    return made


def _plain_mean(log_odds: FloatArray) -> FloatArray:
    mean: FloatArray = np.log(np.maximum(expit(log_odds).mean(axis=0), _TINY))
    return mean


def _mean_of_logs(log_odds: FloatArray) -> FloatArray:
    mean: FloatArray = logsumexp(log_expit(log_odds), axis=0) - np.log(len(log_odds))
    return mean


def ratio_offline(target: FloatArray, log_odds: FloatArray, included: BoolArray, *, a: float = 0.3) -> FloatArray:
    """Return the same from models that were not trained on the row alone: over (1 + a)/2 mean p + (1 - a)/2, shape [n].

    Of a row without such a model the mean is 1.
    """
    out = (~included).sum(axis=0)
    mean = np.where(included, 0.0, np.exp(log_expit(log_odds))).sum(axis=0) / np.maximum(out, 1)
    mean = np.where(out > 0, mean, 1.0)
    score: FloatArray = log_expit(target) - np.log((1 + a) / 2 * mean + (1 - a) / 2)
    return score
