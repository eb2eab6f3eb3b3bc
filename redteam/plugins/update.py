"""What reads a client's update: an attack that knows the weights a round began with, and what one client changed.

An attack is blind. It gets the public model, the update and nothing of the client's texts; what it recovered is held
against them elsewhere, beside what the same attack recovers from updates that never saw them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, WhiteBox

if TYPE_CHECKING:
    import torch

Gives = Literal["tokens", "places", "sentences"]


@dataclass(frozen=True)
class ClientUpdate:
    """What was sent: the weights after local training less those before, by the name of the parameter, in float32.

    `clients` is of how many clients it is the sum or the mean, for a server that sees no more than that.
    """

    name: str
    change: "Mapping[str, torch.Tensor]"
    clients: int = 1


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
    0 at the first special token. `notes` say in words what kept it from finding more.
    """

    tokens: frozenset[int] = frozenset()
    places: Mapping[int, int] = field(default_factory=dict)
    sentences: tuple[RecoveredSentence, ...] = ()
    notes: tuple[str, ...] = ()


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
