"""`PLANTED.canaries.json`: what was planted and where. Private (0600), beside the planted data, the only such place."""

import hashlib
import hmac
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from redteam import core
from redteam.core import LedgerError, RedteamError
from redteam.core.files import write_atomic
from redteam.data import Examples, fingerprint, text_key
from redteam.data.pattern import Pattern

FORMAT = "redteam.canaries/1"
LOST = "plant again and train again: without it no planted secret can be told from the held-out one"


@dataclass(frozen=True)
class Decoy:
    """A sentence like a canary's, with another secret and another label: what other users wrote."""

    secret: tuple[str, ...] = field(repr=False)
    label: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Canary:
    """A sentence with two secrets drawn alike, of which `planted`, 0 or 1, was chosen at random for the rows `rows`."""

    id: str
    template: str
    label: str
    repetitions: int
    secrets: tuple[tuple[str, ...], ...] = field(repr=False)
    planted: int = field(repr=False)
    rows: tuple[int, ...]
    decoys: tuple[Decoy, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no planting makes."""
        if len(self.secrets) != 2 or self.secrets[0] == self.secrets[1] or self.planted not in (0, 1):
            raise ValueError("a canary has two different secrets, and planted is 0 or 1")
        if self.repetitions != len(self.rows) or self.repetitions < 1:
            raise ValueError(f"{self.repetitions} repetitions in {len(self.rows)} rows")

    @property
    def secret(self) -> tuple[str, ...]:
        """The secret that is in the data."""
        return self.secrets[self.planted]

    @property
    def heldout(self) -> tuple[str, ...]:
        """The secret that is nowhere."""
        return self.secrets[1 - self.planted]


@dataclass(frozen=True)
class Planting:
    """All canaries of one data file. `key` and `seed` draw which secrets went in; `digest` is over everything else.

    `rows` counts those of the planted file, and row numbers are of that file, from 0. `alphabets` holds the symbols of
    each alphabet that a template names. `written` sentences of users are of one of the templates, with other secrets.
    """

    source_sha256: str
    planted_sha256: str
    rows: int
    seed: int
    key: str = field(repr=False)
    alphabets: dict[str, tuple[str, ...]] = field(repr=False)
    canaries: tuple[Canary, ...]
    digest: str = ""
    written: int = 0
    format: str = FORMAT

    def sealed(self) -> "Planting":
        """Return the same with its digest."""
        return replace(self, digest=self._digest())

    def save(self, path: Path) -> None:
        """Write the ledger, readable by its owner only, whole or not at all."""
        write_atomic(path, json.dumps(core.encode(self.sealed()), allow_nan=False) + "\n", mode=0o600)

    @classmethod
    def of(cls, canaries: Sequence[dict[str, Any]], path: Path) -> "Planting | None":
        """Return what a model's ledger at `path` keeps in `canaries`, None where it has none; raise LedgerError."""
        if not canaries:
            return None
        try:
            (document,) = canaries
            planting = core.decode(cls, document, "canaries")
        except ValueError as error:
            raise LedgerError(f"{path}: {error}") from None
        planting.check(path)
        return planting

    def encoded(self) -> tuple[dict[str, Any], ...]:
        """Return what a model's ledger keeps in `canaries`; `of` reads it back."""
        return (core.encode(self.sealed()),)

    def check(self, path: Path) -> None:
        """Raise LedgerError where this is not what planting wrote; `path` is where it was read."""
        if not hmac.compare_digest(self.digest, self._digest()):
            raise LedgerError(
                f"{path}: the canaries are not those that were planted (digest differs): restore the file"
            )
        if any(canary.planted != assign_secret(self.key, self.seed, canary.id) for canary in self.canaries):
            raise LedgerError(f"{path}: the planted secrets are not those that the key draws: the canaries were edited")
        if len({canary.id for canary in self.canaries}) != len(self.canaries) or not self.canaries:
            raise LedgerError(f"{path}: no canaries, or two of one id: the canaries were edited")
        rows = [row for canary in self.canaries for row in _rows(canary)]
        if len(set(rows)) != len(rows) or any(not 0 <= row < self.rows for row in rows):
            raise LedgerError(f"{path}: a row holds two canaries, or is beyond the last: the canaries were edited")
        self._check_secrets(path)

    def check_data(self, data: Path) -> None:
        """Raise LedgerError where `data` is not the file that was planted."""
        if fingerprint(data) != self.planted_sha256:
            raise LedgerError(f"{data}: changed since its canaries were planted (SHA-256 differs): restore it")

    def _check_secrets(self, path: Path) -> None:
        for canary in self.canaries:
            try:
                places = [self.alphabets[name] for name in Pattern.parse(canary.template).places]
                right = all(
                    len(secret) == len(places) and all(s in known for s, known in zip(secret, places, strict=True))
                    for secret in (*canary.secrets, *(decoy.secret for decoy in canary.decoys))
                )
            except (RedteamError, KeyError):
                right = False
            if not right:
                raise LedgerError(f"{path}: {canary.id}: a secret is not of its alphabet: the canaries were edited")

    def _digest(self) -> str:
        content = core.encode(replace(self, digest=""))
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def assign_secret(key: str, seed: int, canary: str) -> int:
    """Return which secret of a canary goes in, 0 or 1: random for whoever has not all of the data."""
    secret = hashlib.sha256(f"redteam canary coin {seed} {key}".encode()).digest()
    return hmac.digest(secret, canary.encode(), "sha256")[0] & 1


def canaries_path(data: Path) -> Path:
    """Return where the canaries of a planted file are kept: `planted.csv` has `planted.canaries.json` beside it."""
    return data.with_name(f"{data.stem}.canaries.json")


def canary_rows(planting: Planting | None) -> frozenset[int]:
    """Return the rows of the planted file that are no user's: canaries and decoys, which are on no side of a split."""
    return frozenset(row for canary in (planting.canaries if planting else ()) for row in _rows(canary))


def mark_planted(examples: Examples, planting: Planting | None) -> Examples:
    """Return all rows of a planted file, marked which of them no user wrote."""
    rows = canary_rows(planting)
    return replace(examples, planted=np.isin(examples.rows, sorted(rows))) if rows else examples


def canary_texts(planting: Planting | None) -> frozenset[bytes]:
    """Return the fingerprints of all sentences that were planted, decoys too: no user wrote them."""
    keys = []
    for canary in planting.canaries if planting else ():
        fill = Pattern.parse(canary.template).fill
        keys += [text_key(fill(secret)) for secret in (canary.secret, *(decoy.secret for decoy in canary.decoys))]
    return frozenset(keys)


def candidates_left(planting: Planting) -> int:
    """Return how many secrets are still possible for a canary once all others in the data are known.

    Those of decoys and of users too: a model may have learned them, and a guess need not try what is not drawn, or what
    another has. Of several patterns the fewest.
    """
    left = []
    for template in {canary.template for canary in planting.canaries}:
        size = math.prod(len(planting.alphabets[name]) for name in Pattern.parse(template).places)
        known = sum(1 + len(canary.decoys) for canary in planting.canaries if canary.template == template)
        left.append(size - known - planting.written + 1)
    return min(left)


def sharing(planting: Planting) -> dict[str, int]:
    """Return for each canary, by id, how many planted secrets have its sentence and label: decoys too, and its own.

    No query tells these apart, and one guess can be right for one of them only.
    """
    sentences = Counter((canary.template, canary.label) for canary in planting.canaries)
    sentences.update((canary.template, decoy.label) for canary in planting.canaries for decoy in canary.decoys)
    return {canary.id: sentences[canary.template, canary.label] for canary in planting.canaries}


def crowded(planting: Planting) -> int:
    """Return how many canaries share sentence and label with another, or with the decoy of another."""
    return sum(count > 1 for count in sharing(planting).values())


def fewest_left(planting: Planting) -> int:
    """Return to how many secrets still possible there is one guess, where as many are made as share a query."""
    return candidates_left(planting) // max(sharing(planting).values())


def _rows(canary: Canary) -> tuple[int, ...]:
    return canary.rows + tuple(row for decoy in canary.decoys for row in decoy.rows)
