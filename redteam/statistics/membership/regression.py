"""Small regressions in closed form: what columns explain of a number per row, and of a yes or no."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from redteam.core.arrays import BoolArray, FloatArray

KNOTS = 4
_TINY = 1e-9


def hinges(values: FloatArray, knots: int = KNOTS) -> FloatArray:
    """Return the columns of a piecewise linear curve, shape [n, knots + 1]: standardised values, one hinge a knot.

    The knots are at equal shares of the values.
    """
    standard = (values - values.mean()) / (values.std() + _TINY)
    at = np.quantile(standard, np.arange(1, knots + 1) / (knots + 1))
    return np.column_stack([standard, np.maximum(standard[:, None] - at, 0.0)])


def curve(x: FloatArray, y: FloatArray, *, strength: float) -> FloatArray:
    """Return a ridge regression of `y` on the hinges of `x`, at `x`, shape [n]."""
    design, weights, _ = _ridge([hinges(x)], y, strength)
    fitted: FloatArray = design @ weights
    return fitted


def unexplained(values: FloatArray, known: Sequence[FloatArray], *, strength: float = 1.0) -> FloatArray:
    """Return what curves in each of `known` leave of `values`, each row predicted from all the others, shape [n].

    `known` holds arrays of shape [n]. A ridge regression left one out in closed form: the residual over 1 less the
    row's leverage.
    """
    design, weights, inverse = _ridge([hinges(column) for column in known], values, strength)
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design, optimize=True)
    left: FloatArray = (values - design @ weights) / np.maximum(1.0 - leverage, _TINY)
    return left


def _ridge(parts: Sequence[FloatArray], y: FloatArray, strength: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return design, weights and the inverse of the penalised moments; the constant is first and not shrunk."""
    design = np.column_stack([np.ones(len(y)), *parts])
    penalty = np.full(design.shape[1], strength)
    penalty[0] = 0.0
    inverse = np.linalg.inv(design.T @ design + np.diag(penalty))
    return design, inverse @ (design.T @ y), inverse


def logistic_weights(columns: FloatArray, is_one: BoolArray, *, strength: float = 10.0) -> FloatArray:
    """Return the weights of a ridge logistic regression by Newton's method, shape [columns + 1], the constant first."""
    x = np.column_stack([np.ones(len(columns)), columns])
    penalty = np.full(x.shape[1], strength)
    penalty[0] = _TINY
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = expit(x @ weights)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, x.T @ (is_one - p) - penalty * weights)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return weights
