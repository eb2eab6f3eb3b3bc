"""How much longer can a tokenizer make a text? Forty times `a` to `aa` fills any memory with one letter."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer

from redteam.core import BundleError

_MOST = 1000.0  # times as long
_MOST_STEPS = 100
_SPARE = 1_000_000  # numbers that stand for nothing


def check_growth(tokenizer: Tokenizer, name: str) -> None:
    """Raise BundleError where a tokenizer's steps together could make a text more than a thousand times as long."""
    whole = json.loads(tokenizer.to_str())
    steps = [step for part in ("normalizer", "pre_tokenizer") for step in _steps(whole[part])]
    factor = 1.0
    for step in steps:
        factor = min(factor * _factor(step), 1e100)
    if factor > _MOST or len(steps) > _MOST_STEPS:
        raise BundleError(
            f"{name}: its tokenizer has {len(steps)} steps that can make a text {factor:.3g} times as long; at most "
            f"{_MOST_STEPS} steps and {_MOST:.0f} times: refused"
        )


def check_numbers(tokenizer: Tokenizer, name: str) -> None:
    """Raise BundleError where a token has a number far beyond how many there are: lists by number would not fit."""
    numbers = tokenizer.get_vocab(with_added_tokens=True)
    highest = max(numbers.values(), default=0)
    if highest > 10 * len(numbers) + _SPARE:
        token = next(token for token, number in numbers.items() if number == highest)
        raise BundleError(
            f"{name}: its tokenizer numbers {token[:40]!r} {highest:,} of {len(numbers):,} tokens: refused"
        )


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    if part is not None:
        inside = part.get("normalizers") or part.get("pretokenizers")
        if inside is None:
            yield part
        for inner in inside or ():
            yield from _steps(inner)


def _factor(step: Mapping[str, Any]) -> float:
    """Return how many times longer one step makes the worst text."""
    if step["type"] == "ByteLevel":
        return 2.0  # each byte becomes a letter, of two bytes where it is none of ASCII
    if step["type"] != "Replace":
        return 1.0
    pattern, content = step["pattern"], len(step["content"].encode())
    if pattern.get("String"):
        return max(1.0, content / len(pattern["String"].encode()))
    # a pattern matches a letter at least, unless it matches nothing: then its content goes between all letters
    return 1.0 + content if content > 1 else 1.0
