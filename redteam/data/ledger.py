"""`model.ledger.json`: what training knew and the model must not tell. Private (0600), beside the model.

It names the data by relative path and SHA-256, the rows on either side, how they were chosen, the recipe and the
guarantee. `redteam audit model.pt` finds it without being told.
"""

import contextlib
import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redteam import core
from redteam.core import DataError, LedgerError, UsageError, read_text
from redteam.core.files import write_atomic
from redteam.data import Columns, Examples, Split, fingerprint, read_examples, text_key
from redteam.data.label_canaries import LabelCanaries
from redteam.data.planting import Planting, canary_rows
from redteam.data.units import user_key
from redteam.report.older import with_guarantee_of_format_1
from redteam.report.values import Guarantee, Unit

FORMAT = "redteam.ledger/2"
_OLDER: core.Older = {"redteam.ledger/1": lambda document: with_guarantee_of_format_1(document) | {"format": FORMAT}}


@dataclass(frozen=True)
class DataFile:
    """A data file as it was at training time: path relative to the ledger, fingerprint, columns used."""

    path: str
    sha256: str
    rows: int
    columns: dict[str, str | None]


@dataclass(frozen=True)
class Membership:
    """Which rows were trained on, held out, and kept apart for reference, and the draw that decided it.

    `seed` and `key` draw it again; the key is the fingerprint of the whole data file unless another was given.
    `unit` says what was assigned as a whole: a text, or a user with all of her rows.
    """

    randomised: bool
    seed: int
    holdout: float
    reference_share: float
    members: tuple[int, ...]
    nonmembers: tuple[int, ...]
    reference: tuple[int, ...]
    key: str = ""
    unit: Unit = "example"


@dataclass(frozen=True)
class TrainingRecipe:
    """How the model was trained: the defence's id, its parameters, the seed."""

    defense: str
    parameters: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Ledger:
    """Everything training knew. `model` is the model's digest, `salt` keys the hashes in reports.

    Where clients trained on rows of their own, `clients` names the rows of each, and `rounds` says who took part.
    `privatised` says how the words of the data were exchanged before.
    """

    model: str
    data: DataFile
    membership: Membership
    recipe: TrainingRecipe
    guarantee: Guarantee | None
    salt: str
    canaries: tuple[dict[str, Any], ...] = ()
    clients: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rounds: tuple[dict[str, Any], ...] = ()
    label_canaries: LabelCanaries | None = None
    privatised: dict[str, Any] | None = None
    format: str = FORMAT

    def __post_init__(self) -> None:
        """Refuse a salt with which the hashes in reports could be guessed, or that is none."""
        try:
            short = len(bytes.fromhex(self.salt)) < 16
        except ValueError:
            short = True
        if short:
            raise ValueError("the salt is not at least 16 bytes in hexadecimal digits")

    def save(self, path: Path) -> None:
        """Write the ledger, readable by its owner only, whole or not at all."""
        write_atomic(path, json.dumps(core.encode(self), allow_nan=False) + "\n", mode=0o600)

    @classmethod
    def load(cls, path: Path) -> "Ledger":
        """Read a ledger; raise LedgerError where it is missing, broken or of another format."""
        try:
            return core.parse(cls, read_text(path), "ledger", format=FORMAT, advice="train again", older=_OLDER)
        except OSError as error:
            raise LedgerError(f"{path}: cannot be read ({error.strerror or error})") from None
        except UnicodeDecodeError as error:
            raise LedgerError(f"{path}: cannot be read (not UTF-8 text, byte {error.start})") from None
        except ValueError as error:
            raise LedgerError(f"{path}: {error}") from None

    def data_path(self, path: Path, data: Path | None = None) -> Path:
        """Return where the data of the ledger at `path` lies: `data`, where somebody says so."""
        return data or (path.resolve().parent / self.data.path).resolve()

    def split(
        self, path: Path, *, data: Path | None = None, user: str | None = None, group: str | None = None
    ) -> tuple[Split, tuple[str, ...]]:
        """Read the data again and divide it as training did; `path` is where this ledger lies.

        Rows of canaries are on neither side. `user` and `group` are columns that training was not told of. Raises
        LedgerError where the data changed, a row is on two sides, or membership is not what the seed draws, UsageError
        where it was drawn for other users.
        """
        source = self.data_path(path, data)
        if not source.exists():
            where = f"{path}: its data file {source} is not there"
            raise LedgerError(f"{where}; put it back or say --training-data FILE")
        if _fingerprint(source) != self.data.sha256:
            raise LedgerError(f"{source}: changed since training (SHA-256 differs from the ledger's); restore it")
        reading = read_examples(source, self._columns(path, user, group))
        examples = reading.examples
        if user is None and self.membership.unit == "example" and "" in (examples.users or ()):
            examples = replace(examples, users=None)  # no one asked whose rows they are, and they do not say
        planted = canary_rows(self.planting(path))
        self._check_rows(path, examples, reading.rows, planted)
        if self.membership.randomised:
            self._check_assignment(path, examples, planted)
        sides = self.membership
        split = Split.of(
            examples.of_rows(sides.members),
            examples.of_rows(sides.nonmembers),
            examples.of_rows(sides.reference) if sides.reference else None,
            randomised=sides.randomised,
            salt=self.salt,
            inclusion=1.0 - sides.holdout if sides.randomised else None,
            redrawn=sides.randomised,
            unit=sides.unit if sides.randomised else None,
        )
        return split, reading.notes

    def _columns(self, path: Path, user: str | None, group: str | None) -> Columns:
        known = Columns(**self.data.columns)
        if user is not None and user != known.user and self.membership.unit == "user":
            raise UsageError(
                f"--user-column {user}: {path} drew who was trained on by column {known.user!r}; leave the option out, "
                "or train again"
            )
        return replace(known, user=user or known.user, group=group or known.group)

    def check_model(self, digest: str | None, path: Path) -> None:
        """Raise LedgerError where the model is known not to be the one this ledger was written for."""
        if digest is not None and digest != self.model:
            raise LedgerError(f"{path}: written for another model (its digest differs); train again")

    def planting(self, path: Path) -> Planting | None:
        """Return the canaries of the data, None where none were planted; `path` is where this ledger lies.

        Raises LedgerError where they were edited or are of other data.
        """
        planting = Planting.of(self.canaries, path)
        if planting is not None and planting.planted_sha256 != self.data.sha256:
            raise LedgerError(f"{path}: its canaries are those of other data: the ledger was edited; train again")
        return planting

    def _check_rows(self, path: Path, examples: Examples, rows: int, planted: frozenset[int]) -> None:
        sides = self.membership
        named = sides.members + sides.nonmembers + sides.reference
        if len(set(named)) != len(named):
            raise LedgerError(f"{path}: a row is on two sides: the ledger was edited")
        if any(not 0 <= row < rows for row in named):
            raise LedgerError(f"{path}: names a row beyond the {rows} of {self.data.path}: the ledger was edited")
        if not set(named) <= set(examples.rows.tolist()):
            raise LedgerError(f"{path}: names a row of {self.data.path} that has no text: the ledger was edited")
        if planted & set(named):
            raise LedgerError(f"{path}: a canary is on a side of the split: the ledger was edited")

    def _check_assignment(self, path: Path, examples: Examples, planted: frozenset[int]) -> None:
        sides = self.membership
        shares = {"holdout": sides.holdout, "reference": sides.reference_share}
        drawn = assign_membership(examples, **shares, seed=sides.seed, key=sides.key, planted=planted, unit=sides.unit)
        if (drawn["members"], drawn["nonmembers"], drawn["reference"]) != (
            sides.members,
            sides.nonmembers,
            sides.reference,
        ):
            raise LedgerError(f"{path}: membership is not what its seed draws: the ledger was edited; train again")


