"""How the answers of a round become one mean update: each is looked at, added and forgotten.

Two parts that know nothing of each other. A `Collector` adds up what comes, in the open (`PlainSum`) or under masks
(`secure`); it is told the answers one at a time and keeps a running sum, never the updates. An `Aggregate` says before
the round how much each client counts and how far its update may go, and afterwards what the sum stands for. An answer
that is broken, because its client is, or is hostile, is a failure in the round's record and counts for nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from defenses.federated.local import ClientAnswer, RoundTask
from defenses.federated.updates import Update, add_scaled, norm_of, trouble_with, zeros_like
from redteam.core.arrays import FloatArray

_SAFE = 1 - 1e-6  # a clipped update in float32 must not be longer than the clip


@dataclass
class Collected:
    """The sum of a round's contributions; who counted, who failed and why; rows and mean loss.

    `below` is the weighted sum of +1/2 for each update within the clip and -1/2 for others, `variate` that of the
    changes of SCAFFOLD's control variates.
    """

    total: dict[str, Tensor]
    failed: dict[int, str] = field(default_factory=dict)
    counted: list[int] = field(default_factory=list)
    rows: int = 0
    loss: float = 0.0
    below: float = 0.0
    variate: dict[str, Tensor] | None = None


class Collector(Protocol):
    """Something that adds up answers."""

    def collect(self, task: RoundTask, answers: Iterator[ClientAnswer]) -> Collected:
        """Return the sum of a round."""


class Aggregate(Protocol):
    """Something that makes a mean of a sum."""

    def clip(self) -> float | None:
        """Return the norm that updates are clipped to in the next round; None: as they are."""

    def shares(self, number: int, chosen: Sequence[int], weights: FloatArray) -> Mapping[int, float]:
        """Return how much each of the chosen counts in a round, at most 1, where they have these weights, [clients]."""

    def mean(self, found: Collected, task: RoundTask) -> Update | None:
        """Return the mean update that a sum stands for; None where no client counted."""

    def kept(self) -> dict[str, Any]:
        """Return what the next rounds need of the ones before, in plain values."""

    def take(self, kept: dict[str, Any]) -> None:
        """Go on with what was kept."""


class PlainSum:
    """The sum of what comes, in the open."""

    def collect(self, task: RoundTask, answers: Iterator[ClientAnswer]) -> Collected:
        """Add each answer's contribution and forget it."""
        found, losses, shares = Collected(zeros_like(task.weights)), 0.0, 0.0
        for answer in (checked(answer, task) for answer in answers):
            if answer.update is None:
                found.failed[answer.client] = answer.failure
                continue
            share = task.shares[answer.client]
            found.below += add_contribution(found.total, answer.update, share, task.clip)
            found.counted.append(answer.client)
            found.rows += answer.rows
            losses, shares = losses + share * answer.loss, shares + share
            if answer.variate is not None:
                found.variate = found.variate or zeros_like(answer.variate)
                add_scaled(found.variate, answer.variate, 1.0)
        found.loss = losses / shares if shares else 0.0
        return found


class WeightedMean:
    """The mean of the updates by weights, over the clients that answered."""

    def clip(self) -> float | None:
        """Updates count as they are."""
        return None

    def shares(self, number: int, chosen: Sequence[int], weights: FloatArray) -> Mapping[int, float]:
        """Return the weights, the largest of them 1."""
        largest = max((float(weights[k]) for k in chosen), default=1.0) or 1.0
        return {k: float(weights[k]) / largest for k in chosen}

    def mean(self, found: Collected, task: RoundTask) -> Update | None:
        """Divide by the weights of those that answered."""
        of = sum(task.shares[k] for k in found.counted)
        return {name: value / of for name, value in found.total.items()} if of > 0 else None

    def kept(self) -> dict[str, Any]:
        """Nothing outlives a round."""
        return {}

    def take(self, kept: dict[str, Any]) -> None:
        """Nothing is needed."""


def add_contribution(total: dict[str, Tensor], update: Update, share: float, clip: float | None) -> float:
    """Add an update, clipped and weighed, to a sum in place; return +-1/2 of its share: is it within the clip?"""
    if clip is None:
        add_scaled(total, update, share)
        return 0.0
    norm = norm_of(update)
    add_scaled(total, update, share * clip_factor(norm, clip))
    return 0.5 * share if norm <= clip else -0.5 * share


def clip_factor(norm: float, clip: float) -> float:
    """Return by what an update of that norm is multiplied to be no longer than the clip."""
    return 1.0 if norm <= clip * _SAFE else clip * _SAFE / norm


def checked(answer: ClientAnswer, task: RoundTask) -> ClientAnswer:
    """Return an answer whose update can be added up, else a failure that says what is wrong with it."""
    if answer.update is None:
        return answer
    trouble = trouble_with(answer.update, task.weights)
    if trouble is None and not math.isfinite(answer.loss):
        trouble = "sent a loss that is not finite"
    if trouble is None and answer.variate is not None:
        trouble = trouble_with(answer.variate, task.weights)
    return answer if trouble is None else replace(answer, update=None, variate=None, failure=trouble)
