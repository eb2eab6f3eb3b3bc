"""RD203 federated-edpsgd: clients train by RD102 on their own rows, with a guarantee for each example.

Noise is added on the device, step by step, so that neither the server nor anybody after it sees what one row does. Each
client draws Poisson batches of its rows; its number of rows is taken as public. How often it takes part is known before
training begins, so that the noise can be chosen for `epsilon` at once: one noise multiplier for all, with which the
client that is exposed most stays within it. An example is held by one client, and the guarantee is the worst client's.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch

from defenses import described
from defenses.accounting import Phase, Release, calibrate, guarantee, spent, spent_rdp
from defenses.edpsgd.checks import check_mechanism
from defenses.edpsgd.defense import EDPSGD
from defenses.edpsgd.texts import prepare
from defenses.edpsgd.trainer import PrivateTrainer
from defenses.federated.defense import Federated
from defenses.federated.engines import InProcess
from defenses.federated.local import ClientAnswer, LocalTraining, RoundTask, client_optimizer, seed_dropout, seed_for
from defenses.federated.rounds import Federation
from defenses.federated.secure.rounds import Masked, SecureSum
from defenses.federated.updates import Update, difference, load_weights, trained_of
from redteam.core import RedteamError, UsageError
from redteam.core.arrays import IntArray
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, PrivateRun, Problem, Progress, Trained

_MOST_NOISE = 1e6  # that is looked for


@dataclass(frozen=True)
class FederatedEDPSGD(Federated):
    """Train over clients whose every step is private."""

    id = "RD203"
    name = "federated-edpsgd"

    epsilon: float | None = described.EPSILON.default(8.0)
    noise_multiplier: float | None = described.NOISE_MULTIPLIER.default(None)
    delta: float = described.DELTA.default(1e-5)
    clip: float = described.CLIP.default(1.0)
    runs: int | None = described.RUNS.default(None)
    weights: Literal["all", "biases", "classifier"] | None = described.WEIGHTS.default(None)

    def __post_init__(self) -> None:
        """Refuse what clients cannot do privately."""
        super().__post_init__()
        noise = 0.0 if self.noise_multiplier is None else self.noise_multiplier
        check_mechanism(clip=self.clip, noise_multiplier=noise, physical_batch=1)
        self._central(None)  # whose checks of epsilon, delta and noise are the same
        if self.algorithm in ("scaffold", "fedprox"):
            raise UsageError(
                f"algorithm {self.algorithm}: changes the gradients that clients made private; take another"
            )
        if self.engine != "in-process":
            raise UsageError(f"engine {self.engine}: clients with noise of their own are for engine in-process alone")

    def settled(self, initial: InitialModel, rows: int) -> Self:
        """Return the trainer with what is trained chosen as well."""
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
        problem, how = trainer.problem(initial, examples, population), trainer.local_training()
        federation = trainer.federation(problem, trainer.in_time(divided, examples), how, checkpoint)
        releases = _Releases(federation, how, seed)
        noise = trainer.noise_for(releases)
        clients = NoisyClients(problem, how, noise=noise, clip=self.clip, secret=seed)
        federation.engine = clients
        if isinstance(federation.collector, SecureSum):
            federation.engine = federation.collector.clients = Masked(clients)
        federation.run(seed=seed, checkpoint=checkpoint, progress=progress)
        found = trainer.trained(initial, examples, divided, federation)
        if not noise:
            return replace(found, notes=(*found.notes, "noise multiplier 0: no epsilon is claimed"))
        worst = releases.worst(noise, self.delta) * (self.runs or 1)
        median = spent(releases.of(noise)[len(releases.known) // 2], delta=self.delta)
        told = f"noise multiplier {noise:.3g} on every device; epsilon {median:.3g} for examples of a median client"
        promised = guarantee(nominal=worst, accounted=worst, delta=self.delta)
        return replace(found, guarantee=promised, notes=(*found.notes, told))

    def train_on(
        self,
        problem: Problem,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> PrivateRun:
        """Train as one client that holds all rows does, by RD102."""
        central = self._central(self.batch_size)
        return central.train_on(problem, seed=seed, checkpoint=checkpoint, progress=progress)

    def noise_for(self, releases: "_Releases") -> float:
        """Return the noise that was given, or the smallest with which every client stays within epsilon."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        assert self.epsilon is not None
        epsilon, runs = self.epsilon, self.runs or 1
        one = max(releases.worst(1.0, self.delta), key=lambda release: release.steps)

        def repeated(sigma: float) -> Release:
            return replace(one, phases=(Phase(sigma, one.steps * runs),))

        def enough(sigma: float) -> bool:
            return spent(releases.worst(sigma, self.delta) * runs, delta=self.delta) <= epsilon

        # What one part of a client's rounds needs is the least; her other periods, and other clients, may need more.
        low = high = calibrate(epsilon=epsilon, delta=self.delta, release_of=repeated)
        while not enough(high):
            low, high = high, 1.4 * high
            if high > _MOST_NOISE:
                raise UsageError(f"epsilon {epsilon:g}: no noise is enough for so many rounds; ask for more, or fewer")
        while high > 1.003 * low:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def _central(self, batch: int | None) -> EDPSGD:
        own = {name: getattr(self, name) for name in ("epsilon", "noise_multiplier", "delta", "clip", "runs")}
        return EDPSGD(**own, batch_size=batch, epochs=self.local_epochs)


