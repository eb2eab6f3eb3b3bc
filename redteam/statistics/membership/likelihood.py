"""Scores that compare how likely the target's log-odds are in and out: LiRA, and what needs fewer references."""

import numpy as np
from scipy.special import digamma, polygamma
from scipy.stats import norm, t

from redteam.core import StatisticsError
from redteam.core.arrays import FloatArray
from redteam.statistics.membership.moments import Moments
from redteam.statistics.membership.regression import curve

_TINY = 1e-30
_SMALL = 1e-9
_ADDED = 1e-3  # to squares, whose logs are taken
_SMOOTH = 3.0  # how much a curve is held to a constant
_TAILS = 8.0  # degrees of freedom of a variance that is a curve: a row's own is another
_LEAST_GAP = 0.1
_NO_SPREAD = "no row has two reference models on one side, which a variance takes: take more references"


def lira(target: FloatArray, found: Moments, *, pooled: bool = False) -> FloatArray:
    """Return the log of how much likelier the target is in than out, by normal distributions, shape [n].

    Online LiRA (Carlini et al., S&P 2022) with the mean of each side; `pooled` takes one variance a side for all rows.
    Raises StatisticsError where no row has two models on one side.
    """
    inside = _deviation(found.squares_in, found.n_in, pooled=pooled)
    outside = _deviation(found.squares_out, found.n_out, pooled=pooled)
    score: FloatArray = norm.logpdf(target, found.mean_in, inside) - norm.logpdf(target, found.mean_out, outside)
    return score


def lira_offline(target: FloatArray, found: Moments, *, pooled: bool = False) -> FloatArray:
    """Return minus the log of how often a model that was not trained on the row is as sure of it, shape [n].

    Offline LiRA, one-sided. Logs keep the order of the far tail, where a probability would be the same for all.
    """
    outside = _deviation(found.squares_out, found.n_out, pooled=pooled)
    score: FloatArray = -norm.logsf(target, found.mean_out, outside)
    return score


def _deviation(squares: FloatArray, count: FloatArray, *, pooled: bool) -> FloatArray:
    """Return the standard deviation of a side, shape [n]; where a row has one model only, that of all rows."""
    if count.max() < 2:
        raise StatisticsError(_NO_SPREAD)
    over_all = np.sqrt(squares.sum() / count.sum())
    own = np.sqrt(squares / np.maximum(count, 1))
    made: FloatArray = np.where((count < 2) | pooled, over_all, own) + _TINY
    return made


def spread_of(found: Moments) -> tuple[float, float] | None:
    """Return the standard deviation in and out that all rows share, unbiased; None where no row has two."""
    sides = ((found.squares_in, found.n_in), (found.squares_out, found.n_out))
    freedom = [float(np.maximum(count - 1, 0).sum()) for _, count in sides]
    if min(freedom) == 0:
        return None
    inside, outside = (
        float(np.sqrt(squares.sum() / d)) + _TINY for (squares, _), d in zip(sides, freedom, strict=True)
    )
    return inside, outside


def shared_spread_ratio(target: FloatArray, found: Moments, spread: tuple[float, float]) -> FloatArray:
    """Return LiRA's ratio with given standard deviations in and out, wider where a mean is of few models, shape [n]."""
    inside, outside = (
        s * np.sqrt(1 + 1 / np.maximum(n, 1)) for s, n in zip(spread, (found.n_in, found.n_out), strict=True)
    )
    score: FloatArray = norm.logpdf(target, found.mean_in, inside) - norm.logpdf(target, found.mean_out, outside)
    return score


