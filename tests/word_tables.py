"""Small vocabularies with vectors, and channels computed a second, slower way."""

import numpy as np

from redteam.models.word_vectors import WordVectors


def line(*points):
    """Words at points on a line."""
    return WordVectors("line", tuple(f"w{i}" for i in range(len(points))), np.array(points, float)[:, None])


def cloud(count, dimensions, *, seed):
    """Words at random points."""
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions))
    return WordVectors("cloud", tuple(f"w{i}" for i in range(count)), vectors)


def on_a_line_in(dimensions, *points):
    """Words at points on a line in a space of more dimensions, in a direction that is no axis."""
    direction = np.ones(dimensions) / np.sqrt(dimensions)
    return WordVectors("line", tuple(f"w{i}" for i in range(len(points))), np.outer(points, direction))


def nearest_on_a_line(points, dimensions, epsilon, *, steps=4000):
    """The channel to the nearest word, where noise has density exp(-epsilon |z|): by the part of it along the line.

    Of a length r, the part along one direction is r times a number whose square has a beta distribution.
    """
    from scipy.special import betainc, gammaincinv

    points = np.asarray(points, float)
    order = np.argsort(points)
    edges = np.concatenate([[-np.inf], (points[order][1:] + points[order][:-1]) / 2, [np.inf]])
    lengths = gammaincinv(dimensions, (np.arange(steps) + 0.5) / steps) / epsilon

    def below(x):
        if np.isinf(x):
            return float(x > 0)
        share = np.clip((x / lengths) ** 2, 0, 1)
        inside = betainc(0.5, (dimensions - 1) / 2, share)
        return float((0.5 + np.sign(x) * inside / 2).mean())

    rows = np.array([np.diff([below(edge - point) for edge in edges]) for point in points])
    channel = np.empty_like(rows)
    channel[:, order] = rows
    return channel


def accounted(log_channel, distances):
    """The largest |ln P(y|w) - ln P(y|w')| / d(w, w'), and the largest without the division, by loops."""
    most = plain = 0.0
    for i in range(len(log_channel)):
        for j in range(len(log_channel)):
            if i != j:
                apart = np.abs(log_channel[i] - log_channel[j]).max()
                most, plain = max(most, apart / distances[i, j]), max(plain, apart)
    return most, plain


def chi_square(counts, probabilities, *, fewest=5.0):
    """The p-value of counts under probabilities, cells of few expected counts taken together."""
    from scipy.stats import chi2

    expected = probabilities * counts.sum()
    few = expected < fewest
    observed, wanted = counts[~few].tolist(), expected[~few].tolist()
    if expected[few].sum() >= fewest:
        observed.append(counts[few].sum())
        wanted.append(expected[few].sum())
    observed, wanted = np.array(observed), np.array(wanted)
    return float(chi2.sf(((observed - wanted) ** 2 / wanted).sum(), max(1, len(wanted) - 1)))
