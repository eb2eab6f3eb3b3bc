"""What was recovered of one client's texts, counted beside what the same attack recovers from an update without them.

Tokens and texts that the control's own texts hold too are left out: finding them says nothing about this client.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from redteam.auditing.updates.overlap import Rouge, rouge
from redteam.auditing.updates.truth import Tokens, Truth
from redteam.plugins.update import Recovered, UpdateAttack

What = Literal["tokens", "places", "exact", "verified"]


@dataclass(frozen=True)
class RecoveredCount:
    """How many of `of` things of one client were found, by the attack on its update and on the control's.

    `claimed` is how many things the attack named in the client's update, `wrong` how many of these its texts do not
    hold.
    """

    what: What
    of: int
    found: int
    unseen: int
    claimed: int
    wrong: int

    @property
    def share(self) -> float:
        """The share that was found, less that of the control: what an attack that guesses finds is no leak."""
        return max(0, self.found - self.unseen) / self.of


@dataclass(frozen=True)
class TextOverlap:
    """ROUGE of the texts of one client by what was found in its update and in the control's."""

    own: Rouge
    unseen: Rouge


def counts(
    attack: UpdateAttack, truth: Truth, found: Recovered, unseen: Recovered, other: Truth | None
) -> Iterator[RecoveredCount]:
    """Yield what an attack that gives it found of one client's; `other` is whose texts the control saw, if any."""
    apart = truth.tokens - (other.tokens if other is not None else frozenset())
    if "tokens" in attack.gives and apart:
        named = found.tokens - truth.special
        yield RecoveredCount(
            "tokens",
            len(apart),
            len(apart & found.tokens),
            len(apart & unseen.tokens),
            len(named),
            len(named - truth.tokens),
        )
    if "places" in attack.gives:
        yield from _of_places(truth, found, unseen, apart)
    if "sentences" in attack.gives:
        yield from _of_sentences(truth, found, unseen, other)


def _of_places(truth: Truth, found: Recovered, unseen: Recovered, apart: frozenset[int]) -> Iterator[RecoveredCount]:
    once = {token: place for token, place in truth.places.items() if token in apart}
    if once:
        right, by_chance = (sum(each.places.get(w) == p for w, p in once.items()) for each in (found, unseen))
        stands = [{text.index(token) for text in truth.texts if token in text} for token in found.places]
        wrong = sum(at != {place} for at, place in zip(stands, found.places.values(), strict=True))
        yield RecoveredCount("places", len(once), right, by_chance, len(found.places), wrong)


def _of_sentences(truth: Truth, found: Recovered, unseen: Recovered, other: Truth | None) -> Iterator[RecoveredCount]:
    own = Counter({text: n for text, n in truth.counts.items() if other is None or text not in other.counts})
    whats: tuple[What, ...] = ("exact", "verified")
    for what in whats:
        if not own:
            return
        named, by_chance = (_sentences(each, proven=what == "verified") for each in (found, unseen))
        there, chance = set(named), set(by_chance)
        right, lucky = (sum(n for text, n in own.items() if text in texts) for texts in (there, chance))
        yield RecoveredCount(
            what, own.total(), right, lucky, len(named), sum(text not in truth.counts for text in named)
        )


def _sentences(found: Recovered, *, proven: bool) -> Sequence[Tokens]:
    return [each.tokens for each in found.sentences if each.verified or not proven]


def texts(truth: Truth, found: Recovered, unseen: Recovered) -> TextOverlap:
    """Return the ROUGE of a client's texts, special tokens left out."""
    own, mine, others = (
        [[token for token in text if token not in truth.special] for text in texts]
        for texts in (truth.texts, _sentences(found, proven=False), _sentences(unseen, proven=False))
    )
    return TextOverlap(rouge(own, mine), rouge(own, others))
