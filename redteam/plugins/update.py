"""What reads a client's update: an attack that knows the weights a round began with, and what one client changed.

An attack is blind. It gets the public model, the update and nothing of the client's texts; what it recovered is held
against them elsewhere, beside what the same attack recovers from updates that never saw them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from redteam.core.arrays import FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, WhiteBox

if TYPE_CHECKING:
    import torch

Gives = Literal["tokens", "places", "sentences"]


@dataclass(frozen=True)
class ClientUpdate:
    """What was sent: the weights after local training less those before, by the name of the parameter, in float32.

    `clients` is of how many clients it is the sum or the mean, for a server that sees no more than that. `before` holds
    the weights its round began with, where that is another round than the model's.
    """

    name: str
    change: "Mapping[str, torch.Tensor]"
    clients: int = 1
    before: "Mapping[str, torch.Tensor] | None" = None


@dataclass(frozen=True)
class RecoveredSentence:
    """A text as token ids, first and last special token included.

    `label` is the index of the label that it was trained on, `weight` its share in the update, proportional to how
    often it stands in it. `verified`: its own gradient was computed and is the part of the update that it was taken
    for; others are the likeliest guess.
    """

    tokens: tuple[int, ...]
    label: int | None = None
    weight: float = 0.0
    verified: bool = False


@dataclass(frozen=True)
class Recovered:
    """What an attack read out of one update.

    `tokens` are ids of the vocabulary; `places` the position of a token that stands at one position only, counted from
    0 at the first special token. `notes` say in words what kept it from finding more; `complete`: nothing is left.
    """

    tokens: frozenset[int] = frozenset()
    places: Mapping[int, int] = field(default_factory=dict)
    sentences: tuple[RecoveredSentence, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool = False


class UpdateAttack(ABC):
    """An adversary who sees updates, such as the server of a federation: settings in the constructor.

    `id` is stable and never re-used, `gives` says what it recovers, `taxonomy` what standards call it.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access] = Access.WEIGHTS | Access.UPDATES
    gives: ClassVar[tuple[Gives, ...]]
    taxonomy: ClassVar[Taxonomy | None] = None

    @abstractmethod
    def recover(self, model: WhiteBox, update: ClientUpdate, context: AttackContext) -> Recovered:
        """Return what the update says of the texts it was trained on, from the weights before it.

        The model is left as it was. Raises NotApplicable where its kind is one that the attack does not know, or the
        update holds nothing that it reads.
        """

    def recover_rounds(self, model: WhiteBox, updates: Sequence[ClientUpdate], context: AttackContext) -> Recovered:
        """Return what several rounds say together: unless an attack knows better, what each says by itself.

        Raises NotApplicable where none holds anything that it reads; where some do not, a note says how many.
        """
        found, reasons = list[Recovered](), list[NotApplicable]()
        for update in updates:
            with at_round(model, update):
                try:
                    found.append(self.recover(model, update, context))
                except NotApplicable as error:
                    reasons.append(error)
        return together(found, reasons)


def together(found: Sequence[Recovered], reasons: Sequence[NotApplicable] = ()) -> Recovered:
    """Return what was recovered of several updates, each thing once; raise the first reason where there is nothing.

    A token that stands at different positions in two of them has no position; of a sentence the proven one is kept.
    """
    if not found:
        raise reasons[0]
    at: dict[int, set[int]] = {}
    for each in found:
        for token, place in each.places.items():
            at.setdefault(token, set()).add(place)
    sentences: dict[tuple[int, ...], RecoveredSentence] = {}
    for one in sorted((s for each in found for s in each.sentences), key=lambda s: (not s.verified, -s.weight)):
        sentences.setdefault(one.tokens, one)
    notes = dict.fromkeys(note for each in found for note in each.notes)
    if reasons:
        notes[f"{len(reasons)} of {len(found) + len(reasons)} updates do not apply: {reasons[0]}"] = None
    return Recovered(
        frozenset().union(*(each.tokens for each in found)),
        {token: min(places) for token, places in at.items() if len(places) == 1},
        tuple(sentences.values()),
        tuple(notes),
    )


@contextmanager
def at_round(model: WhiteBox, update: ClientUpdate) -> Iterator[None]:
    """Let the model have the weights that an update's round began with; then it is as it was."""
    if update.before is None:
        yield
        return
    own = dict(model.model.named_parameters())
    kept = {name: own[name].detach().clone() for name in update.before}
    try:
        _put(own, update.before)
        yield
    finally:
        _put(own, kept)


def _put(parameters: "Mapping[str, torch.Tensor]", weights: "Mapping[str, torch.Tensor]") -> None:
    for name, value in weights.items():
        parameters[name].data.copy_(value)


class UpdateMembership(ABC):
    """An adversary who asks of a text whether an update was trained on it: settings in the constructor."""

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access] = Access.WEIGHTS | Access.UPDATES
    taxonomy: ClassVar[Taxonomy | None] = None

    @abstractmethod
    def score(
        self,
        model: WhiteBox,
        update: ClientUpdate,
        texts: Sequence[tuple[int, ...]],
        labels: Sequence[int],
        context: AttackContext,
    ) -> FloatArray:
        """Return one number per text, shape [n], higher meaning "was trained on"; texts are token ids, ends counted.

        Nothing says which are members. The model is left as it was. Raises NotApplicable where the update holds nothing
        that is read.
        """

    def score_rounds(
        self,
        model: WhiteBox,
        updates: Sequence[ClientUpdate],
        texts: Sequence[tuple[int, ...]],
        labels: Sequence[int],
        context: AttackContext,
    ) -> FloatArray:
        """Return the same of several rounds together: the mean of those that are read; NotApplicable where none is."""
        scores, reasons = list[FloatArray](), list[NotApplicable]()
        for update in updates:
            with at_round(model, update):
                try:
                    scores.append(self.score(model, update, texts, labels, context))
                except NotApplicable as error:
                    reasons.append(error)
        if not scores:
            raise reasons[0]
        mean: FloatArray = np.mean(scores, axis=0)
        return mean


class UpdateControl(ABC):
    """A check of the attacks: it gives updates in which nothing can be found, since they never saw the texts."""

    id: ClassVar[str]
    name: ClassVar[str]

    @abstractmethod
    def unseen(
        self, model: WhiteBox, lengths: Sequence[int], others: Sequence[ClientUpdate], *, seed: int
    ) -> ClientUpdate:
        """Return an update that never saw a client's texts.

        Those have `lengths` tokens each, ends counted; `others` are updates of other clients, if there are any.
        """
