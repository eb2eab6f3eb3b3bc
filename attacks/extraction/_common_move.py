"""What an optimiser does to the embedding of a token that no text holds: a move common to all such rows.

Without weight decay such a row stays. SGD and AdamW shrink it by one factor. Where the decay is part of the gradient
and an optimiser divides by what gradients were (`torch.optim.Adam(weight_decay=...)`, Adagrad, RMSprop), each entry
moves by a function of its own value alone, and further than the entries of rows that are trained. A decoder that
shares the table moves all rows along one vector besides.

Which rows were untouched is not known beforehand. Where entries have about the same base value, those of untouched
rows have moved alike and all others have scattered: the densest twentieth of the moves gives a first guess of the
function, and then it is fitted to the rows that it explains best. So at least a twentieth of the rows must be
untouched for this to be right.
"""

from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import FloatArray, IntArray

_SHARE = 0.05  # of the rows are untouched, at the least
_FEWEST = 8  # rows that a fit needs
_NEAR = 3.0  # rows so many times as far off as those that fit best are still taken for untouched
_ROUNDS = 6  # of fitting and choosing rows; the first two take the best rows alone
_KNOTS = 256  # of the function, at the most
_ENTRIES = 1 << 20  # of the table, a sample of whose rows is fitted
_FLOOR = 0.1  # of the median spread: no value is predicted much better than others


@dataclass(frozen=True)
class CommonMove:
    """A function of the base value, by its `values` at `knots`, with the `spread` of moves there; and a `shift`.

    `shift` is the same for all rows, [width].
    """

    knots: FloatArray
    values: FloatArray
    spread: FloatArray
    shift: FloatArray

    def residual(self, after: FloatArray, before: FloatArray) -> FloatArray:
        """Return what the move leaves unexplained of each entry, [rows, width]."""
        rest: FloatArray = after - before - self.shift - _line(before, self.knots, self.values)
        return rest

    def left(self, after: FloatArray, before: FloatArray) -> FloatArray:
        """Return the norm of what the move leaves unexplained of each row, [rows]."""
        return _lengths(self.residual(after, before))

    def scores(self, after: FloatArray, before: FloatArray) -> FloatArray:
        """Return how far each row is from the common move, in spreads: root mean square, [rows]."""
        far = _lengths(self.residual(after, before) / np.interp(before, self.knots, self.spread))
        mean: FloatArray = far / np.sqrt(before.shape[1])
        return mean


def untouched(rows: int) -> int:
    """Return how many of so many rows are taken to be untouched at the least."""
    return min(rows, max(_FEWEST, int(_SHARE * rows)))


def fit_common_moves(after: FloatArray, before: FloatArray) -> list[CommonMove]:
    """Return what may be the common move of two tables, [rows, width]: without a shift at first, and with one."""
    most = max(_FEWEST, _ENTRIES // before.shape[1])
    if len(before) > most:
        rows = np.random.default_rng(204).choice(len(before), most, replace=False)
        after, before = after[rows], before[rows]
    delta = after - before
    return [_fit(after, before, shift) for shift in (np.zeros(before.shape[1]), _densest_columns(delta))]


def _fit(after: FloatArray, before: FloatArray, shift: FloatArray) -> CommonMove:
    move = _guess(before.ravel(), (after - before - shift).ravel(), shift)
    scores = move.left(after, before)
    for turn in range(_ROUNDS):
        near = np.sort(scores)[untouched(len(scores)) - 1] * (1.0 if turn < 2 else _NEAR)
        kept = np.nonzero(scores <= near)[0]
        if turn >= 2:
            shift = shift + np.median(move.residual(after[kept], before[kept]), axis=0)
        move = _refit(before[kept], after[kept] - before[kept], shift)
        scores = move.scores(after, before)
    return move


def _guess(values: FloatArray, moves: FloatArray, shift: FloatArray) -> CommonMove:
    """Take the densest moves of entries with about the same value."""
    parts = [part[_densest(moves[part])] for part in _parts(values, len(values) // 100)]
    return _through(parts, values, moves, shift)


def _refit(before: FloatArray, delta: FloatArray, shift: FloatArray) -> CommonMove:
    """Take the median moves of entries with about the same value."""
    values, moves = before.ravel(), (delta - shift).ravel()
    return _through(_parts(values, len(values) // 32), values, moves, shift)


def _through(parts: list[IntArray], values: FloatArray, moves: FloatArray, shift: FloatArray) -> CommonMove:
    knots = np.array([np.median(values[part]) for part in parts])
    heights = np.array([np.median(moves[part]) for part in parts])
    off = [np.median(np.abs(moves[part] - _line(values[part], knots, heights))) for part in parts]
    least = max(_FLOOR * float(np.median(off)), float(np.finfo(np.float32).eps) * float(np.abs(values).max()), 1e-30)
    return CommonMove(knots, heights, np.maximum(off, least), shift)


def _parts(values: FloatArray, count: int) -> list[IntArray]:
    """Return the entries in the order of their values, in so many equal parts, but never too few or too many."""
    return np.array_split(np.argsort(values, kind="stable"), min(max(count, 3), _KNOTS, len(values)))


def _densest(moves: FloatArray) -> IntArray:
    """Return the positions of the narrowest run of moves that holds a twentieth of them."""
    order = np.argsort(moves, kind="stable")
    wide = min(max(4, int(_SHARE * len(moves))), len(moves) - 1)
    widths = moves[order[wide:]] - moves[order[: len(moves) - wide]]
    first = int(widths.argmin())
    return order[first : first + wide + 1]


def _densest_columns(delta: FloatArray) -> FloatArray:
    """Return the densest move of each column, [width]."""
    return np.array([np.median(column[_densest(column)]) for column in delta.T])


def _line(at: FloatArray, knots: FloatArray, values: FloatArray) -> FloatArray:
    """Return the broken line through the knots, carried on straight beyond the first and the last of them."""
    found: FloatArray = np.interp(at, knots, values)
    for outside, end, inner in ((at < knots[0], 0, 1), (at > knots[-1], -1, -2)):
        if len(knots) > 1 and knots[end] != knots[inner] and outside.any():
            slope = (values[end] - values[inner]) / (knots[end] - knots[inner])
            found[outside] = values[end] + slope * (at[outside] - knots[end])
    return found


def _lengths(rows: FloatArray) -> FloatArray:
    lengths: FloatArray = np.sqrt(np.einsum("vd,vd->v", rows, rows))
    return lengths
