"""Labels of the data in the words of the model: by name, by number or as the user says.

`datasets` stores labels as whole numbers, whose names stand in the file or in the model's config. A name that the model
knows is never taken for anything else.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from redteam.core import UsageError, read_text
from redteam.data.cells import shown
from redteam.data.examples import Examples
from redteam.data.split import Split
from redteam.data.vocabulary import name_of

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_LARGEST = 16 * 2**20  # bytes


def read_label_map(path: Path) -> dict[str, str]:
    """Return what a JSON file says of labels: names in the data to names in the model. Raises UsageError."""
    try:
        if not path.is_file():
            raise UsageError(f"--label-map {path}: no such file")
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"--label-map {path}: more than {_LARGEST:,} bytes")
        pairs = json.loads(read_text(path), object_pairs_hook=list)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--label-map {path}: cannot be read as JSON ({type(error).__name__})") from None
    scalars = isinstance(pairs, list) and pairs and all(isinstance(pair, tuple) for pair in pairs)
    if not scalars or not all(isinstance(value, str | int) and not isinstance(value, bool) for _, value in pairs):
        raise UsageError(f'--label-map {path}: wanted an object such as {{"0": "negative", "1": "positive"}}')
    found: dict[str, str] = {}
    for key, value in pairs:
        if found.setdefault(name_of(key), str(value)) != str(value):
            raise UsageError(f"--label-map {path}: says two things of {shown(name_of(key))}")
    return found


def relabel(
    split: Split,
    index: Mapping[str, int],
    names: tuple[str, ...],
    *,
    given: Mapping[str, str] | None = None,
    in_order: bool = True,
) -> tuple[Split, tuple[str, ...]]:
    """Return a split with its labels in the model's words, and a note on what was done.

    `index` holds every spelling of the model's `names`; where those are not known yet, nothing but the user's map
    `given` is used. `in_order` says that the order of the names is the model's own. What cannot be matched stays as it
    is, for the model to refuse. Raises UsageError where the user's map names a label that the model lacks.
    """
    labels = split.members.labels, split.nonmembers.labels
    if labels[0] is None or labels[1] is None:
        return split, ()
    apart = () if split.reference is None else split.reference.labels or ()
    found = {*labels[0], *labels[1], *apart}
    classes = split.members.classes or split.nonmembers.classes
    if given is not None:
        words = by_map(found, given, classes)
        lost = sorted({word for word in words.values() if names and word not in index})
        if lost:
            raise UsageError(f"--label-map: names {shown(lost[0])}, which is no label of the model")
        note = f"labels by --label-map: {len(words)} of {len(found)} renamed"
    else:
        words, note = _guessed(found, index, names, classes, in_order)
    return (_renamed(split, words), (note,)) if words else (split, ())


def by_map(found: Collection[str], given: Mapping[str, str], classes: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what the user's map says of the labels found, by their names or by their numbers in the file."""
    words = {label: given[label] for label in found if label in given}
    numbers = {name: str(number) for number, name in enumerate(classes)}
    return {label: given[numbers[label]] for label in found if numbers.get(label) in given} | words


def _guessed(
    found: Collection[str], index: Mapping[str, int], names: tuple[str, ...], classes: tuple[str, ...], in_order: bool
) -> tuple[dict[str, str], str]:
    if not names or not in_order or all(label in index for label in found):
        return {}, ""
    folded = {name.casefold(): name for name in names}
    spelled = {label.casefold() for label in found}
    if len(folded) == len(names) and len(spelled) == len(found) and spelled <= folded.keys():
        words = {label: folded[label.casefold()] for label in found}
        return words, f"labels are those of the model but for capital letters ({_example(words)})"
    numbers = {name: str(number) for number, name in enumerate(classes)}
    if all(numbers.get(label) in index for label in found) and len(classes) <= len(names):
        words = {label: names[index[numbers[label]]] for label in found}
        return words, f"the model numbers its labels: those of the data are taken by their numbers ({_example(words)})"
    counted = all(_NUMBER.fullmatch(label) and int(label) < len(names) for label in found)
    if counted and not any(label in index for label in found):
        words = {label: names[int(label)] for label in found}
        return words, f"labels are numbers: taken as positions among the model's labels ({_example(words)})"
    return {}, ""


def _example(words: Mapping[str, str]) -> str:
    some = sorted(words.items(), key=lambda item: (len(item[0]), item[0]))[:3]
    return ", ".join(f"{one} = {shown(other)}" for one, other in some) + (", ..." if len(words) > 3 else "")


def _renamed(split: Split, words: Mapping[str, str]) -> Split:
    def of(examples: Examples) -> Examples:
        return replace(examples, labels=tuple(words.get(label, label) for label in examples.labels or ()))

    reference = None if split.reference is None else of(split.reference)
    return replace(split, members=of(split.members), nonmembers=of(split.nonmembers), reference=reference)
