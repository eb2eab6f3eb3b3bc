"""Ridge regression left one out on a kernel that is exact within blocks of rows and low-rank between them."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from redteam.core.arrays import FloatArray, IntArray
from redteam.core.progress import Progress, unwatched

Between = Callable[[IntArray, IntArray], FloatArray]  # the kernel between rows of two numbers, shape [n, m]
_JITTER = 1e-6


class BlockKernel:
    """Partially independent conditionals (Snelson and Ghahramani, AISTATS 2007): linear in the rows.

    Between blocks the kernel is its projection on landmark rows; within a block it is itself. The inverse for each
    penalty is that of the blocks less a low-rank part (Woodbury).
    """

    def __init__(
        self,
        between: Between,
        blocks: Sequence[IntArray],
        landmarks: IntArray,
        penalties: Sequence[float],
        progress: Progress = unwatched,
    ) -> None:
        """Take which rows are a block, all rows once, and which are landmarks."""
        steps = len(blocks) + len(penalties)
        progress(0, steps)
        every = np.arange(sum(map(len, blocks)))
        among = between(landmarks, landmarks) + _JITTER * np.eye(len(landmarks))
        shared = solve_triangular(
            cholesky(among, lower=True), between(every, landmarks).T, lower=True, overwrite_b=True
        ).T
        self._blocks, self._penalties = blocks, penalties
        self._parts = []  # eigenvalues and vectors of what is left within each block, and what is shared along them
        for rows in blocks:
            values, vectors = np.linalg.eigh(between(rows, rows) - shared[rows] @ shared[rows].T)
            self._parts.append((np.maximum(values, 0.0), vectors, vectors.T @ shared[rows]))
            progress(len(self._parts), steps)
        inverses = []
        for penalty in penalties:
            inverses.append(self._inverse(penalty))
            progress(len(blocks) + len(inverses), steps)
        self._low_rank, self._diagonal = zip(*inverses, strict=True)

    def _inverse(self, penalty: float) -> tuple[FloatArray, FloatArray]:
        """Return W and the diagonal of the inverse, which is that of the blocks less W W'."""
        rank = self._parts[0][2].shape[1]
        inner, rows = np.eye(rank), sum(map(len, self._blocks))
        solved, diagonal = np.empty((rows, rank)), np.empty(rows)
        for block, (values, vectors, along) in zip(self._blocks, self._parts, strict=True):
            scaled = along / (values + penalty)[:, None]
            inner += along.T @ scaled
            solved[block] = vectors @ scaled
            diagonal[block] = np.square(vectors) @ (1.0 / (values + penalty))
        low_rank: FloatArray = solve_triangular(cholesky(inner, lower=True), solved.T, lower=True, overwrite_b=True).T
        return low_rank, diagonal - np.square(low_rank).sum(axis=1)

    def left(self, scores: FloatArray) -> FloatArray:
        """Return for each penalty what all other rows do not predict of each row's score, shape [n, penalties]."""
        along = [vectors.T @ scores[block] for block, (_, vectors, _) in zip(self._blocks, self._parts, strict=True)]
        found = np.empty((len(scores), len(self._penalties)))
        for column, penalty in enumerate(self._penalties):
            weights = np.empty(len(scores))
            for block, (values, vectors, _), part in zip(self._blocks, self._parts, along, strict=True):
                weights[block] = vectors @ (part / (values + penalty))
            weights -= self._low_rank[column] @ (self._low_rank[column].T @ scores)
            found[:, column] = weights / self._diagonal[column]
        return found
