"""Which rows each reference model is trained on: complementary halves, drawn without regard to who is a member.

Rows are drawn in an order of their own, by text and label, so that the same rows give the same halves however they
come, and so do the first models of a longer plan. A pair of complementary halves says more than two independent ones:
what a row's neighbours do to one model of a pair, they do to the other with the opposite sign.
"""

from dataclasses import dataclass

import numpy as np

from redteam.core import DataError, UsageError
from redteam.core.arrays import BoolArray, IntArray
from redteam.data import Examples
from redteam.data.units import number_users
from redteam.report import plural

FEWEST_ROWS = 20  # of an audit with references: a model of fewer than ten says nothing of the other ten
MOST_MODELS = 1024
_PURPOSE = 0x5EF  # sets these draws apart from others with the same seed


@dataclass(frozen=True)
class ReferencePlan:
    """Rows in an order of their own, and which of them each model is trained on.

    `rows` are those of the pool, sorted; `order[i]` is where row i of them stands in the pool. `included`, shape
    [k, n], is in that order too. `partner` is as in `ReferenceScores`. `unit` is what was drawn as a whole.
    """

    rows: Examples
    order: IntArray
    included: BoolArray
    partner: tuple[int, ...]
    unit: str = "row"

    def __len__(self) -> int:
        """How many models."""
        return len(self.included)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Return values of shape [k, ..., n], one column a row of the plan, in the order of the pool."""
        placed = np.empty_like(values)
        placed[..., self.order] = values
        return placed


def draw_plan(pool: Examples, models: int, *, seed: int) -> ReferencePlan:
    """Draw the halves of so many models, each row (or user, where the pool says whose rows they are) in one of a pair.

    Each label stands in both halves. Raises UsageError for a number of models that cannot be, DataError for rows
    without texts or labels, too few of them, or a label of which there is only one.
    """
    if not 1 <= models <= MOST_MODELS:
        raise UsageError(f"--references {models}: must lie between 1 and {MOST_MODELS:,}")
    if pool.texts is None or pool.labels is None:
        raise DataError("reference models need the texts and the labels of the audited rows: there are none")
    if len(pool) < FEWEST_ROWS:
        raise DataError(f"{plural(len(pool), 'audited row')}: reference models need at least {FEWEST_ROWS}")
    order = canonical_order(pool)
    rows = pool.take(order)
    owners = _owners(rows)
    labels = np.unique(np.asarray(rows.labels, dtype=object), return_inverse=True)[1]
    included = np.empty((models, len(rows)), np.bool_)
    for pair in range(-(-models // 2)):
        half = _half(owners, labels, np.random.default_rng([seed, pair, _PURPOSE]))
        included[2 * pair] = half
        if 2 * pair + 1 < models:
            included[2 * pair + 1] = ~half
    partner = tuple(-1 if (other := i ^ 1) >= models else other for i in range(models))
    return ReferencePlan(rows, order, included, partner, "user" if owners.max() + 1 < len(rows) else "row")


def canonical_order(pool: Examples) -> IntArray:
    """Return the positions of the rows sorted by text, label and user: nothing that tells of a side."""
    columns = [column for column in (pool.texts, pool.labels, pool.users) if column is not None]
    keys = list(zip(*columns, strict=True))
    return np.array(sorted(range(len(pool)), key=keys.__getitem__), dtype=np.int64)


def _owners(rows: Examples) -> IntArray:
    """Return a number for each row's user; for the row itself where nobody knows whose they are."""
    if rows.users is None or "" in rows.users:
        return np.arange(len(rows))
    return number_users(rows.users)


def _half(owners: IntArray, labels: IntArray, rng: np.random.Generator) -> BoolArray:
    """Draw half of the owners, [n] rows; then exchange owners until each label stands on both sides.

    Halves are not drawn label by label: the mean of a label's other rows would then tell the side of each.
    """
    units = int(owners.max()) + 1
    if units < 2:
        raise DataError("all audited rows are of one user: reference models need two halves of users")
    inside = np.zeros(units, np.bool_)
    inside[rng.permutation(units)[: units // 2]] = True
    if rng.integers(2):
        inside = ~inside
    has = np.zeros((units, int(labels.max()) + 1), np.bool_)
    has[owners, labels] = True
    alone = int((has.sum(axis=0) < 2).sum())
    if alone:
        of = "one row" if units == len(owners) else "rows of one user"
        raise DataError(
            f"{plural(alone, 'label')} of {has.shape[1]:,} with {of} only: half of the reference models would never "
            "see it; leave such rows out, or audit without references"
        )
    return _spread(inside, has, rng)[owners]


def _spread(inside: BoolArray, has: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Move owners of labels that stand on one side to the other, and one that can be spared back."""
    for label in np.argsort(has.sum(axis=0), kind="stable"):
        for side in (True, False):
            there = inside == side
            if (has[:, label] & there).any():
                continue
            mover = int(rng.choice(np.flatnonzero(has[:, label])))
            inside[mover] = side
            there[mover] = True
            counts = has[there].sum(axis=0)
            spare = there & ~(has & (counts < 2)).any(axis=1) & ~has[:, label]
            if spare.any():
                inside[int(rng.choice(np.flatnonzero(spare)))] = not side
    missing = [label for label in range(has.shape[1]) if len(set(inside[has[:, label]])) < 2]
    if missing:
        raise DataError(
            f"{plural(len(missing), 'label')} of {has.shape[1]:,} cannot be on both sides of a half: too few users "
            "have it; leave such rows out, or audit without references"
        )
    return inside
