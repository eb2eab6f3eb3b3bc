"""Where a leak sits: by label, by group, and in which rows."""

import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from redteam.core import StatisticsError
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.core.progress import Progress, unwatched
from redteam.data import Examples, Split
from redteam.data.grouping import Grouping
from redteam.data.units import number_users
from redteam.report.values import Accuracy, ClassLeak, ExposedRow, UserAccuracy, Users
from redteam.statistics import Interval, wealth
from redteam.statistics.area import area, area_interval
from redteam.statistics.ranking import rank
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of

_FEWEST = 10  # of either side; below it an interval says nothing
_ROWS = 10


def by_group(
    groups: Sequence[str] | None, scores: FloatArray, units: Grouping, *, alpha: float, progress: Progress = unwatched
) -> tuple[ClassLeak, ...]:
    """Return the AUC within each label or other group of rows, the surest leak first, together at level `alpha`.

    `groups` and `scores` are [n]. A user counts in each group that she has rows in, by those rows. Groups with fewer
    than 10 members or non-members, or with one score for all, have no interval. `progress` hears of groups done.
    """
    if groups is None:
        return ()
    names, own = np.unique(np.array(groups, dtype=object), return_inverse=True)
    order, starts = np.argsort(own, kind="stable"), np.cumsum(np.bincount(own))[:-1]
    rows = np.split(order, starts)
    parts = [units.within(r) for r in rows]
    sides = [(int(part.is_member.sum()), int((~part.is_member).sum())) for part in parts]
    judged = sum(min(side) >= _FEWEST for side in sides)
    leaks = []
    for name, r, part, (members, nonmembers) in zip(names, rows, parts, sides, strict=True):
        interval = None
        if min(members, nonmembers) >= _FEWEST:
            interval = _interval(part.score(scores[r]), part.is_member, alpha / judged)
        leaks.append(ClassLeak(str(name), members, nonmembers, interval))
        progress(len(leaks), len(names))
    return tuple(sorted(leaks, key=lambda leak: (-(leak.auc.low if leak.auc else -1.0), leak.label)))


def _interval(scores: FloatArray, is_member: BoolArray, alpha: float) -> Interval | None:
    try:
        return area_interval(rank(scores, is_member), alpha=alpha)
    except StatisticsError:
        return None


def measure_accuracy(target: Target, pool: Examples, is_member: BoolArray) -> Accuracy | None:
    """Return how often the target is right on either side; None without predictions or labels."""
    if pool.labels is None or Access.LABELS not in target.access:
        return None
    own = label_indices(labels_of(target), pool, name=target.name)
    right = classifier(target).predict(pool) == own
    members = pool.take(np.nonzero(is_member)[0].tolist())
    return Accuracy(
        members=float(right[is_member].mean()),
        nonmembers=float(right[~is_member].mean()),
        commonest=float(np.bincount(own[is_member]).max() / is_member.sum()),
        by_user=accuracy_by_user(right[is_member], own[is_member], members.users),
    )


def accuracy_by_user(right: BoolArray, own: IntArray, users: Sequence[str] | None) -> UserAccuracy | None:
    """Return how often an average user's rows are right; None where no user is named, or none has several rows.

    `right` [n] tells which rows are, `own` [n] are their labels as numbers, `users` [n] whose they are.
    """
    if users is None:
        return None
    owners = number_users(users)
    rows = np.bincount(owners)
    if rows.max() == 1:
        return None
    shares = np.bincount(owners, weights=right) / rows
    commonest = float(np.bincount(own, weights=1 / rows[owners]).max() / len(rows))
    evidence = wealth(np.minimum(shares, 1.0).tolist(), commonest)
    return UserAccuracy(len(rows), float(shares.mean()), commonest, evidence)


def most_exposed(scores: FloatArray, is_member: BoolArray) -> tuple[tuple[int, None], ...]:
    """Return the members, rows of the pool, of whom an attacker with these `scores` [n] would be surest."""
    members = np.nonzero(is_member)[0]
    most = members[np.argsort(-scores[members], kind="stable")[:_ROWS]]
    return tuple((int(row), None) for row in most)


def exposed_row(pool: Examples, i: int, risk: Interval | None, salt: str | None, show_text: bool) -> ExposedRow:
    """Return row `i` of the pool by its id and the keyed hash of its text, with its risk."""
    text = pool.texts[i] if pool.texts is not None else None
    return ExposedRow(
        id=pool.name(i),
        label=pool.labels[i] if pool.labels is not None else None,
        hash=None if text is None or salt is None else keyed_hash(salt, text),
        text=text if show_text else None,
        risk=risk,
    )


def users_and_rows(split: Split, scores: FloatArray, is_member: BoolArray) -> Users | None:
    """Return how the users stand and, where they are the unit, what their rows would show if they were draws."""
    if split.users is None or split.unit == "example":
        return split.users
    with contextlib.suppress(StatisticsError):
        return replace(split.users, rows_auc=area(rank(scores, is_member)))
    return split.users


def keyed_hash(salt: str, text: str) -> str:
    """Return 16 hexadecimal digits that only the holder of the ledger's salt can match to a text."""
    return hmac.new(bytes.fromhex(salt), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]
