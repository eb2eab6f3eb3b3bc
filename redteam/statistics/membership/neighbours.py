"""What rows of one label and of like text share of a score, and is therefore not the row's own membership.

Models of one recipe differ by label and by region of the texts: by chance, and because training on a row moves its
neighbours. Kernel ridge regression predicts each row's score from all the others, and what it leaves is the row's own.
It is left one out in closed form (Rasmussen and Williams 2006, section 5.4.2), which chooses the penalty too; nothing
of it looks at membership.

Up to 4,000 rows the kernel is decomposed as it is. Beyond, it is exact within blocks of up to 1,000 rows of one label
and like text, and between blocks its projection on 400 landmark rows (Snelson and Ghahramani, AISTATS 2007): time and
memory are then linear in the rows. What is own to the rows stays the same to 1.5 % of its spread where a block holds a
whole label, and to 12 % where each label is cut into three (SNIPS and CLINC150, 2,400 rows, hashed n-grams).
"""

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.core.progress import Progress, unwatched
from redteam.statistics.membership.blocks import BlockKernel

MOST_EXACT = 4000  # rows
LANDMARKS = 400
BLOCK = 1000  # rows
MOST_COMPARED = 10_000
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_WIDTH = 6.0  # of the kernel: texts with a cosine of 0.5 are alike to exp(-3)
_ALONE = 0.3  # what one label, or like texts of different labels, weigh against both together
_NEAREST, _SHARPNESS = 15, 10.0
_COMPARED = 1024  # rows compared at a time
_JITTER = 1e-8
_SHARES, _PART, _PART_ROWS = 1000, 4, 400  # of a decomposition, as it is told; a part of the rows, and its fewest


class NeighbourKernel:
    """Rows by their texts and labels; decomposed once, however many scores are smoothed over them."""

    def __init__(
        self,
        embeddings: FloatArray,
        labels: IntArray,
        *,
        most_exact: int = MOST_EXACT,
        landmarks: int = LANDMARKS,
        block: int = BLOCK,
        progress: Progress = unwatched,
    ) -> None:
        """Take vectors of length 1, shape [n, d], and labels numbered from 0, shape [n]."""
        self.labels = labels
        self._blocks: BlockKernel | None = None
        if len(labels) > most_exact:

            def between(one: IntArray, other: IntArray) -> FloatArray:
                return similarity(embeddings[one], labels[one], embeddings[other], labels[other])

            known = _spread(embeddings, labels, min(landmarks, len(labels)))
            self._blocks = BlockKernel(between, _cut(embeddings, labels, block), known, PENALTIES, progress)
            return
        kernel = similarity(embeddings, labels, embeddings, labels)
        _show_pace(kernel, progress)
        values, self._vectors = np.linalg.eigh(kernel)
        progress(_SHARES, _SHARES)
        values = np.maximum(values, 0.0)
        self._shrink = np.array([values / (values + penalty) for penalty in PENALTIES]).T
        self._own_share = np.square(self._vectors) @ self._shrink  # of a row in its own prediction, [n, penalties]

    def shared(self, scores: FloatArray) -> FloatArray:
        """Return what all other rows predict of each row's score, shape [n]; where that helps nothing, their mean."""
        return scores - self.own(scores)

    def own(self, scores: FloatArray) -> FloatArray:
        """Return the scores less what is shared, shape [n]."""
        centred = scores - scores.mean()
        left = self._left(centred) if self._blocks is None else self._blocks.left(centred)
        choices = np.column_stack([left, centred])
        best = int(np.square(choices).mean(axis=0).argmin())
        return np.ascontiguousarray(choices[:, best])

    def _left(self, centred: FloatArray) -> FloatArray:
        along = self._vectors.T @ centred
        shared = self._vectors @ (self._shrink * along[:, None])
        left: FloatArray = (centred[:, None] - shared) / (1.0 - self._own_share)
        return left


def _show_pace(kernel: FloatArray, progress: Progress) -> None:
    """Tell how far it is to the decomposition, which is one step whose time grows with the cube of the rows.

    The time of a part of the rows tells that of all. What comes of it is not used.
    """
    rows = len(kernel) // _PART
    if progress is unwatched or rows < _PART_ROWS:
        return
    progress(0, _SHARES)
    np.linalg.eigh(kernel[:rows, :rows])
    progress(round(_SHARES / (_PART**3 + 1)), _SHARES)


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


def agreement(
    embeddings: FloatArray, labels: IntArray, *, most: int = MOST_COMPARED, progress: Progress = unwatched
) -> tuple[FloatArray, ...]:
    """Return four public measures of how well a row's label fits its neighbours', shape [n] each.

    The weighted share of the 15 nearest rows that have its label, the cosine of the nearest row of its label and of the
    nearest of another, and the difference of the two; of many rows among `most`, evenly spread over labels and texts.
    """
    known = np.arange(len(labels)) if len(labels) <= most else _spread(embeddings, labels, most)
    blocks = []
    for start in range(0, len(labels), _COMPARED):
        rows = np.arange(start, min(start + _COMPARED, len(labels)))
        cosines = embeddings[rows] @ embeddings[known].T
        cosines[rows[:, None] == known] = -9.0
        blocks.append(_agreement(cosines, labels[rows][:, None] == labels[known]))
        progress(start + len(rows), len(labels))
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


def _cut(embeddings: FloatArray, labels: IntArray, most: int) -> list[IntArray]:
    """Return blocks of at most `most` rows, each of one label; many rows of a label are cut along where they differ."""
    blocks = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        inside = embeddings[rows] - embeddings[rows].mean(axis=0)
        direction = np.linalg.eigh(inside.T @ inside)[1][:, -1]
        order = rows[np.argsort(inside @ direction, kind="stable")]
        blocks += np.array_split(order, -(-len(rows) // most))
    return blocks
