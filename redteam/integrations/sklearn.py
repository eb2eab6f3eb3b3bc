"""Audit a pipeline of scikit-learn that classifies texts, with reference models that are clones of it.

report = audit_pipeline(make_pipeline(TfidfVectorizer(), LogisticRegression(C=1000)), texts, labels)
assert_no_leak(report)
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from redteam.auditing.run import audit
from redteam.core import DataError, UsageError
from redteam.core.arrays import IntArray
from redteam.data import Examples, Split, text_key
from redteam.data.cells import shown
from redteam.data.vocabulary import name_of
from redteam.integrations.judged import policy_of, settings_for
from redteam.plugins.attack import Attack
from redteam.policy import Policy
from redteam.references.given import OpenedReferences
from redteam.references.plan import draw_plan
from redteam.report import plural
from redteam.report.values import AuditReport
from redteam.targets.function import FunctionTarget
from redteam.training.train import RandomInclusion, draw_sides

__all__ = ["audit_pipeline"]

Halves = tuple[IntArray, IntArray]


def audit_pipeline(
    pipeline: Any,
    X: Iterable[str],
    y: Iterable[Any],
    cv: Any = 9,
    *,
    seed: int = 0,
    policy: Policy | Path | str | None = None,
    attacks: Sequence[Attack] | None = None,
) -> AuditReport:
    """Fit a clone of `pipeline` on a part of the texts `X` with the labels `y`, and audit it; nothing is decided here.

    `cv` is how many clones are fitted: the first is audited, on a random half, the others are reference models, on
    halves of their own. Or it is a splitter of scikit-learn, or pairs of indices of train and test rows, of which the
    first is audited; since nobody knows that these were drawn text by text, the evidence is of grade B. `seed` draws
    the halves, `policy` says what is measured, by default redteam.toml here; `attacks` are all that suit.
    Raises DataError for rows that are no texts, and for a label that one side lacks, UsageError for an impossible `cv`.
    """
    rows, chosen = _rows(X, y), policy_of(policy)
    split, halves = _drawn(rows, cv, seed) if isinstance(cv, int) else _given(rows, cv)
    target = _fitted(pipeline, split.members)
    _check_labels(target, rows)
    references = None
    if halves and _has_probabilities(pipeline):
        models = tuple(_fitted(pipeline, half) for half in halves)
        texts = tuple(frozenset(map(text_key, half.texts or ())) for half in halves)
        references = OpenedReferences(models, texts)
    return audit(target, split, attacks, settings=settings_for(chosen, seed), references=references)


def _rows(X: Iterable[str], y: Iterable[Any]) -> Examples:
    texts, labels = list(X), [name_of(str(label)) for label in y]
    if len(texts) != len(labels):
        raise DataError(f"X has {plural(len(texts), 'row')} and y {plural(len(labels), 'label')}")
    wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise DataError(f"X: row {wrong + 1} is a {type(texts[wrong]).__name__}: wanted one text for each row")
    return Examples(np.arange(len(texts)), tuple(str(text) for text in texts), tuple(labels))


def _drawn(rows: Examples, models: int, seed: int) -> tuple[Split, list[Examples]]:
    """Draw the rows that are trained on text by text, and complementary halves for the references."""
    if models < 1:
        raise UsageError(f"cv={models}: must be 1 or more models, of which the first is audited")
    key = hashlib.sha256(b"".join(text_key(text) for text in rows.texts or ())).hexdigest()
    _, sides = draw_sides("X", rows, RandomInclusion(seed=seed, key=key), key)
    members, nonmembers = (rows.of_rows(sides[side]) for side in ("members", "nonmembers"))
    split = Split.of(members, nonmembers, randomised=True, inclusion=0.5, redrawn=True)
    if models == 1:
        return split, []
    plan = draw_plan(rows, models - 1, seed=seed)
    return split, [plan.rows.take(np.flatnonzero(half)) for half in plan.included]


def _given(rows: Examples, cv: Any) -> tuple[Split, list[Examples]]:
    """Take the splits of a splitter, or pairs of indices."""
    pairs = list(_pairs(rows, cv))
    if not pairs:
        raise UsageError("cv: holds no split into train and test rows")
    first, *others = pairs
    return Split.of(rows.take(first[0]), rows.take(first[1])), [rows.take(train) for train, _ in others]


def _pairs(rows: Examples, cv: Any) -> Iterator[Halves]:
    found = cv.split(list(rows.texts or ()), list(rows.labels or ())) if hasattr(cv, "split") else cv
    try:
        for train, test in found:
            yield np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"cv: wanted a number of models, a splitter, or pairs of indices ({error})") from None


def _fitted(pipeline: Any, rows: Examples) -> FunctionTarget:
    """Fit a clone and make a target of it: of its probabilities, or of its labels where it has none."""
    made = clone(pipeline).fit(list(rows.texts or ()), list(rows.labels or ()))
    steps = getattr(made, "steps", None) or [("", made)]
    name = "+".join(type(step).__name__ for _, step in steps)
    ask = (
        made.predict_proba if _has_probabilities(made) else lambda texts: [str(label) for label in made.predict(texts)]
    )
    return FunctionTarget(ask, labels=[str(label) for label in made.classes_], name=name, batch_size=4096)


def _has_probabilities(pipeline: Any) -> bool:
    return hasattr(pipeline, "predict_proba")


def _check_labels(target: FunctionTarget, rows: Examples) -> None:
    lacking = sorted(set(rows.labels or ()) - set(target.labels))
    if lacking:
        raise DataError(f"no row of the label {shown(lacking[0])} was trained on: leave out labels with so few rows")
