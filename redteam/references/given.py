"""Reference models that were trained elsewhere: what they say in a file, or the models and what each was trained on."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from redteam.core import DataError, TargetError, UsageError
from redteam.core.arrays import BoolArray, FloatArray, IntArray
from redteam.data import Columns, Examples, read_examples, text_key
from redteam.data.column import Column
from redteam.data.reading import GUESSES
from redteam.data.table import open_table
from redteam.data.vocabulary import MEMBER, UNKNOWN
from redteam.plugins.reference_scores import ReferenceScores
from redteam.references.plan import canonical_order
from redteam.references.training import answers_of, gradients_of
from redteam.report import plural
from redteam.targets.target import SURE, Access, Target, classifier

_FEWEST = 2  # rows of the audit on either side of a model's training
_MOST = 4 * 2**30  # bytes of an .npz, unpacked: log-odds of 100 models for five million rows
_ARRAYS = ("log_odds", "included")
_COMPARED = 0.25  # of the rows: half of two models' halves, and more of others, where they are drawn independently


@dataclass(frozen=True)
class SavedReferences:
    """A file of log-odds: rows x models, with flags that say which rows a model was trained on.

    An .npz holds `log_odds` and `included`, both [rows, models], `ids` or `texts`, [rows], and perhaps `correct`. A
    table has a column of ids or texts, and for each model NAME the columns log_odds:NAME and included:NAME. Rows are
    found by their id where the file and the audit have one, else by their text; others of the file are passed over.
    """

    path: Path
    gives_gradients: ClassVar[bool] = False

    def scores(self, pool: Examples) -> ReferenceScores:
        """Read the file; DataError where a row of the audit is not in it, or a number is none."""
        found = _from_arrays(self.path) if self.path.suffix == ".npz" else _from_table(self.path)
        place = _places(self.path, found, pool)
        odds, included = found.log_odds[place].T, found.included[place].T
        correct = None if found.correct is None else found.correct[place].T
        _check_sides(str(self.path), included)
        _check_answers(str(self.path), odds, included)
        made_by = f"{plural(len(odds), 'reference model')} of {self.path.name}"
        return ReferenceScores(np.clip(odds, -SURE, SURE), included, pairs(included), correct, made_by)


@dataclass(frozen=True)
class OpenedReferences:
    """Models that were trained elsewhere, each with the texts that it was trained on; `target` is none of them.

    `with_gradients` takes the norms of each row's gradients too, where all of them have weights.
    """

    models: tuple[Target, ...]
    trained_on: tuple[frozenset[bytes], ...]
    with_gradients: bool = False

    @classmethod
    def open(
        cls, models: Sequence[Target], members: Sequence[Path], columns: Columns, target: Target
    ) -> "OpenedReferences":
        """Read what each model was trained on; UsageError where a model has no such file, or is the target itself."""
        if len(models) != len(members):
            raise UsageError(
                f"{plural(len(models), '--reference-model')} and {len(members)} --reference-members: each "
                "model needs the file of the rows it was trained on, in the same order"
            )
        for model in models:
            if model.digest is not None and model.digest == target.digest:
                raise UsageError(f"--reference-model {model.name}: is the target itself")
            if Access.PROBABILITIES not in model.access:
                raise TargetError(f"--reference-model {model.name}: gives {model.access.word} and no probabilities")
        named = Columns(text=columns.text, label=columns.label)
        texts = [read_examples(path, named).examples.texts or () for path in members]
        return cls(tuple(models), tuple(frozenset(map(text_key, each)) for each in texts))

    @property
    def gives_gradients(self) -> bool:
        """Whether all models have weights, so that they can be run backwards."""
        return self.with_gradients and all(Access.WEIGHTS in model.access for model in self.models)

    def scores(self, pool: Examples) -> ReferenceScores:
        """Ask each model for every row; DataError where one was trained on none or all of them."""
        if pool.texts is None:
            raise DataError("reference models need the texts of the audited rows: there are none")
        order = canonical_order(pool)
        rows, keys = pool.take(order), [text_key(text) for text in pool.texts]
        included = np.array([[key in known for key in keys] for known in self.trained_on])
        _check_sides("--reference-members", included)
        said = [answers_of(classifier(model), rows) for model in self.models]
        odds, correct = np.empty(included.shape), np.empty(included.shape, np.bool_)
        odds[:, order], correct[:, order] = [one for one, _ in said], [right for _, right in said]
        _check_answers("--reference-model", odds, included)
        made_by = f"{plural(len(said), 'reference model')} given: {', '.join(model.name for model in self.models[:8])}"
        return ReferenceScores(odds, included, pairs(included), correct, made_by, self._gradients(rows, order))

    def _gradients(self, rows: Examples, order: IntArray) -> FloatArray | None:
        """Return the norms of the gradients of rows that stand at `order` in the pool, in the order of the pool."""
        taken = [gradients_of(model, rows) for model in self.models] if self.with_gradients else [None]
        there = [each for each in taken if each is not None]
        if len(there) < len(self.models):
            return None
        found = np.empty((len(there), *there[0].shape))
        found[..., order] = there
        return found


def pairs(included: BoolArray) -> tuple[int, ...]:
    """Return for each model, [k, n], which other one was trained on just the rows that it was not, or -1."""
    partner = [-1] * len(included)
    for i, half in enumerate(included):
        for j in range(i + 1, len(included)):
            if partner[i] < 0 and partner[j] < 0 and (half != included[j]).all():
                partner[i], partner[j] = j, i
    return tuple(partner)


def _check_sides(name: str, included: BoolArray) -> None:
    """Raise DataError for a model that was trained on hardly any row of the audit, or on nearly all."""
    rows = included.shape[1]
    for number, inside in enumerate(included.sum(axis=1).tolist(), start=1):
        if not _FEWEST <= inside <= rows - _FEWEST:
            raise DataError(
                f"{name}: model {number} was trained on {inside:,} of {rows:,} audited rows: at least {_FEWEST} must "
                "be on either side, about half are best"
            )


def _check_answers(name: str, odds: FloatArray, included: BoolArray) -> None:
    """Raise DataError for a model that says one thing of all rows or is given twice, or for models of the same rows."""
    seen: dict[bytes, int] = {}
    for number, (said, half) in enumerate(zip(odds, included, strict=True), start=1):
        if np.ptp(np.clip(said, -SURE, SURE)) == 0:
            raise DataError(f"{name}: model {number} has one value for all audited rows, which tells nothing")
        first = seen.setdefault(said.tobytes() + half.tobytes(), number)
        if first != number:
            raise DataError(f"{name}: models {first} and {number} are one and the same: give each once")
    both = float((included.any(axis=0) & ~included.all(axis=0)).mean())
    if len(included) > 1 and both < _COMPARED:
        raise DataError(
            f"{name}: {both:.0%} of the audited rows have both a model that was trained on them and one that was not, "
            f"at least {_COMPARED:.0%} must: train each model on rows of its own, best on the half another was not"
        )


@dataclass(frozen=True)
class _Read:
    """A file of reference scores, [rows, models], and what its rows are found by."""

    log_odds: FloatArray
    included: BoolArray
    correct: BoolArray | None
    ids: tuple[str, ...] | None
    texts: tuple[str, ...] | None


def _places(path: Path, found: _Read, pool: Examples) -> IntArray:
    """Return where each row of the pool stands in the file; DataError for one that is not there, or twice."""
    if found.ids is not None and pool.ids is not None:
        what, theirs, ours = "id", list(found.ids), list(pool.ids)
    elif found.texts is not None and pool.texts is not None:
        what = "text"
        theirs, ours = ([text_key(text).hex() for text in texts] for texts in (found.texts, pool.texts))
    else:
        raise DataError(f"{path}: rows are found by id or text: the file and the audit have neither in common")
    place: dict[str, int] = {}
    wanted = set(ours)
    for row, key in enumerate(theirs):
        if place.setdefault(key, row) != row and key in wanted:
            raise DataError(f"{path}: rows {place[key] + 1} and {row + 1} have the same {what}")
    missing = sum(key not in place for key in ours)
    if missing:
        raise DataError(f"{path}: {missing:,} of {len(ours):,} audited rows are not there by their {what}")
    return np.array([place[key] for key in ours], dtype=np.int64)


def _from_table(path: Path) -> _Read:
    table = open_table(path)
    models = [name.removeprefix("log_odds:") for name in table.names if name.startswith("log_odds:")]
    lacking = [name for name in models if f"included:{name}" not in table.names]
    if not models or lacking:
        wanted = f"included:{lacking[0]}" if lacking else "log_odds:NAME and included:NAME"
        raise DataError(f"{path}: no column {wanted} among {table.listed}")
    lowered = {name.lower(): name for name in reversed(table.names)}
    keys = {what: next((lowered[name] for name in GUESSES[what] if name in lowered), None) for what in ("id", "text")}
    columns = [f"{what}:{name}" for name in models for what in _ARRAYS]
    read = table.read([*(name for name in keys.values() if name), *columns])
    odds = np.column_stack([read[f"log_odds:{name}"].numbers() for name in models])
    inside = np.column_stack([_flags(read[f"included:{name}"]) for name in models])
    ids = None if keys["id"] is None else read[keys["id"]].names("id")
    return _Read(odds, inside, None, ids, None if keys["text"] is None else read[keys["text"]].texts())


def _flags(column: Column) -> BoolArray:
    sides = column.sides()
    if (sides == UNKNOWN).any():
        raise column.no_side(int(np.argmax(sides == UNKNOWN)))
    inside: BoolArray = sides == MEMBER
    return inside


def _from_arrays(path: Path) -> _Read:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(each.file_size for each in packed.infolist())
        if size > _MOST:
            raise DataError(f"{path}: {size / 2**30:.1f} GiB unpacked, more than {_MOST / 2**30:g} are not read")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays: Mapping[str, Any] = {name: kept[name] for name in kept.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile):
        raise DataError(f"{path}: not an .npz of plain arrays; write it with numpy.savez") from None
    for name in _ARRAYS:
        if name not in arrays:
            raise DataError(f"{path}: no array {name!r} among {', '.join(sorted(arrays)) or 'none'}")
    odds, included = arrays["log_odds"], arrays["included"]
    if odds.ndim != 2 or odds.shape != included.shape or not odds.size:
        raise DataError(f"{path}: log_odds {odds.shape} and included {included.shape} must both be [rows, models]")
    if odds.dtype.kind not in "fiu" or np.isnan(odds).any():
        raise DataError(f"{path}: log_odds holds what is no number")
    flags = _truths(path, included, "included")
    correct = arrays.get("correct")
    if correct is not None and correct.shape != odds.shape:
        raise DataError(f"{path}: correct {correct.shape} must be {odds.shape}, as log_odds")
    right = None if correct is None else _truths(path, correct, "correct")
    names = {what: _names(path, arrays.get(what), len(odds), what) for what in ("ids", "texts")}
    return _Read(odds.astype(np.float64), flags, right, names["ids"], names["texts"])


def _truths(path: Path, values: Any, name: str) -> BoolArray:
    flags: BoolArray = values.astype(np.bool_)
    if values.dtype.kind not in "biuf" or not np.array_equal(flags, values):
        raise DataError(f"{path}: {name} must hold 0 and 1, or true and false")
    return flags


def _names(path: Path, values: Any, rows: int, what: str) -> tuple[str, ...] | None:
    if values is None:
        return None
    if values.shape != (rows,):
        raise DataError(f"{path}: {what} {values.shape} must be one for each of {rows:,} rows")
    return tuple(map(str, values.tolist()))
