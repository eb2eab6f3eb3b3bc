"""RT903 placebo swap: as many words of a text are replaced, by others of their kind that must not matter.

A brittle model changes its answer whatever is changed. Its flips under a swap of groups would be called unfair, had
nobody looked what another swap does: one occupation for another, one first name for another of the same group, Monday
for Tuesday; and where a text has no such word, `the` for `this`. What counts of RT501 is what is beyond this control.

Words are taken that carry most meaning, so that the control is no weaker than the swap. A word of the swap list is
never taken, nor one that stands in the name of a label. Of names, any of which may stand for another of its group,
another of the same group takes the place of just those that the swap exchanges. Which word is taken depends on the text
and the seed alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redteam.auditing.fairness.swaps import Token, replace_words, tokens
from redteam.auditing.fairness.words import KINDS
from redteam.plugins.fairness import SwapControl


@dataclass(frozen=True)
class PlaceboSwap(SwapControl):
    """Replace words by others of their kind."""

    id = "RT903"
    name = "placebo swap"

    def replace(
        self,
        text: str,
        places: Sequence[tuple[int, int]],
        *,
        keep: frozenset[str],
        seed: int,
        names: Sequence[Sequence[str]] = (),
        kinds: Sequence[Sequence[str]] = (),
    ) -> str | None:
        """Return the text with as many other words replaced as `places`, or None; a user's `kinds` before ours."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        rng = np.random.default_rng([seed, *digest[:8]])
        parts = tokens(text)
        own = [(part, group) for part in parts for group in names if (part.start, part.end) in places]
        changes = [(part, _another(part, group, rng)) for part, group in own if part.word in group and len(group) > 1]
        if not changes:
            chosen = _candidates(parts, (*kinds, *KINDS), keep)[: len(places)]
            changes = [(part, _another(part, [w for w in kind if w not in keep], rng)) for part, kind in chosen]
        return replace_words(text, changes) if changes else None


def _candidates(
    parts: Sequence[Token], kinds: Sequence[Sequence[str]], keep: frozenset[str]
) -> list[tuple[Token, Sequence[str]]]:
    """Return the words that can be replaced, each with its kind, in the order of the kinds."""
    found = []
    for kind in kinds:
        left = [word for word in kind if word not in keep]
        if len(left) > 1:
            found += [(part, kind) for part in parts if part.word in left]
    seen: set[int] = set()
    return [each for each in found if not (each[0].start in seen or seen.add(each[0].start))]  # type: ignore[func-returns-value]


def _another(part: Token, group: Sequence[str], rng: np.random.Generator) -> str:
    others = [word for word in group if word != part.word]
    return others[int(rng.integers(len(others)))]
