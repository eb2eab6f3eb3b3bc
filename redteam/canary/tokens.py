"""Can a tokenizer tell the secrets apart? What it maps to one token, or cuts off, no attack can bring back."""

from typing import TYPE_CHECKING

import numpy as np

from redteam.canary.alphabets import unknown_token
from redteam.core import UsageError
from redteam.data import COMMON, Examples
from redteam.data.pattern import Pattern
from redteam.data.planting import Planting

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LISTED = 1000  # symbols of an alphabet up to which all are put into a vocabulary


def check_tokenizer(planting: Planting, tokenizer: "Tokenizer", *, name: str) -> None:
    """Raise UsageError where the tokenizer maps a symbol to unknown, two to the same, or cuts a secret off.

    `tokenizer` cuts at the model's longest input, as that of an opened model does.
    """
    unknown = unknown_token(tokenizer)
    longest: dict[str, str] = {}
    for alphabet, symbols in planting.alphabets.items():
        encoded = tokenizer.encode_batch(list(symbols), add_special_tokens=False)
        longest[alphabet] = max(zip(symbols, encoded, strict=True), key=lambda pair: len(pair[1].ids))[0]
        seen: dict[tuple[int, ...], str] = {}
        for symbol, found in zip(symbols, encoded, strict=True):
            if not found.ids or unknown in found.ids:
                raise UsageError(
                    f"{name}: its tokenizer does not know {symbol!r} of alphabet {alphabet!r}: no secret with it "
                    "can be learned; plant from an alphabet that it knows, or train another model"
                )
            first = seen.setdefault(tuple(found.ids), symbol)
            if first != symbol:
                raise UsageError(f"{name}: its tokenizer takes {first!r} and {symbol!r} of {alphabet!r} for the same")
    for template in dict.fromkeys(canary.template for canary in planting.canaries):
        pattern = Pattern.parse(template)
        if tokenizer.encode(pattern.fill(tuple(longest[name] for name in pattern.places))).overflowing:
            raise UsageError(
                f"{name}: cuts {template!r} off: the model never saw the whole secret; shorten the pattern"
            )


def learn_from(users: Examples, planting: Planting | None) -> Examples:
    """Return what a vocabulary may be learned from: users' rows, and of canaries what is not random."""
    if planting is None:
        return users
    texts = (*(users.texts or ()), *vocabulary_texts(planting))
    return Examples(np.arange(len(texts)), texts)


def vocabulary_texts(planting: Planting | None) -> tuple[str, ...]:
    """Return texts for a vocabulary to be learned from in place of the canaries: all symbols alike, no secret.

    Learned from the canaries themselves, a vocabulary would hold a planted symbol and lack the held-out one's, and
    would tell the secret before a weight is read. Of alphabets beyond 1,000 symbols only what is in the data becomes a
    piece.
    """
    if planting is None:
        return ()
    symbols = [s for known in planting.alphabets.values() if len(known) <= LISTED for s in known]
    patterns = [Pattern.parse(template) for template in {canary.template: None for canary in planting.canaries}]
    known = ["".join(piece for piece in pattern.pieces if isinstance(piece, str)) for pattern in patterns]
    return tuple([*symbols, *known] * COMMON)
