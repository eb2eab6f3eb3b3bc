"""Ask updates which of two clients they are of, and which of their texts were used.

Two senders make a pair, and each is in one pair only, so that pairs are independent. Of two updates and two clients the
right assignment is told from the other: half of it is right where updates say nothing of texts, whatever the score, for
exchanging the two clients turns it round. A sender left over is held beside a user of whom there is no update, which
rests on both being alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from redteam.auditing.updates.senders import Sender
from redteam.auditing.updates.truth import Truth
from redteam.core import one_line
from redteam.core.arrays import FloatArray
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.plugins.update import ClientUpdate, UpdateControl, UpdateMembership
from redteam.report.clients import attainable
from redteam.report.values import Evidence, Failure
from redteam.statistics.exposure import mean_interval
from redteam.targets.target import WhiteBox

Signal = Literal["clients", "texts"]
_TEXTS = 32  # of a client, asked after at the most


@dataclass
class Told:
    """The share told right of each pair, by what is told, and the same of texts in an update that saw none of them."""

    attack: UpdateMembership
    right: dict[Signal, list[float]] = field(default_factory=dict)
    unseen: list[float] = field(default_factory=list)
    failure: Failure | None = None

    def evidence(self, alpha: float) -> Iterator[Evidence]:
        """Yield the mean share of each signal, with an interval over pairs."""
        for signal, shares in self.right.items():
            interval = mean_interval(shares, low=0.0, high=1.0, alpha=alpha)
            most, pairs = attainable(len(shares), alpha), len(shares)
            yield Evidence(self.attack.id, signal, "members_told", interval, pairs, pairs, most, unit="client")

    def notes(self, control: UpdateControl, alpha: float) -> Iterator[str]:
        """Say what is told in updates that saw none of the texts, which is half but for chance."""
        if self.unseen:
            held = mean_interval(self.unseen, low=0.0, high=1.0, alpha=alpha)
            yield f"{self.attack.id} texts: {control.id} told right {held.value:.2f} [{held.low:.2f}, {held.high:.2f}]"


def run_membership(
    model: WhiteBox,
    attack: UpdateMembership,
    sent: Sequence[Sender],
    left: Sequence[Truth],
    control: UpdateControl,
    *,
    seed: int,
) -> Told:
    """Return what an attack tells of senders, beside users of whom there is no update; a crash is a failure."""
    told = Told(attack)
    try:
        _Asking(model, attack, control, seed).tell(told, sent, left)
    except NotApplicable as error:
        told.failure = Failure(attack.id, "not_applicable", one_line(error))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # of an attack, which may be anybody's
        told.right, told.failure = {}, Failure(attack.id, "failed", one_line(error))
    return told


@dataclass(frozen=True)
class _Asking:
    """The model, who asks it, and who gives updates that saw none of the texts."""

    model: WhiteBox
    attack: UpdateMembership
    control: UpdateControl
    seed: int

    def tell(self, told: Told, sent: Sequence[Sender], left: Sequence[Truth]) -> None:
        """Ask every pair; raise NotApplicable where that tells nothing of any of them, or not of all."""
        if any(not part.labels for each in (*(each.truth for each in sent), *left) for part in each.parts):
            raise NotApplicable("needs the labels of texts as the model knows them")
        pairs = [(sent[i], sent[i + 1].truth, sent[i + 1].updates) for i in range(0, len(sent) - 1, 2)]
        if len(sent) % 2 and left:
            pairs.append((sent[-1], left[0], ()))
        reasons = []
        for at, pair in enumerate(pairs):
            others = [each.updates[0] for each in sent if each.truth not in (pair[0].truth, pair[1])]
            try:
                self._pair(told, *pair, others[2 * at :] or others)
            except NotApplicable as error:
                reasons.append(error)
        if reasons:
            raise reasons[0]
        if not told.right:
            raise NotApplicable("needs updates of two clients, or texts of a user of whom there is none, that differ")

    def _pair(
        self, told: Told, first: Sender, second: Truth, updates: Sequence[ClientUpdate], apart: Sequence[ClientUpdate]
    ) -> None:
        """Ask the updates of one sender, and those of the second, if there are any, after the clients of both."""
        mine, others = (_apart(truth, other) for truth, other in ((first.truth, second), (second, first.truth)))
        if not mine or not others:
            return
        own, other = self._scores(first.updates, mine, others)
        ahead = [float(a.mean() - b.mean()) for a, b in zip(own, other, strict=False)]
        above = [_above(own, other)]
        if updates:
            there, here = self._scores(updates, mine, others)
            ahead = [x + float(b.mean() - a.mean()) for x, a, b in zip(ahead, there, here, strict=False)]
            above.append(_above(here, there))
        told.right.setdefault("clients", []).append(float(np.mean([0.5 + 0.5 * np.sign(x) for x in ahead])))
        told.right.setdefault("texts", []).append(float(np.mean(above)))
        lengths = [len(text) for text in first.truth.texts]
        unseen = self.control.unseen(self.model, lengths, apart, seed=self.seed)
        told.unseen.append(_above(*self._scores([unseen], mine, others)))

    def _scores(
        self, updates: Sequence[ClientUpdate], mine: Sequence[Truth], others: Sequence[Truth]
    ) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return the scores of the texts of each client of either side, all asked together."""
        parts = [*mine, *others]
        texts = [text for part in parts for text in part.texts]
        labels = [label for part in parts for label in part.labels]
        scores = self.attack.score_rounds(self.model, updates, texts, labels, AttackContext(self.seed))
        ends = np.cumsum([len(part.texts) for part in parts])[:-1]
        split = np.split(scores, ends)
        return split[: len(mine)], split[len(mine) :]


def _apart(truth: Truth, other: Truth) -> list[Truth]:
    """Return the clients of a truth with those of their texts that the other has not, of each at most so many."""
    kept = []
    for part in truth.parts:
        rows = [i for i, text in enumerate(part.texts) if text not in other.counts][:_TEXTS]
        texts, labels = tuple(part.texts[i] for i in rows), tuple(part.labels[i] for i in rows)
        kept.append(Truth(part.client, texts, part.special, labels))
    return [part for part in kept if part.texts]


def _above(own: Sequence[FloatArray], other: Sequence[FloatArray]) -> float:
    """Return how often a text of one side has the higher score than one of the other, ties counted half."""
    first, second = np.concatenate(own)[:, None], np.concatenate(other)[None]
    return float((first > second).mean() + 0.5 * (first == second).mean())
