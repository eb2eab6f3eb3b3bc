"""`RELEASED.privatised.json`: how a released file was made, and what is known of it. Private (0600), beside that file.

It names the file with the texts as they were by relative path and SHA-256, and holds no text.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redteam import core
from redteam.core import LedgerError, read_text
from redteam.core.files import write_atomic
from redteam.data import fingerprint
from redteam.data.ledger import DataFile

FORMAT = "redteam.privatised/1"
Unknown = Literal["mask", "class", "keep"]


@dataclass(frozen=True)
class WordTally:
    """What came of the words of a file: how many, not in the vocabulary, the same as before; and of its texts."""

    words: int = 0
    unknown: int = 0
    unchanged: int = 0
    texts: int = 0
    texts_unchanged: int = 0
    longest: int = 0

    def plus(self, other: "WordTally") -> "WordTally":
        """Return the tally of both together."""
        return WordTally(
            self.words + other.words,
            self.unknown + other.unknown,
            self.unchanged + other.unchanged,
            self.texts + other.texts,
            self.texts_unchanged + other.texts_unchanged,
            max(self.longest, other.longest),
        )


@dataclass(frozen=True)
class Privatisation:
    """How a file was privatised: the mechanism with its settings and vectors, its source, and what it promises.

    `epsilon` is of a word for each unit of `distance`, `plain` of a word whatever the distance; where whole texts are
    rewritten, `unit`, both are of a text, at `delta`. They hold where `randomness` is the operating system's and what
    was learned is `public`. `path` and `sha256` of `source` are of the texts as they were.
    """

    mechanism: str
    settings: dict[str, Any]
    embeddings: str
    embeddings_sha256: str
    unknown: Unknown
    randomness: Literal["operating system", "seed"]
    epsilon: float
    plain: float
    distance: str
    source: DataFile
    released_sha256: str
    tally: WordTally
    tool_version: str
    unit: Literal["word", "text"] = "word"
    delta: float = 0.0
    public: bool = True
    format: str = FORMAT

    @property
    def summary(self) -> dict[str, Any]:
        """What the ledger of a model that is trained on the file says of it."""
        kept = (
            "mechanism",
            "epsilon",
            "plain",
            "distance",
            "embeddings",
            "unknown",
            "randomness",
            "unit",
            "delta",
            "public",
        )
        return {name: getattr(self, name) for name in kept} | {"source_sha256": self.source.sha256}

    def save(self, path: Path) -> None:
        """Write the record, readable by its owner only, whole or not at all."""
        write_atomic(path, json.dumps(core.encode(self), indent=2, allow_nan=False) + "\n", mode=0o600)


def record_path(released: Path) -> Path:
    """Return where the record of a released file lies: `private.csv` has `private.privatised.json` beside it."""
    return released.with_name(f"{released.stem}.privatised.json")


def load_record(released: Path) -> Privatisation:
    """Read the record beside a released file; LedgerError where it is missing, broken, or of another file."""
    path = record_path(released)
    try:
        found = core.parse(Privatisation, read_text(path), "record", format=FORMAT, advice="privatise again")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise LedgerError(f"{path}: cannot be read ({reason}): redteam privatise writes it beside its output") from None
    except ValueError as error:
        raise LedgerError(f"{path}: {error}") from None
    if fingerprint(released) != found.released_sha256:
        raise LedgerError(f"{released}: is not the file that {path.name} was written for; privatise again")
    return found


def record_beside(released: Path | str) -> Privatisation | None:
    """Return the record of a data file, None where it has none or is no file; LedgerError where it is of another."""
    return load_record(released) if isinstance(released, Path) and record_path(released).exists() else None
