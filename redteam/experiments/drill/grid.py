"""The grid of the drill: which sentences, how long a secret, how often repeated, with which labels and defences."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redteam.canary.draw import EXISTING, FRESH, PER_CANARY
from redteam.core import UsageError
from redteam.data import fold
from redteam.data.pattern import Pattern, Slot
from redteam.experiments.setup import Trainer
from redteam.plugins.defense import Defense
from redteam.training.recipes import ALL, NONE, PARTS, choose_defense

# The sentences of Parikh, Dupuy and Gupta (ACL 2022); n stands for the length of the secret.
PATTERNS = {"call": "call {digit:n}", "pin": "my pin code is {digit:n}", "color": "color {color:n}"}
ONE_PER_MODEL = "one-per-model"
# How canaries are labelled: by one of the data's, dealt out; by a new one for each, which has the model tell the
# secrets apart; by one new one for all; or by that, each in a model of its own, as in the paper.
PROTOCOLS = (EXISTING, PER_CANARY, FRESH, ONE_PER_MODEL)
_LONGEST = 80  # characters of a sentence in the name of a folder
_PLAIN = re.compile(r"[a-z0-9 {}:]+")
_LENGTH = re.compile(r":\s*n\s*\}")


@dataclass(frozen=True)
class DrillCell:
    """One training: a pattern as the grid names it and the template it makes, and all that it is trained with.

    `label` is one of PROTOCOLS or a label of the data.
    """

    pattern: str
    template: str
    repetitions: int
    defense: str
    seed: int
    label: str = EXISTING

    @property
    def plan_label(self) -> str:
        """The label that a plan takes."""
        return FRESH if self.label == ONE_PER_MODEL else self.label

    def canaries(self, each: int) -> int:
        """Return how many canaries go into this model, where a row has `each` a seed."""
        return 1 if self.label == ONE_PER_MODEL else each

    @property
    def folder(self) -> str:
        """The name of the folder that the cell lives in."""
        sentence = self.template
        if len(sentence) > _LONGEST or not _PLAIN.fullmatch(sentence):  # others would read like it, or be too long
            sentence = f"{sentence[:_LONGEST]} {hashlib.sha256(sentence.encode()).hexdigest()[:8]}"
        label = self.label
        if label not in PROTOCOLS:  # a label of the data may be long, or read like another
            label = f"label {label[:20]} {hashlib.sha256(label.encode()).hexdigest()[:8]}"
        named = f"{sentence} r{self.repetitions} {label} {self.defense}"
        words = re.sub(r"[^a-z0-9]+", "-", named.lower()).strip("-")
        return f"{words}-seed{self.seed}"

    @property
    def row(self) -> tuple[str, int, str, str]:
        """The row of the table that the cell belongs to: template, repetitions, label and defence."""
        return self.template, self.repetitions, self.label, self.defense

    @property
    def words(self) -> str:
        """The cell as messages name it."""
        return f"{row_words(*self.row)}, seed {self.seed}"


def row_words(template: str, repetitions: int, label: str, defense: str) -> str:
    """Return a row of the table as messages name it."""
    return f"{template}, R {repetitions}, label {label}, {defense}"


def choose_patterns(names: Sequence[str], lengths: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Return name and template of every pattern at every length; one whose slots state their counts comes once.

    A name is one of PATTERNS or a template, where `{digit:n}` takes the lengths. Raises UsageError.
    """
    chosen: dict[str, str] = {}
    for name in names:
        general = PATTERNS.get(name.strip().lower(), name)
        templates = [_LENGTH.sub(f":{n}}}", general) for n in lengths]
        for template in dict.fromkeys(templates):
            Pattern.parse(template)
            chosen.setdefault(template, name.strip())
    if not chosen:
        raise UsageError(f"--pattern: an empty list; name one of {', '.join(PATTERNS)}, or a sentence with {{digit:n}}")
    if len({_read(template) for template in chosen}) < len(chosen):
        raise UsageError("--pattern: one sentence is given twice; upper and lower case count as the same")
    return tuple((name, template) for template, name in chosen.items())


def _read(template: str) -> tuple[str | Slot, ...]:
    return tuple(fold(piece) if isinstance(piece, str) else piece for piece in Pattern.parse(template).pieces)


def choose_defenses(names: Sequence[str], found: Sequence[Defense], asked: dict[str, Any]) -> tuple[Trainer, ...]:
    """Return the defences of these names (see `redteam.training.recipes`), each once, with the settings asked for.

    None leaves a setting as it is. Raises UsageError for an empty list, an unknown name or setting.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    chosen = dict(choose_defense(name, found, given) for name in names)
    if not chosen:
        raise UsageError(f"--defense: an empty list; name some of {NONE}, {', '.join(PARTS)}, {ALL}")
    return tuple(Trainer(title, defense) for title, defense in chosen.items())


def choose_labels(given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the protocols and labels of a list: names with commas between, but for a label of the data that has one.

    `known` are the labels of the data. Raises UsageError for an empty list or an unknown name.
    """
    chosen: dict[str, None] = {}
    for text in given:
        for name in [text] if text in known else filter(None, map(str.strip, text.split(","))):
            if name not in (*PROTOCOLS, *known):
                some = ", ".join(repr(label) for label in known[:5]) + (", ..." if len(known) > 5 else "")
                raise UsageError(f"--label {name!r}: unknown; known are {', '.join(PROTOCOLS)}; the data has {some}")
            chosen[name] = None
    if not chosen:
        raise UsageError(f"--label: an empty list; name some of {', '.join(PROTOCOLS)}, or a label of the data")
    return tuple(chosen)


def drill_grid(
    patterns: Sequence[tuple[str, str]],
    repetitions: Sequence[int],
    trainers: Sequence[Trainer],
    seeds: int,
    *,
    labels: Sequence[str] = (EXISTING,),
    canaries: int = 1,
) -> tuple[DrillCell, ...]:
    """Return every cell: all labels and defences of one sentence and number of repetitions side by side.

    Seed comes after seed. With one canary a model there are as many models as elsewhere `canaries`, a seed each.
    """
    return tuple(
        DrillCell(name, template, count, trainer.name, model, label)
        for seed in range(seeds)
        for name, template in patterns
        for count in repetitions
        for label in labels
        for model in _models(label, seed, canaries)
        for trainer in trainers
    )


def _models(label: str, seed: int, canaries: int) -> range:
    return range(seed * canaries, (seed + 1) * canaries) if label == ONE_PER_MODEL else range(seed, seed + 1)