class _Releases:
    """What the rows of each client go through: by how often it is going to take part."""

    def __init__(self, federation: Federation, how: LocalTraining, seed: int) -> None:
        plan, times = federation.plan, dict[tuple[int, int], int]()
        for number in range(plan.rounds * len(federation.periods)):
            period = number // plan.rounds
            sizes = np.array([len(rows) for rows in federation.periods[period]], dtype=np.int64)
            for client in plan.choose(sizes, seed, number)[0]:
                size = int(sizes[client])
                key = (client, size)
                times[key] = times.get(key, 0) + steps_of(size, how)
        by_client: dict[int, list[tuple[float, int]]] = {}
        for (client, size), steps in times.items():
            by_client.setdefault(client, []).append((rate_of(size, how), steps))
        self.known = sorted(
            {tuple(sorted(each)) for each in by_client.values()}, key=lambda each: sum(s for _, s in each)
        )

    def of(self, noise: float) -> list[list[Release]]:
        """Return the releases of each kind of client."""
        return [[Release((Phase(noise, s),), "poisson", rate) for rate, s in each] for each in self.known]

    def worst(self, noise: float, delta: float) -> list[Release]:
        """Return the releases that spend most: by Rényi accounting, and exactly where that leaves a doubt."""
        ranked = sorted(self.of(noise), key=lambda each: -spent_rdp(each, delta=delta))
        worst, most = ranked[0], spent(ranked[0], delta=delta)
        for each in ranked[1:]:
            if spent_rdp(each, delta=delta) <= most:
                break
            if (cost := spent(each, delta=delta)) > most:
                worst, most = each, cost
        return worst


class NoisyClients(InProcess):
    """Clients in this process, each of which trains by RD102 with a secret of its own."""

    def __init__(self, problem: Problem, how: LocalTraining, *, noise: float, clip: float, secret: int) -> None:
        """Nothing is drawn yet."""
        super().__init__(problem, how)
        self.noise, self.clip, self.secret = noise, clip, secret

    def trained(self, rows: IntArray, task: RoundTask, client: int, own: Update | None) -> ClientAnswer:
        """Train one client, privately."""
        load_weights(self.problem.model, task.weights)
        seed_dropout(self.problem.model, seed_for(task.seed, task.round, client))
        optimizer = client_optimizer(list(trained_of(self.problem.model).values()), self.how)
        size, index, total = len(rows), torch.from_numpy(rows), 0.0
        named = f"{self.secret} {task.round} {client}".encode()
        private = PrivateTrainer(
            self.problem.model,
            optimizer,
            clip=self.clip,
            noise_multiplier=self.noise,
            sample_rate=rate_of(size, self.how),
            population=size,
            seed=int.from_bytes(hashlib.sha256(named).digest(), "big"),
        )
        lengths = None if self.problem.lengths is None else [self.problem.lengths[i] for i in rows.tolist()]
        steps = steps_of(size, self.how)
        try:
            for batch in private.batches(steps=steps, size=size, lengths=lengths):
                total += private.step(lambda part: self.problem.losses(index[part]), batch).loss
        except RedteamError as error:
            return ClientAnswer(client, None, failure=f"broke ({type(error).__name__})")
        finally:
            private.close()
        loss = total / steps
        return ClientAnswer(
            client, difference(self.problem.model, task.weights), size, loss if math.isfinite(loss) else 0.0
        )


def rate_of(size: int, how: LocalTraining) -> float:
    """Return the chance of a row to be in a step of a client that holds so many."""
    return min(1.0, how.batch_size / size)


def steps_of(size: int, how: LocalTraining) -> int:
    """Return the steps of a client's round."""
    return max(1, round(how.epochs / rate_of(size, how)))
