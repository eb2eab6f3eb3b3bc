"""What was recovered of the texts behind updates, beside what the same attack recovers from an update without them.

Tokens and texts that the control's own texts hold too are left out: finding them says nothing about these.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from redteam.auditing.updates.overlap import Rouge, rouge
from redteam.auditing.updates.truth import Tokens, Truth
from redteam.plugins.update import Recovered, UpdateAttack

What = Literal["tokens", "places", "exact", "verified"]


class OfClient(NamedTuple):
    """How many of `of` things of one client were found, by the attack and in the control."""

    of: int
    found: int
    unseen: int


@dataclass(frozen=True)
class RecoveredCount:
    """What was found of the things of all clients behind one sender's updates, by client.

    `claimed` is how many things the attack named, `wrong` how many of these no text behind the updates holds.
    """

    what: What
    clients: tuple[OfClient, ...]
    claimed: int
    wrong: int

    @property
    def of(self) -> int:
        """How many things there were."""
        return sum(each.of for each in self.clients)

    @property
    def found(self) -> int:
        """How many were found."""
        return sum(each.found for each in self.clients)

    @property
    def unseen(self) -> int:
        """How many were found in the control."""
        return sum(each.unseen for each in self.clients)

    @property
    def share(self) -> float:
        """The mean over clients of the share found, less that of the control: what a guess finds too is no leak."""
        return float(np.mean([max(0, each.found - each.unseen) / each.of for each in self.clients]))


@dataclass(frozen=True)
class TextOverlap:
    """ROUGE of the texts of one client by what was found in its update and in the control's."""

    own: Rouge
    unseen: Rouge


def counts(
    attack: UpdateAttack, truth: Truth, found: Recovered, unseen: Recovered, other: Truth | None
) -> Iterator[RecoveredCount]:
    """Yield what an attack that gives it found; `other` is whose texts the control saw, if any."""
    apart = truth.tokens - (other.tokens if other is not None else frozenset())
    made = []
    if "tokens" in attack.gives:
        named = found.tokens - truth.special
        of = [
            OfClient(len(own), len(own & found.tokens), len(own & unseen.tokens))
            for own in (part.tokens & apart for part in truth.parts)
        ]
        made.append(RecoveredCount("tokens", tuple(of), len(named), len(named - truth.tokens)))
    if "places" in attack.gives:
        made.append(_of_places(truth, found, unseen, apart))
    if "sentences" in attack.gives:
        made += [_of_sentences(truth, found, unseen, other, what) for what in ("exact", "verified")]
    for each in made:
        clients = tuple(one for one in each.clients if one.of)
        if clients:
            yield RecoveredCount(each.what, clients, each.claimed, each.wrong)


def _of_places(truth: Truth, found: Recovered, unseen: Recovered, apart: frozenset[int]) -> RecoveredCount:
    of = []
    for part in truth.parts:
        once = {token: place for token, place in truth.places.items() if token in apart & part.tokens}
        of.append(OfClient(len(once), *(sum(e.places.get(w) == p for w, p in once.items()) for e in (found, unseen))))
    stands = [{text.index(token) for text in truth.texts if token in text} for token in found.places]
    wrong = sum(at != {place} for at, place in zip(stands, found.places.values(), strict=True))
    return RecoveredCount("places", tuple(of), len(found.places), wrong)


def _of_sentences(
    truth: Truth, found: Recovered, unseen: Recovered, other: Truth | None, what: Literal["exact", "verified"]
) -> RecoveredCount:
    named, by_chance = (_sentences(each, proven=what == "verified") for each in (found, unseen))
    there, chance = set(named), set(by_chance)
    of = []
    for part in truth.parts:
        own = Counter({text: n for text, n in part.counts.items() if other is None or text not in other.counts})
        right, lucky = (sum(n for text, n in own.items() if text in texts) for texts in (there, chance))
        of.append(OfClient(own.total(), right, lucky))
    return RecoveredCount(what, tuple(of), len(named), sum(text not in truth.counts for text in named))


def _sentences(found: Recovered, *, proven: bool) -> Sequence[Tokens]:
    return [each.tokens for each in found.sentences if each.verified or not proven]


def texts(truth: Truth, found: Recovered, unseen: Recovered) -> TextOverlap:
    """Return the ROUGE of a client's texts, special tokens left out."""
    own, mine, others = (
        [[token for token in text if token not in truth.special] for text in texts]
        for texts in (truth.texts, _sentences(found, proven=False), _sentences(unseen, proven=False))
    )
    return TextOverlap(rouge(own, mine), rouge(own, others))
