"""How the answers of a round become one mean update: each is looked at, added and forgotten.

An aggregate is told the answers one at a time and keeps a running sum, never the updates. One that is broken, because a
client is, or is hostile, is a failure in the round's record and counts for nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from defenses.federated.local import ClientAnswer, RoundTask
from defenses.federated.updates import Update, add_scaled, trouble_with, zeros_like
from redteam.core.arrays import FloatArray


@dataclass
class Collected:
    """What came of a round: the mean update (None: no client counted), who failed and why, rows and losses.

    `variate` is the sum of the changes of SCAFFOLD's control variates.
    """

    mean: Update | None = None
    failed: dict[int, str] = field(default_factory=dict)
    counted: list[int] = field(default_factory=list)
    rows: int = 0
    losses: float = 0.0
    variate: dict[str, Tensor] | None = None

    def note(self, answer: ClientAnswer) -> None:
        """Count a client whose update is in the sum."""
        self.counted.append(answer.client)
        self.rows += answer.rows
        self.losses += answer.loss * answer.rows
        if answer.variate is not None:
            if self.variate is None:
                self.variate = zeros_like(answer.variate)
            add_scaled(self.variate, answer.variate, 1.0)

    @property
    def loss(self) -> float:
        """The mean loss of the clients, by their rows."""
        return self.losses / self.rows if self.rows else 0.0


class Aggregate(Protocol):
    """Something that makes a mean of answers; `weights` are how much each client counts, [clients]."""

    def collect(self, task: RoundTask, answers: Iterator[ClientAnswer], weights: FloatArray) -> Collected:
        """Return what came of a round."""

    def kept(self) -> dict[str, Any]:
        """Return what the next rounds need of the ones before, in plain values."""

    def take(self, kept: dict[str, Any]) -> None:
        """Go on with what was kept."""


class WeightedMean:
    """The mean of the updates by weights, over the clients that answered."""

    def collect(self, task: RoundTask, answers: Iterator[ClientAnswer], weights: FloatArray) -> Collected:
        """Add up what comes; a client that failed is left out of the mean's weights too."""
        found, total, of = Collected(), zeros_like(task.weights), 0.0
        for answer in (checked(answer, task) for answer in answers):
            if answer.update is None:
                found.failed[answer.client] = answer.failure
                continue
            add_scaled(total, answer.update, float(weights[answer.client]))
            of += float(weights[answer.client])
            found.note(answer)
        if of > 0:
            found.mean = {name: value / of for name, value in total.items()}
        return found

    def kept(self) -> dict[str, Any]:
        """Nothing outlives a round."""
        return {}

    def take(self, kept: dict[str, Any]) -> None:
        """Nothing is needed."""


def checked(answer: ClientAnswer, task: RoundTask) -> ClientAnswer:
    """Return an answer whose update can be added up, else a failure that says what is wrong with it."""
    if answer.update is None:
        return answer
    trouble = trouble_with(answer.update, task.weights)
    if trouble is None and answer.variate is not None:
        trouble = trouble_with(answer.variate, task.weights)
    return answer if trouble is None else replace(answer, update=None, variate=None, failure=trouble)
