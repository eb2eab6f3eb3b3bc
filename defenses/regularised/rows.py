"""Which rows the regularised training learns from, and which it keeps apart."""

from collections import Counter
from dataclasses import replace

import numpy as np

from redteam.core import UsageError
from redteam.data import Examples, text_key


def distinct(examples: Examples) -> Examples:
    """Return the first of each text, in order; texts that differ in case or blanks alone are equal.

    A text that is a canary's in any of its rows is a canary's.
    """
    copies = _copies(examples)
    kept = examples.take([rows[0] for rows in copies])
    if examples.planted is None:
        return kept
    return replace(kept, planted=np.array([bool(examples.planted[rows].any()) for rows in copies], dtype=np.bool_))


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Return what is left to train on and random texts of users, as many rows as that share of these; no label's last.

    Canaries are all trained on, and so is a user's text that is one's: no row that was planted says when to stop.

    All copies of a text are on one side: with some on either, a text that is repeated and overfitted would make
    the loss look good, and training would go on for its sake. Raises UsageError where no row can be spared.
    """
    labels, every, planted = examples.labels or (), _copies(examples), examples.planted
    copies = [rows for rows in every if planted is None or not planted[rows].any()]
    left = Counter(label for rows in copies for label in {labels[row] for row in rows})
    apart: set[int] = set()
    wanted = max(1, round(share * len(copies)))
    for place in np.random.default_rng([seed, 0xE5]).permutation(len(copies)).tolist():
        rows = copies[place]
        own = {labels[row] for row in rows}
        if len(apart) + len(rows) <= wanted and all(left[label] > 1 for label in own):
            left.subtract(own)
            apart.update(rows)
    if not apart:
        raise UsageError(f"{len(copies)} texts: none can be kept apart to stop early, since every label needs one")
    return examples.take([row for row in range(len(examples)) if row not in apart]), examples.take(sorted(apart))


def _copies(examples: Examples) -> list[list[int]]:
    """Return the rows of each text, in the order of their first."""
    found: dict[bytes, list[int]] = {}
    for row, text in enumerate(examples.texts or ()):
        found.setdefault(text_key(text), []).append(row)
    return list(found.values())