def moderated_t(target: FloatArray, found: Moments) -> FloatArray:
    """Return LiRA's ratio with one variance a row, drawn to that of all rows: by Student's t, shape [n].

    How strongly, the rows themselves say: an inverse-gamma prior fitted by the moments of the log variances (Smyth
    2004, as in limma). It needs no switch between a variance of each row and one for all. Raises StatisticsError where
    no row has two models on one side.
    """
    freedom, variance = moderated(found)

    def log_density(mean: FloatArray, count: FloatArray) -> FloatArray:
        scale = np.sqrt(variance * (1 + 1 / np.maximum(count, 1)))
        density: FloatArray = t.logpdf(target, freedom, mean, scale)
        return density

    return log_density(found.mean_in, found.n_in) - log_density(found.mean_out, found.n_out)


def moderated_sides(target: FloatArray, found: Moments) -> FloatArray:
    """Return the same ratio with a variance a row for in and one for out, each drawn to those of its side, shape [n].

    Training moves a row, so that models which know it may differ less, or more, than those which do not. Raises
    StatisticsError where no row has two models on one of the sides.
    """

    def log_density(mean: FloatArray, squares: FloatArray, count: FloatArray) -> FloatArray:
        freedom, variance = _drawn(squares, np.maximum(count - 1, 0))
        density: FloatArray = t.logpdf(target, freedom, mean, np.sqrt(variance * (1 + 1 / np.maximum(count, 1))))
        return density

    inside = log_density(found.mean_in, found.squares_in, found.n_in)
    return inside - log_density(found.mean_out, found.squares_out, found.n_out)


def moderated(found: Moments) -> tuple[FloatArray, FloatArray]:
    """Return each row's degrees of freedom and variance after the prior, shape [n] each."""
    return _drawn(found.squares_in + found.squares_out, found.freedom)


def _drawn(squares: FloatArray, freedom: FloatArray) -> tuple[FloatArray, FloatArray]:
    own = freedom > 0
    if not own.any():
        raise StatisticsError(_NO_SPREAD)
    d = freedom[own]
    level = np.log(squares[own] / d + _SMALL) - digamma(d / 2) + np.log(d / 2)
    excess = float(level.var() - polygamma(1, d / 2).mean())
    prior = 2 * _trigamma_inverse(excess) if excess > 0 else 1e6  # rows differ no more than chance has them
    typical = np.exp(level.mean() + digamma(prior / 2) - np.log(prior / 2))
    return prior + freedom, (prior * typical + squares) / (prior + freedom)


def _trigamma_inverse(value: float) -> float:
    """Return where the trigamma function has this value, by Newton's method on its reciprocal (Smyth 2004)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        here = float(polygamma(1, x))
        step = here * (1 - here / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-12 * x:
            break
    return x


def curve_ratio(target: FloatArray, found: Moments) -> FloatArray:
    """Return a likelihood ratio whose gap and variance are curves in the middle between in and out, shape [n].

    A row's own gap and own variance are mostly noise with fewer than 16 references, and a gap of the wrong sign turns
    the ratio round. So the middle alone is the row's own. Works from two references.
    """
    middle = found.middle
    way = found.direction
    gap = way * np.maximum(way * curve(middle, found.gap, strength=_SMOOTH), _LEAST_GAP)
    freedom, square = _spread(found, gap)
    level = np.log(square + _ADDED) - digamma(freedom / 2) + np.log(freedom / 2)
    variance = np.exp(np.maximum(curve(middle, level, strength=_SMOOTH), -20.0))
    variance *= square.mean() / variance.mean()
    scale = np.sqrt(variance * (1 + 1 / (found.n_in + found.n_out)))
    score: FloatArray = t.logpdf(target, _TAILS, middle + gap / 2, scale) - t.logpdf(
        target, _TAILS, middle - gap / 2, scale
    )
    return score


def _spread(found: Moments, gap: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a variance of each row and its degrees of freedom; of one pair, what the curve leaves of the gap."""
    if (found.freedom > 0).mean() > 0.5:
        freedom = np.maximum(found.freedom, 1)
        return freedom, (found.squares_in + found.squares_out) / freedom
    models = 1 / np.maximum(found.n_in, 1) + 1 / np.maximum(found.n_out, 1)
    return np.ones_like(gap), np.square(found.gap - gap) / models
