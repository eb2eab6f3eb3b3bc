"""The server's loop: choose clients, have them train, take the mean, step; and write each round down.

It knows neither where clients run (`engines`) nor how their answers are added up (`aggregation`). A round is done or
not: what is kept after each is all that the next depends on, so that a training that was broken off ends with the same
numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from defenses.edpsgd.noise import NoiseSource
from defenses.federated.aggregation import Aggregate, Collected, Collector, PlainSum
from defenses.federated.engines import Engine
from defenses.federated.local import RoundTask, seed_for
from defenses.federated.selection import Selection, WeightRule
from defenses.federated.server import step_by
from defenses.federated.updates import Update, add_scaled, load_weights, weights_of, zeros_like
from redteam.core import RedteamError
from redteam.core.arrays import FloatArray, IntArray
from redteam.plugins.defense import Checkpoint, Problem, Progress
from redteam.training.checkpoint import TrainingState

Holders = Sequence[IntArray]
Watch = Callable[["RoundRecord", Update, Update], None]


@dataclass(frozen=True)
class RoundRecord:
    """One round: who was chosen, who failed and why, how many rows and what mean loss there were; counted from 1."""

    round: int
    period: int
    chosen: tuple[int, ...]
    failed: dict[str, str]
    rows: int
    loss: float


@dataclass(frozen=True)
class Rounds:
    """What a training is to do: so many rounds in each period, each with `count` clients.

    `poisson` chooses every client independently, as private training must; `drop_out` is each client's chance to be
    lost in a round, `variates` whether SCAFFOLD's control variates are kept.
    """

    rounds: int
    count: int
    selection: Selection = Selection()
    weights: WeightRule = "matching"
    poisson: bool = False
    drop_out: float = 0.0
    variates: bool = False

    def choose(self, sizes: IntArray, seed: int, number: int) -> tuple[tuple[int, ...], frozenset[int]]:
        """Return who takes part in a round, and who of them is lost."""
        rng = NoiseSource(seed).generator(number, "clients")
        if self.poisson:
            chosen = np.flatnonzero(rng.random(len(sizes)) < self.selection.inclusion(sizes, self.count))
        else:
            chosen = self.selection.draw(sizes, self.count, rng)
        lost = chosen[rng.random(len(chosen)) < self.drop_out]
        return tuple(chosen.tolist()), frozenset(lost.tolist())


@dataclass
class Federation:
    """A training under way: what it trains, on whose rows in each period, where and how; `watch` sees every round.

    `watch(record, before, mean)` is told the weights before each round and the mean update, as a curious server is.
    """

    problem: Problem
    periods: Sequence[Holders]
    plan: Rounds
    engine: Engine
    aggregate: Aggregate
    collector: Collector = field(default_factory=PlainSum)
    watch: Watch | None = None
    records: list[RoundRecord] = field(default_factory=list)
    _variate: Update | None = None

    def run(self, *, seed: int, checkpoint: Checkpoint | None = None, progress: Progress | None = None) -> None:
        """Do all rounds, from where a checkpoint left off, and leave the model trained.

        Raises RedteamError where no client of a round gives anything: the finished rounds are kept.
        """
        state = TrainingState(self.problem.model, self.problem.optimizer, checkpoint)
        done = self._resume(state)
        total = self.plan.rounds * len(self.periods)
        if self.plan.variates and self._variate is None:
            self._variate = zeros_like(weights_of(self.problem.model))
        try:
            for number in state.steps(done, total, self._kept):
                record = self._round(number, seed, checkpoint)
                state.keep(number + 1, self._kept(number + 1))
                self.engine.kept(number + 1)
                if progress is not None:
                    progress(number + 1, total, record.loss)
        finally:
            self.engine.close()

    def _round(self, number: int, seed: int, checkpoint: Checkpoint | None) -> RoundRecord:
        period = number // self.plan.rounds
        holders = self.periods[period]
        sizes = np.array([len(rows) for rows in holders], dtype=np.int64)
        chosen, lost = self.plan.choose(sizes, seed, number)
        before = weights_of(self.problem.model)
        # Clients are told no more of the seed than they need: the noise follows from it.
        task = RoundTask(number, seed_for(seed, "clients"), before, self._variate, lost)
        shares = self.aggregate.shares(number, chosen, self._weights(sizes))
        task = replace(task, shares=shares, clip=self.aggregate.clip())
        found = self.collector.collect(task, self.engine.answers(task, chosen, holders))
        load_weights(self.problem.model, before)  # clients may have trained in it
        failed = {str(client): why for client, why in found.failed.items()}
        mean = self.aggregate.mean(found, task)
        if mean is None:
            raise RedteamError(_all_failed(number, found, checkpoint))
        if not all(bool(torch.isfinite(value).all()) for value in mean.values()):
            raise RedteamError(
                f"round {number + 1:,}: the sum of updates is too large for float32: a client sent what no training "
                f"gives, or its learning rate is far too high{_kept_in(number, checkpoint)}"
            )
        record = RoundRecord(number + 1, period + 1, chosen, failed, found.rows, found.loss)
        if self.watch is not None:
            self.watch(record, before, mean)
        step_by(self.problem.model, self.problem.optimizer, mean)
        if self._variate is not None and found.variate is not None:
            variate = {name: value.clone() for name, value in self._variate.items()}
            add_scaled(variate, found.variate, 1.0 / len(holders))
            self._variate = variate
        self.records.append(record)
        return record

    def _weights(self, sizes: IntArray) -> FloatArray:
        return self.plan.selection.weights(self.plan.weights, sizes)

    def _kept(self, done: int) -> dict[str, Any]:
        records = [asdict(record) for record in self.records[:done]]
        own = {"aggregate": self.aggregate.kept(), "records": records}
        return own | {"variate": None if self._variate is None else dict(self._variate)}

    def _resume(self, state: TrainingState) -> int:
        done = state.resume()
        if done:
            self.records = [_record(kept) for kept in state.extra["records"]]
            self._variate = state.extra["variate"]
            self.aggregate.take(state.extra["aggregate"])
        return done


def _record(kept: dict[str, Any]) -> RoundRecord:
    record = RoundRecord(**kept)
    return replace(record, chosen=tuple(record.chosen))


def _kept_in(number: int, checkpoint: Checkpoint | None) -> str:
    return f"; {number:,} finished rounds are kept in {checkpoint.path}" if checkpoint is not None and number else ""


def _all_failed(number: int, found: Collected, checkpoint: Checkpoint | None) -> str:
    kept = _kept_in(number, checkpoint)
    if not found.failed:
        return f"round {number + 1:,}: no client took part{kept}"
    client, why = next(iter(found.failed.items()))
    return f"round {number + 1:,}: all {len(found.failed):,} clients failed, client {client + 1} {why}{kept}"


def participation(records: Sequence[RoundRecord]) -> dict[int, int]:
    """Return how often each client's update counted."""
    counts: dict[int, int] = {}
    for client in _counted(records):
        counts[client] = counts.get(client, 0) + 1
    return counts


def _counted(records: Sequence[RoundRecord]) -> Iterator[int]:
    for record in records:
        yield from (client for client in record.chosen if str(client) not in record.failed)
