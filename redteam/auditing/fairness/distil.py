"""Distil a classifier: a student learns the probabilities that a teacher gives to texts, whose labels nobody needs.

A biased teacher makes a biased student, also where swapped texts are added with the labels that the teacher gives them.
What helps is to train on what the teacher says of a text and of its swap together: their mean (`average`), or the
product of both, normalised (`expert`), as Gupta et al. (Findings of ACL 2022, arXiv 2203.12574) do for language models.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from redteam.auditing.fairness.swaps import Swapped, load_swaps, swap
from redteam.core import DataError
from redteam.core.arrays import FloatArray, IntArray
from redteam.data import Examples
from redteam.models.initial import InitialModel, initial_model
from redteam.plugins.defense import Checkpoint
from redteam.targets.target import Classifier

How = Literal["none", "average", "expert", "augment"]
HOWS: tuple[How, ...] = ("none", "average", "expert", "augment")


@dataclass(frozen=True)
class Lesson:
    """What a student is to learn: texts in one or two versions, and the probabilities of each row, [n, k]."""

    versions: tuple[tuple[str, ...], ...]
    targets: FloatArray
    swapped: int

    @property
    def key(self) -> bytes:
        """What tells this lesson from any other."""
        digest = hashlib.sha256(self.targets.tobytes())
        for texts in self.versions:
            digest.update(json.dumps(texts).encode("utf-8", "surrogatepass"))
        return digest.digest()


def lesson(teacher: Classifier, texts: tuple[str, ...], how: How, swaps: str) -> Lesson:
    """Return what the teacher says of texts; DataError where a list of swaps changes none of them."""
    own = _probabilities(teacher, texts)
    if how == "none":
        return Lesson((texts,), own, 0)
    by = load_swaps(swaps)
    options = by.options()
    found = [swap(text, by, options) for text in texts]
    other = tuple(each.text if isinstance(each, Swapped) else text for text, each in zip(texts, found, strict=True))
    count = sum(isinstance(each, Swapped) for each in found)
    if not count:
        raise DataError(f"swap list {by.name}: none of {len(texts):,} texts has a swap: give a list that they hold")
    turned = _probabilities(teacher, other)
    if how == "augment":
        return Lesson((texts + other,), np.concatenate([own, turned]), count)
    both = (own + turned) / 2 if how == "average" else _product(own, turned)
    return Lesson((texts, other), both, count)


def _product(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the normalised product of two distributions a row; the square root keeps one that both share."""
    logs = (np.log(np.maximum(one, 1e-12)) + np.log(np.maximum(other, 1e-12))) / 2
    found: FloatArray = np.exp(logs - logs.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    return found


def _probabilities(teacher: Classifier, texts: tuple[str, ...]) -> FloatArray:
    found: FloatArray = np.exp(teacher.log_probabilities(Examples(np.arange(len(texts)), texts)))
    return found


def checkpoint_for(output: Path, lesson_key: bytes, *settings: object) -> Checkpoint:
    """Return where a training that writes `output` is kept until it is done, by all that its numbers depend on."""
    key = hashlib.sha256(lesson_key + json.dumps([str(each) for each in settings]).encode()).hexdigest()
    return Checkpoint(output.with_name(f"{output.name}.checkpoint"), key)


def start(
    spec: str, labels: tuple[str, ...], texts: tuple[str, ...], layers: int | None, frozen: bool, seed: int
) -> tuple[InitialModel, IntArray]:
    """Return a model to train with the teacher's labels, and where each of its own stands among the teacher's, [k]."""
    rows = [texts[i % len(texts)] for i in range(max(len(texts), len(labels)))]
    named = Examples(np.arange(len(rows)), tuple(rows), tuple(labels[i % len(labels)] for i in range(len(rows))))
    initial = initial_model(spec, named, learn_from=named, seed=seed, layers=layers, freeze_embeddings=frozen)
    return initial, np.array([labels.index(label) for label in initial.labels])
