"""RT903 placebo swap: as many words of a text are replaced, by others of their kind that must not matter.

A brittle model changes its answer whatever is changed. Its flips under a swap of groups would be called unfair, had
nobody looked what another swap does: Monday for Tuesday, `was` for `is`, one first name for another of the same group.

A model learns little of a rare word and overfits it: such a one is swayed more by a rare occupation than by a
pronoun. So words are matched: of those in the text the ones are exchanged that are as common in the texts as the word
that the swap takes out, each for one as common as the word that it puts in. Since training leaves one word swaying
more than another by chance alone, there are several such versions of a text, by other words each where it has them.

A word of the swap list is never taken, nor one that stands in the name of a label. Of names, any of which may stand for
another of its group, another of the same group takes the place of just those that the swap exchanges.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redteam.auditing.fairness.swaps import Token, replace_words, tokens
from redteam.auditing.fairness.words import KINDS
from redteam.plugins.fairness import Placebos, SwapControl

_VERSIONS = 3
_RAREST = 1e-6  # share of a word that no text holds
_ALIKE = math.log(3)  # words that differ no more in how common they are count as matched
_Option = tuple[float, Token, str]  # how far from as common as what is swapped, and which word becomes which


@dataclass(frozen=True)
class PlaceboSwap(SwapControl):
    """Replace words by others of their kind that are as common as those of the swap."""

    id = "RT903"
    name = "placebo swap"

    def versions(
        self,
        text: str,
        swapped: str,
        *,
        share: Callable[[str], float],
        keep: frozenset[str],
        names: Sequence[Sequence[str]] = (),
        kinds: Sequence[Sequence[str]] = (),
    ) -> Placebos | None:
        """Return three versions, the first by the words matched best; the words of a user's `kinds` before ours."""
        parts = tokens(text)
        exchanged = [(a, b.word) for a, b in zip(parts, tokens(swapped), strict=True) if a.word != b.word]
        places = {part.start for part, _ in exchanged}
        level = [
            sum(math.log(max(share(word), _RAREST)) for word in words) / len(exchanged)
            for words in ([part.word for part, _ in exchanged], [other for _, other in exchanged])
        ]
        of_names = [part for part in parts if part.start in places]
        others = [part for part in parts if part.start not in places and part.word not in keep]
        for choice, groups, barred in ((of_names, names, frozenset()), (others, kinds, keep), (others, KINDS, keep)):
            options = _options(choice, groups, barred, level, share)
            if options:
                near = [option for option in options if option[0] <= _ALIKE]
                chosen = _picked(near or options[:1], len(exchanged))
                return Placebos(
                    tuple(replace_words(text, each) for each in chosen), matched=bool(near) or groups is kinds
                )
        return None


def _options(
    parts: Sequence[Token],
    kinds: Sequence[Sequence[str]],
    barred: frozenset[str],
    level: Sequence[float],
    share: Callable[[str], float],
) -> list[_Option]:
    """Return the ways to replace a word, the best matched first."""
    found = {
        (part, other): max(
            abs(math.log(max(share(word), _RAREST)) - own) for word, own in zip((part.word, other), level, strict=True)
        )
        for part in parts
        for kind in kinds
        if part.word in kind
        for other in kind
        if other != part.word and other not in barred
    }
    return sorted(((far, part, other) for (part, other), far in found.items()), key=lambda o: (o[0], o[1].start, o[2]))


def _picked(options: Sequence[_Option], count: int) -> list[list[tuple[Token, str]]]:
    """Return for each version up to `count` words to replace; no replacement is used twice while others are left."""
    left, versions = list(options), list[list[tuple[Token, str]]]()
    for _ in range(_VERSIONS):
        left = left or list(options)
        chosen: dict[Token, _Option] = {}
        for option in left:
            if len(chosen) < count:
                chosen.setdefault(option[1], option)
        left = [option for option in left if option not in chosen.values()]
        versions.append([(part, other) for _, part, other in chosen.values()])
    return versions
