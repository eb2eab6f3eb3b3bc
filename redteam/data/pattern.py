"""Canary patterns: sentences with slots for a secret, such as `my pin code is {digit:4}`."""

import itertools
import re
from dataclasses import dataclass

from redteam.core import UsageError

_BRACES = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(?::\s*([0-9]{1,4})\s*)?")


@dataclass(frozen=True)
class Slot:
    """A run of `count` secret symbols, each from the same alphabet."""

    alphabet: str
    count: int


@dataclass(frozen=True)
class Pattern:
    """A parsed template: known pieces of text and slots, in the order in which they are read.

    A secret is one symbol for each place in the slots. Within a slot symbols are joined by a blank, "4 7 1 1", so that
    a tokenizer sees each as a word of its own, as in the paper (Parikh, Dupuy and Gupta, ACL 2022).

    >>> Pattern.parse("my pin code is {digit:4}").fill(("4", "7", "1", "1"))
    'my pin code is 4 7 1 1'
    """

    template: str
    pieces: tuple[str | Slot, ...]

    @classmethod
    def parse(cls, template: str) -> "Pattern":
        """Read a template; raise UsageError where it has no slot, or one that is no `{ALPHABET:COUNT}`."""
        pieces: list[str | Slot] = []
        end = 0
        for braces in _BRACES.finditer(template):
            pieces += [template[end : braces.start()], _slot(braces[1], template)]
            end = braces.end()
        pieces.append(template[end:])
        texts = [piece for piece in pieces if isinstance(piece, str)]
        if any("{" in text or "}" in text for text in texts):
            raise UsageError(f"pattern {template!r}: a brace without its other half; a slot is {{ALPHABET:COUNT}}")
        if len(pieces) == 1:
            raise UsageError(f"pattern {template!r}: has no slot for a secret; write one, such as {{digit:4}}")
        if not all(text.isprintable() for text in texts):
            raise UsageError(f"pattern {template!r}: must be one line of text that can be printed")
        _check_neighbours(template, texts)
        return cls(template, tuple(piece for piece in pieces if piece))

    @property
    def places(self) -> tuple[str, ...]:
        """The alphabet's name for each symbol of a secret, in order."""
        slots = (piece for piece in self.pieces if isinstance(piece, Slot))
        return tuple(slot.alphabet for slot in slots for _ in range(slot.count))

    def fill(self, secret: tuple[str, ...]) -> str:
        """Return the sentence with a secret, one symbol for each place, in its slots."""
        if len(secret) != len(self.places):
            raise ValueError(f"{len(secret)} symbols for the {len(self.places)} places of {self.template!r}")
        left = iter(secret)
        return "".join(
            piece if isinstance(piece, str) else " ".join(next(left) for _ in range(piece.count))
            for piece in self.pieces
        )


def _slot(inside: str, template: str) -> Slot:
    found = _SLOT.fullmatch(inside)
    if found is None:
        raise UsageError(
            f"pattern {template!r}: {{{inside}}} is no slot; write {{ALPHABET:COUNT}}, such as {{digit:4}}"
        )
    count = int(found[2] or 1)
    if count < 1:
        raise UsageError(f"pattern {template!r}: {{{inside}}} holds no symbol; the count must be at least 1")
    return Slot(found[1], count)


def _check_neighbours(template: str, texts: list[str]) -> None:
    """Refuse what stands so close to a slot that a tokenizer would read it and the first symbol as one word."""
    for before, after in itertools.pairwise(texts):
        if before[-1:].isalnum() or after[:1].isalnum():
            raise UsageError(f"pattern {template!r}: put a blank between a slot and the word beside it")
    if any(not text for text in texts[1:-1]):
        raise UsageError(f"pattern {template!r}: put a blank between two slots")