def assign_membership(
    examples: Examples,
    *,
    holdout: float,
    reference: float = 0.0,
    seed: int,
    key: str = "",
    planted: frozenset[int] = frozenset(),
    unit: Unit = "example",
) -> dict[str, tuple[int, ...]]:
    """Draw the side of every text, or of every user, independently: reference first, then held out with `holdout`.

    The draw is a keyed hash of the folded text, so repeated texts share one and land on one side, the order of the
    rows does not matter, and whoever has `key` and `seed` can draw it again. Nobody else can: with a public key,
    membership could be computed without the model. Rows `planted`, those of canaries, are on no side: how often each is
    trained on is part of the plan. With the unit "user" it is the user's name that is hashed. Returns the row numbers
    of each side; raises DataError where a row names no user.

    >>> import numpy as np
    >>> examples = Examples(np.arange(6), tuple("abcdef"))
    >>> assign_membership(examples, holdout=0.5, seed=7, key="k")
    {'members': (0, 1, 3, 4, 5), 'nonmembers': (2,), 'reference': ()}
    """
    secret = hashlib.sha256(f"redteam coin {seed} {key}".encode()).digest()
    names = examples.users if unit == "user" else examples.texts
    if unit == "user" and names is None:
        raise DataError("nothing says whose the rows are: name the column of users")
    key_of = user_key if unit == "user" else text_key
    sides: dict[str, list[int]] = {"members": [], "nonmembers": [], "reference": []}
    for row, name in zip(examples.rows.tolist(), names or (), strict=False):
        if row in planted:
            continue
        if unit == "user" and not name.strip():
            raise DataError(f"row {row + 1} names no user: fill it, or train without the column of users")
        digest = hmac.digest(secret, key_of(name), "sha256")
        apart = int.from_bytes(digest[:8], "big") / 2**64 < reference
        out = int.from_bytes(digest[8:16], "big") / 2**64 < holdout
        sides["reference" if apart else "nonmembers" if out else "members"].append(row)
    return {side: tuple(rows) for side, rows in sides.items()}


def _fingerprint(source: Path) -> str | None:
    """Return the fingerprint of a data file, None for a folder that is none."""
    with contextlib.suppress(DataError):
        return fingerprint(source)
    return None


def ledger_path(model: Path) -> Path:
    """Return where the ledger of a model lies: `model.pt` has `model.ledger.json` beside it, a folder holds it."""
    return model / "ledger.json" if model.is_dir() else model.with_name(f"{model.stem}.ledger.json")


def describe_data(path: Path, columns: Columns, rows: int, *, beside: Path) -> DataFile:
    """Fingerprint a data file, its path relative to the folder of the ledger at `beside`."""
    relative = os.path.relpath(path.resolve(), beside.resolve().parent)
    named = {name: getattr(columns, name) for name in ("text", "label", "id", "user", "group")}
    return DataFile(Path(relative).as_posix(), fingerprint(path), rows, named)
