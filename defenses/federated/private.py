"""RD202 federated-private: training over clients with differential privacy for each client as a whole.

Every client takes part in a round independently, its update is clipped, noise goes onto the sum before the server's
step (DP-FedAvg, McMahan et al. 2018). The guarantee is the worst client's: with `selection` other than uniform, clients
with many rows take part more often and are protected less, and what is reported is the epsilon of the worst and of the
median client. All clients count alike, or with `cap` by their rows up to so many. `epsilon` chooses the noise,
`noise_multiplier` sets it; it is relative to what one client can move, `clip`.

Who runs the server sees single updates unless `secure_aggregation` is on; the guarantee is about the released model.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from defenses import described
from defenses.accounting import Release, calibrate, spent, warnings_about
from defenses.edpsgd.checks import check_mechanism
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.texts import prepare
from defenses.federated.defense import Federated
from defenses.federated.flower.job import ClientData
from defenses.federated.local import LocalTraining
from defenses.federated.privacy import AdaptiveClip, Participation, PrivateMean, capped
from defenses.federated.rounds import Federation, Holders
from defenses.federated.selection import WeightRule
from redteam.core import RedteamError, UsageError
from redteam.core.parallel import one_thread
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Mechanism, PrivateRun, Problem, Progress, Trained
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class PrivateFederated(Federated):
    """Train over clients with a guarantee for each of them."""

    id = "RD202"
    name = "federated-private"
    canaries = 1_000  # each is a client that trains the whole model

    epsilon: float | None = described.EPSILON.default(8.0)
    noise_multiplier: float | None = described.NOISE_MULTIPLIER.default(None)
    delta: float = described.DELTA.default(1e-5)
    clip: float = Setting("L2 norm that updates are clipped to.", above=0).default(0.5)
    clip_quantile: float | None = Setting(
        "Let the clip follow this quantile of the norms; none: it stays.", above=0, below=1
    ).default(None)
    cap: int | None = Setting("Clients count by their rows, up to so many; none: alike.", "rows", least=1).default(None)
    secure_noise: bool = Setting("Cryptographically secure noise, or none at all.").default(False)
    epochs: int | None = Setting(
        "Instead of rounds: in how many each client is to be expected.", "rounds", least=1
    ).default(None)
    runs: int | None = described.RUNS.default(None)
    weights: Literal["all", "biases", "classifier"] | None = described.WEIGHTS.default(None)
    aggregation: WeightRule = Setting("equal: what noise can hide; see cap.").default("equal")

    def __post_init__(self) -> None:
        """Refuse what cannot be private."""
        super().__post_init__()
        noise = 0.0 if self.noise_multiplier is None else self.noise_multiplier
        check_mechanism(clip=self.clip, noise_multiplier=noise, physical_batch=1)
        if not 0 < self.delta < 1:
            raise UsageError(f"delta {self.delta:g}: must lie above 0 and below 1, and well below 1 / clients")
        if self.epsilon is None and self.noise_multiplier is None:
            raise UsageError("neither epsilon nor noise_multiplier: give one of them (noise_multiplier 0: no privacy)")
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon {self.epsilon:g}: must be a positive number, such as 8")
        if self.aggregation != "equal":
            raise UsageError(
                f"aggregation {self.aggregation}: one client could count for almost all, and noise would not hide it; "
                "leave it out, and say cap=ROWS to weigh by rows up to a bound"
            )
        if self.algorithm == "scaffold":
            raise UsageError("algorithm scaffold: its control variates would leave clients without noise; take another")

    def settled(self, initial: InitialModel, rows: int) -> Self:
        """Return the trainer with what is trained chosen as well: all weights, of pretrained models biases."""
        found = super().settled(initial, rows)
        usual: Literal["all", "biases", "classifier"] = "biases" if initial.pretrained else "all"
        return replace(found, weights=self.weights or ("classifier" if initial.pooled else usual))

    def fit(
        self,
        initial: InitialModel,
        examples: Examples,
        *,
        seed: int,
        population: int | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train; who knows `seed` can subtract the noise, so it should be a secret one."""
        trainer = self.settled(initial, population or len(examples))
        prepare(initial, trainer.weights)
        divided = trainer.divide(examples, seed)
        problem = trainer.problem(initial, examples, population)
        periods = trainer.in_time(divided, examples)
        federation, taking_part, noise = trainer.private(problem, periods, trainer.local_training(), seed, checkpoint)
        trainer.elsewhere(federation, initial, ClientData("labels", examples), divided)
        federation.run(seed=seed, checkpoint=checkpoint, progress=progress)
        trainer.check_done(federation)
        found = trainer.trained(initial, examples, divided, federation)
        guarantee = taking_part.guarantee(noise, delta=self.delta, runs=self.runs or 1) if noise else None
        notes = (*found.notes, *trainer.privately(taking_part, noise))
        return replace(found, guarantee=guarantee, notes=notes)

    def train_on(
        self,
        problem: Problem,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> PrivateRun:
        """Train by the loop of `fit` on clients of one row each, which take one step of their own at rate 1.

        A round then has `batch_size` clients, if `clients_per_round` says nothing else.
        """
        count = self.clients_per_round or self.batch_size
        own = replace(self, clients_per_round=min(count or problem.population, problem.population), selection="uniform")
        how = LocalTraining(1, 1, "sgd", 1.0, largest_gradient=None)
        rows: Holders = [np.array([row]) for row in range(problem.size)]
        federation, taking_part, noise = own.private(problem, [rows], how, seed, checkpoint)
        with one_thread():  # a client's step is too small for two, which wait for each other
            federation.run(seed=seed, checkpoint=checkpoint, progress=progress)
        guarantee = taking_part.guarantee(noise, delta=self.delta, runs=self.runs or 1) if noise else None
        mechanism = Mechanism(self.clip, noise, float(taking_part.chances[0, 0]), federation.plan.rounds, "poisson")
        return PrivateRun(mechanism, guarantee)

    def private(
        self, problem: Problem, periods: list[Holders], how: LocalTraining, seed: int, checkpoint: Checkpoint | None
    ) -> tuple[Federation, Participation, float]:
        """Return the training, how much its clients take part, and its noise multiplier; all from public numbers."""
        federation = self.federation(problem, periods, how, checkpoint)
        rounds = self.rounds
        if self.epochs is not None:
            rounds = max(1, round(self.epochs * len(periods[0]) / federation.plan.count))
        plan = replace(federation.plan, poisson=True, rounds=rounds)
        sizes = [np.array([len(held) for held in holders], dtype=np.int64) for holders in periods]
        chances = np.stack([plan.selection.inclusion(each, plan.count) for each in sizes])
        weights = np.stack([capped(each.astype(np.float64), self.cap) for each in sizes])
        taking_part = Participation(chances, weights, plan.rounds)
        noise = self.noise_for(taking_part)
        source = NoiseSource(seed, secure=self.secure_noise)
        federation.plan = plan
        federation.aggregate = PrivateMean(source, self.clip, noise, taking_part, self.adaptive(plan.count, noise))
        return federation, taking_part, noise

    def adaptive(self, count: int, noise: float) -> AdaptiveClip | None:
        """Return how the clip adapts: the paper's rate 0.2, and a twentieth of a round's clients as noise, or more."""
        if self.clip_quantile is None or not noise:
            return None
        return AdaptiveClip(self.clip_quantile, 0.2, max(1.0, count / 20, noise))

    def noise_for(self, taking_part: Participation) -> float:
        """Return the noise multiplier that was given, or the smallest that keeps the worst client within epsilon."""
        runs = self.runs or 1
        if self.noise_multiplier is not None:
            cost = spent([taking_part.worst(self.noise_multiplier)] * runs, delta=self.delta)
            if self.noise_multiplier and not cost < math.inf:
                raise UsageError(f"noise_multiplier {self.noise_multiplier:g} gives no finite epsilon: take more, or 0")
            if self.epsilon is not None and not cost <= self.epsilon:
                raise UsageError(
                    f"noise_multiplier {self.noise_multiplier:g} spends epsilon {cost:.3g} on the worst client, above "
                    f"the epsilon {self.epsilon:g} asked for: leave one of the two out"
                )
            return self.noise_multiplier
        assert self.epsilon is not None

        def worst(sigma: float) -> Release:
            release = taking_part.worst(sigma)
            return replace(release, phases=release.phases * runs)

        return calibrate(epsilon=self.epsilon, delta=self.delta, release_of=worst)

    def check_done(self, federation: Federation) -> None:
        """Raise RedteamError where no client ever gave anything: what was trained is noise."""
        if not any(record.rows for record in federation.records):
            raise RedteamError(
                f"in {len(federation.records):,} rounds no client gave an update: what was made is noise"
            )

    def privately(self, taking_part: Participation, noise: float) -> tuple[str, ...]:
        """Return what whoever trained must know of the guarantee."""
        if not noise:
            return ("noise multiplier 0: nothing hides what one client does, so no epsilon is claimed",)
        worst, median = taking_part.epsilons(noise, self.delta)
        clients, q = taking_part.chances.shape[1], taking_part.chances
        chances = f"{q[q > 0].min():.3g} to {q.max():.3g}"
        told = warnings_about(
            [taking_part.worst(noise)] * (self.runs or 1), delta=self.delta, population=clients, runs=self.runs
        )
        return (
            f"epsilon at delta {self.delta:g}: {worst:.3g} for the worst client, {median:.3g} for the median one, who "
            f"take part in a round with chances of {chances}; noise multiplier {noise:.3g}",
            f"the number of clients, {clients:,}, and their numbers of rows are taken as public",
            *told,
        )
