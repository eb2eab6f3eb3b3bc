"""What rows of one label and of like text share of a score, and is therefore not the row's own membership.

Models of one recipe differ by label and by region of the texts: by chance, and because training on a row moves its
neighbours. Kernel ridge regression predicts each row's score from all the others, and what it leaves is the row's own.
It is left one out in closed form (Rasmussen and Williams 2006, section 5.4.2), which chooses the penalty too; nothing
of it looks at membership.

Up to 4,000 rows the kernel is decomposed as it is. Beyond, it is replaced by its projection on 1,500 landmark rows
(Williams and Seeger, NIPS 2000), what that leaves on the diagonal spread evenly: time and memory are then linear in the
rows. What is own to the rows then correlates with what it was to 0.97 or more (0.978 for 5,000 sentences of 150 labels
as hashed n-grams, in 1.7 s and not 30).
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from redteam.core.arrays import BoolArray, FloatArray, IntArray

MOST_EXACT = 4000  # rows
LANDMARKS = 1500
MOST_COMPARED = 10_000
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_WIDTH = 6.0  # of the kernel: texts with a cosine of 0.5 are alike to exp(-3)
_ALONE = 0.3  # what one label, or like texts of different labels, weigh against both together
_NEAREST, _SHARPNESS = 15, 10.0
_BLOCK = 1024  # rows compared at a time
_JITTER = 1e-8


class NeighbourKernel:
    """Rows by their texts and labels; decomposed once, however many scores are smoothed over them."""

    def __init__(
        self,
        embeddings: FloatArray,
        labels: IntArray,
        *,
        most_exact: int = MOST_EXACT,
        landmarks: int = LANDMARKS,
    ) -> None:
        """Take vectors of length 1, shape [n, d], and labels numbered from 0, shape [n]."""
        self.labels = labels
        exact = len(labels) <= most_exact
        known = np.arange(len(labels)) if exact else _spread(embeddings, labels, landmarks)
        kernel = similarity(embeddings, labels, embeddings[known], labels[known])
        values, self._vectors, rest = _eigen(kernel) if exact else _projected(kernel, known)
        self._shrink = np.array([values / (values + rest + penalty) for penalty in PENALTIES]).T
        self._own_share = np.square(self._vectors) @ self._shrink  # of a row in its own prediction, [n, penalties]

    def shared(self, scores: FloatArray) -> FloatArray:
        """Return what all other rows predict of each row's score, shape [n]; where that helps nothing, their mean."""
        return scores - self.own(scores)

    def own(self, scores: FloatArray) -> FloatArray:
        """Return the scores less what is shared, shape [n]."""
        centred = scores - scores.mean()
        along = self._vectors.T @ centred
        left = (centred[:, None] - self._vectors @ (self._shrink * along[:, None])) / (1.0 - self._own_share)
        choices = np.column_stack([left, centred])
        best = int(np.square(choices).mean(axis=0).argmin())
        return np.ascontiguousarray(choices[:, best])


def similarity(one: FloatArray, labels: IntArray, other: FloatArray, other_labels: IntArray) -> FloatArray:
    """Return the kernel between rows, shape [n, m]: of one label, of like text, and of both."""
    near = np.exp(_WIDTH * (one @ other.T - 1.0))
    same = labels[:, None] == other_labels
    kernel: FloatArray = _ALONE * (near + same) + near * same
    return kernel


def label_means(scores: FloatArray, labels: IntArray, *, strength: float = 2.0) -> FloatArray:
    """Return the mean score of the other rows of each row's label, drawn to the mean of all, shape [n]."""
    total, count = np.bincount(labels, scores), np.bincount(labels)
    mean: FloatArray = (total[labels] - scores + strength * scores.mean()) / (count[labels] - 1 + strength)
    return mean


def agreement(embeddings: FloatArray, labels: IntArray, *, most: int = MOST_COMPARED) -> tuple[FloatArray, ...]:
    """Return four public measures of how well a row's label fits its neighbours', shape [n] each.

    The weighted share of the 15 nearest rows that have its label, the cosine of the nearest row of its label and of the
    nearest of another, and the difference of the two; of many rows among `most`, evenly spread over labels and texts.
    """
    known = np.arange(len(labels)) if len(labels) <= most else _spread(embeddings, labels, most)
    blocks = []
    for start in range(0, len(labels), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(labels)))
        cosines = embeddings[rows] @ embeddings[known].T
        cosines[rows[:, None] == known] = -9.0
        blocks.append(_agreement(cosines, labels[rows][:, None] == labels[known]))
    return tuple(np.concatenate(part) for part in zip(*blocks, strict=True))


def _agreement(cosines: FloatArray, same: BoolArray) -> tuple[FloatArray, ...]:
    nearest = np.argpartition(-cosines, min(_NEAREST, cosines.shape[1]) - 1, axis=1)[:, :_NEAREST]
    weights = np.exp(_SHARPNESS * (np.take_along_axis(cosines, nearest, 1) - 1.0))
    share = (weights * np.take_along_axis(same, nearest, 1)).sum(1) / np.maximum(weights.sum(1), _JITTER)
    own, other = np.where(same, cosines, -9.0).max(1), np.where(same, -9.0, cosines).max(1)
    own, other = np.where(own < -2.0, other, own), np.where(other < -2.0, own, other)  # the only row, or the only label
    return share, own, other, own - other


def _spread(embeddings: FloatArray, labels: IntArray, count: int) -> IntArray:
    """Return `count` rows, evenly spaced along a fixed direction within each label: the same in any order of rows."""
    direction = np.random.default_rng(0).standard_normal(embeddings.shape[1])
    order = np.lexsort((embeddings @ direction, labels))
    return order[np.linspace(0, len(order) - 1, count).round().astype(np.int64)]


def _eigen(kernel: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    values, vectors = np.linalg.eigh(kernel)
    return np.maximum(values, 0.0), vectors, 0.0


def _projected(kernel: FloatArray, known: IntArray) -> tuple[FloatArray, FloatArray, float]:
    """Return eigenvalues and vectors of the projection of the kernel, and what it leaves of a row's own similarity."""
    among = kernel[known] + _JITTER * np.eye(len(known))
    features = solve_triangular(cholesky(among, lower=True), kernel.T, lower=True, overwrite_b=True).T
    rest = 1.0 + 2 * _ALONE - np.einsum("ij,ij->i", features, features).mean()
    values, turned = np.linalg.eigh(features.T @ features)
    kept = values > _JITTER * values[-1]
    return values[kept], features @ (turned[:, kept] / np.sqrt(values[kept])), max(float(rest), 0.0)
