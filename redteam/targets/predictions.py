"""Predicted labels in a file of scores: in the words of each row's own label, and held against its probabilities."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data.column import Column, require
from redteam.data.vocabulary import name_of
from redteam.targets.forms import shown
from redteam.targets.target import label_index

_ADVICE = "say with --label-map FILE which is which, or rename a column that predicts no label"


@dataclass(frozen=True)
class Predictions:
    """The predicted label of each row of a file [n] as an index among `labels`, -1 in rows that are not `kept`.

    `own` are the labels of the data [n], in the words of the predictions where these differ in capitals or are the
    numbers of classes that the file names; `remarks` say so.
    """

    indices: IntArray
    labels: tuple[str, ...]
    own: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_predictions(predicted: Column, label: Column, own: tuple[str, ...], kept: IntArray) -> Predictions:
    """Return what a column predicts beside the labels `own` [n] of the data; rows that are not `kept` are not read.

    Raises DataError for an empty cell, and where no label of the data is ever predicted: then the two columns name
    their labels otherwise, and every row would be wrong.
    """
    names, mask = predicted.names("predicted"), np.zeros(len(own), dtype=np.bool_)
    mask[kept] = True
    require(predicted, names, mask)
    require(label, own, mask)
    rows = kept.tolist()
    said, found = sorted({names[row] for row in rows}), sorted({own[row] for row in rows})
    words = _as_predicted(found, said, label.classes)
    own = tuple(words.get(each, each) for each in own)
    found = sorted({own[row] for row in rows})
    index = label_index(tuple(said))
    if not any(each in index for each in found):
        wrong = f"column {predicted.name!r} has {shown(said)}, column {label.name!r} has {shown(found)}"
        raise DataError(f"{predicted.source}: {wrong}: no label is in both; {_ADVICE}")
    labels = (*said, *(each for each in found if each not in index))
    index = label_index(labels)
    indices = np.array([index.get(name, -1) for name in names], dtype=np.int64)
    indices[~mask] = -1
    return Predictions(indices, labels, own, _remarks(words))


def _as_predicted(found: Sequence[str], said: Sequence[str], classes: Sequence[str]) -> Mapping[str, str]:
    """Return labels of the data that predictions name otherwise: by their numbers, or but for capital letters."""
    index = label_index(tuple(said))
    missing = [each for each in found if each not in index]
    numbers = {name: str(number) for number, name in enumerate(classes)}
    if len(missing) == len(found) and set(found) <= numbers.keys() and _are_numbers(said, len(classes)):
        return {each: numbers[each] for each in found}
    folded: dict[str, set[str]] = {}
    for each in said:
        folded.setdefault(each.casefold(), set()).add(each)
    spelled: dict[str, set[str]] = {}
    for each in found:
        spelled.setdefault(each.casefold(), set()).add(each)
    return {
        each: min(folded[each.casefold()])
        for each in missing
        if len(folded.get(each.casefold(), ())) == 1 == len(spelled[each.casefold()])
    }


def _are_numbers(said: Collection[str], classes: int) -> bool:
    return set(said) <= {str(number) for number in range(classes)}


def _remarks(words: Mapping[str, str]) -> tuple[str, ...]:
    some = ", ".join(f"{one} = {other}" for one, other in sorted(words.items())[:3])
    more = ", ..." if len(words) > 3 else ""
    return (f"labels of the data are taken in the words of the predictions ({some}{more})",) if words else ()


def check_predictions(predicted: Column, probabilities: FloatArray, labels: tuple[str, ...], kept: IntArray) -> None:
    """Raise DataError for a kept row whose predicted label is not one of its most probable ones [n, k]."""
    names, index = predicted.names("predicted"), label_index(labels)
    where = str(predicted.source)
    for row in kept.tolist():
        place = index.get(names[row])
        if place is None:
            what = f"{predicted.name} {shown(names[row : row + 1])} has no probability column"
            raise DataError(f"{where}: row {row + 1}: {what} among {shown(labels)}")
        most = int(probabilities[row].argmax())
        if probabilities[row, place] < probabilities[row, most]:
            said = f"{predicted.name} {labels[place][:30]!r} ({probabilities[row, place]:.4g})"
            likelier = f"{labels[most][:30]!r} is more probable ({probabilities[row, most]:.4g})"
            raise DataError(f"{where}: row {row + 1}: {said}, but {likelier}; keep the column that is true")


def check_labels(path: Path, columns: Collection[str], label: Column, own: Sequence[str], kept: IntArray) -> None:
    """Raise DataError for a label that is empty or has no probabilities, in the rows that are kept."""
    mask = np.zeros(len(own), dtype=np.bool_)
    mask[kept] = True
    require(label, tuple(own), mask)
    known = {name for each in columns for name in (each, each.removeprefix("LABEL_"), name_of(each))}
    unknown = next((row for row in kept.tolist() if own[row] not in known), None)
    if unknown is not None:
        name, among = shown(own[unknown : unknown + 1]), shown(list(columns))
        raise DataError(f"{path}: row {unknown + 1}: label {name} has no probability column among {among}")
