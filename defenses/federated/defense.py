"""RD201 federated: clients train on rows of their own, and a server takes the mean of what they send.

Nothing is guaranteed: the mean of updates tells about their texts what gradients do. What it changes for an audit is
who sees what, and that the unit is a client. Algorithms: FedAvg (McMahan et al. 2017), FedProx (Li et al. 2020), FedOPT
(Reddi et al. 2021) and SCAFFOLD (Karimireddy et al. 2020). Data that name their users are divided by user; others are
divided by label, size or topic, to see what skew does.

With `periods` the rows come in consecutive parts, by their order in the file: each period starts from the weights of
the one before and has only its own rows (`old_data` kept: all so far), and clients are chosen by how many rows they
have now. `secure_aggregation` has the server see nothing but sums.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import nn

from defenses import described
from defenses.edpsgd.texts import text_problem
from defenses.federated.aggregation import PlainSum, WeightedMean
from defenses.federated.engines import Engine, InProcess
from defenses.federated.flower.engine import OverFlower
from defenses.federated.flower.job import ClientData
from defenses.federated.flower.masking import MaskedNodes
from defenses.federated.local import ClientOptimizer, LocalTraining
from defenses.federated.partitions import Partition, PartitionRule, partition, periods_of
from defenses.federated.rounds import Federation, Holders, Rounds, participation
from defenses.federated.secure.rounds import Masked, SecureSum
from defenses.federated.selection import Selection, SelectionRule, WeightRule, check_count
from defenses.federated.server import ServerRule, server_optimizer
from redteam.core import UsageError
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.plugins.defense import Checkpoint, Defense, Problem, Progress, Trained
from redteam.plugins.settings import Setting

Algorithm = Literal["fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "scaffold"]

_SERVER: dict[str, ServerRule] = {"fedadam": "adam", "fedyogi": "yogi", "fedadagrad": "adagrad"}
_SERVER_RATES = {"adam": 0.01, "yogi": 0.01, "adagrad": 0.03}
_SGD_RATE = 0.1
_USUAL_CLIENTS = 10
_BATCH = 16


@dataclass(frozen=True)
class Federated(Defense):
    """Train over clients; what is None is chosen for the data and the model."""

    id = "RD201"
    name = "federated"
    divides = True

    partition: PartitionRule | None = Setting(
        "Who holds which rows; none: users where the data names them, else labels (Dirichlet)."
    ).default(None)
    clients: int = Setting("Clients, where they are not the data's users.", "clients", least=1).default(10)
    concentration: float = Setting(
        "Dirichlet's concentration over labels or topics; small is skewed.", above=0
    ).default(1.0)
    exponent: float = Setting("Of Zipf's law, or of the log-normal its deviation.", least=0).default(1.0)
    rounds: int = Setting("Rounds, of each period.", "rounds", least=1).default(30)
    clients_per_round: int | None = Setting("Clients of a round; none: 10, or all.", "clients", least=1).default(None)
    selection: SelectionRule = Setting("How rounds choose clients by their rows.").default("uniform")
    power: float = Setting("With selection power: of the number of rows.", least=0, most=10).default(0.5)
    threshold: int = Setting("With selection threshold: rows that a client must have.", "rows", least=1).default(10)
    aggregation: WeightRule = Setting("How clients count: matching gives every row the same say.").default("matching")
    algorithm: Algorithm = Setting("What clients and server do.").default("fedavg")
    server_rate: float | None = Setting("Rate of the server's step; none: the algorithm's.", above=0).default(None)
    server_momentum: float = Setting("With fedavg, fedprox: of the server's step.", least=0, below=1).default(0.0)
    proximal: float = Setting("With fedprox: mu, how far clients are held back.", least=0).default(0.1)
    local_epochs: int = Setting("Passes of a client over its rows in a round.", "passes", least=1).default(1)
    client_optimizer: ClientOptimizer | None = Setting("Of clients; none: adamw, with scaffold sgd.").default(None)
    batch_size: int | None = Setting("Rows of a client's step; none: 16.", "rows", least=1).default(None)
    learning_rate: float | None = Setting("Of clients; none: the model's, with sgd 0.1.", above=0, most=10).default(
        None
    )
    weight_decay: float = described.WEIGHT_DECAY.default(0.0)
    drop_out: float = Setting("Chance of a chosen client to be lost in a round.", least=0, below=1).default(0.0)
    secure_aggregation: bool = Setting("Have the server see nothing but sums of updates.").default(False)
    engine: Literal["in-process", "ray", "superlink"] = Setting(
        "Where clients run: here, by Flower on Ray, or on a SuperLink's nodes."
    ).default("in-process")
    superlink: str | None = Setting("With engine superlink: HOST:PORT.").default(None)
    certificates: str | None = Setting("With engine superlink: root certificates; none: without TLS.").default(None)
    nodes: int | None = Setting("With ray, superlink: nodes; none: as many as clients.", "nodes", least=1).default(None)
    periods: int = Setting("Consecutive parts the rows come in.", "periods", least=1).default(1)
    old_data: Literal["deleted", "kept"] = Setting("With periods: what becomes of the rows of those before.").default(
        "deleted"
    )

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.engine == "superlink") != (self.superlink is not None):
            raise UsageError("engine superlink and superlink=HOST:PORT go together: give both or neither")
        if self.engine != "in-process" and self.algorithm == "scaffold":
            raise UsageError(f"engine {self.engine}: scaffold is for engine in-process alone; leave one of them out")
        if self.algorithm == "scaffold" and self.secure_aggregation:
            raise UsageError("secure_aggregation: scaffold's control variates are not masked; take another algorithm")
        if self.algorithm == "scaffold" and self.client_optimizer == "adamw":
            raise UsageError("client_optimizer adamw: scaffold corrects gradients of sgd; leave it out")
        if not 0 <= self.drop_out < 1:
            raise UsageError(f"drop_out {self.drop_out:g}: must be at least 0 and below 1, or nobody is left")
        if not self.concentration > 0:
            raise UsageError(
                f"concentration {self.concentration:g}: Dirichlet's is a positive number; 0.1 is much skew"
            )

    def settled(self, initial: InitialModel, rows: int) -> Self:
        """Return the defence with the clients' optimiser, batch and rate chosen where they were left open."""
        own = self.client_optimizer or ("sgd" if self.algorithm == "scaffold" else "adamw")
        rate = self.learning_rate or (_SGD_RATE if own == "sgd" else initial.learning_rate)
        return replace(self, client_optimizer=own, batch_size=self.batch_size or _BATCH, learning_rate=rate)

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
        """Train and return the model, with who held which rows; numbers depend on settings, data and seed alone."""
        trainer = self.settled(initial, population or len(examples))
        divided = trainer.divide(examples, seed)
        initial.model.train()
        problem = trainer.problem(initial, examples, population)
        periods = trainer.in_time(divided, examples)
        federation = trainer.federation(problem, periods, trainer.local_training(), checkpoint)
        trainer.elsewhere(federation, initial, ClientData("labels", examples), divided)
        federation.run(seed=seed, checkpoint=checkpoint, progress=progress)
        return trainer.trained(initial, examples, divided, federation)

    def trained(self, initial: InitialModel, examples: Examples, divided: Partition, federation: Federation) -> Trained:
        """Return the model as it is now, and who held what and took part."""
        initial.model.eval()
        held = zip(divided.names, divided.holders, strict=True)
        clients = {name: tuple(examples.rows[rows].tolist()) for name, rows in held}
        notes, rounds = self.notes(divided, examples, federation), tuple(map(asdict, federation.records))
        return Trained(initial.bundle(), notes=notes, clients=clients, rounds=rounds)

    def divide(self, examples: Examples, seed: int) -> Partition:
        """Return which client holds which of the examples."""
        rule = self.partition or ("labels" if examples.users is None else "users")
        return partition(
            rule,
            examples,
            clients=self.clients,
            concentration=self.concentration,
            exponent=self.exponent,
            seed=seed % 2**63,
        )

    def in_time(self, divided: Partition, examples: Examples) -> list[Holders]:
        """Return what clients hold in each period."""
        parts = periods_of(divided.holders, examples.rows, self.periods)
        if self.old_data == "deleted":
            return list(parts)
        return [[np.concatenate(each) for each in zip(*parts[: p + 1], strict=True)] for p in range(len(parts))]

    def problem(self, initial: InitialModel, examples: Examples, population: int | None) -> Problem:
        """Return the loss of each text, and the server's optimiser."""
        return text_problem(initial, examples, self.server_step(initial.model), population=population)

    def server_step(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the server's optimiser."""
        rule = _SERVER.get(self.algorithm, "average")
        rate = self.server_rate or _SERVER_RATES.get(rule, 1.0)
        return server_optimizer(model, rule, rate, self.server_momentum)

    def federation(
        self, problem: Problem, periods: list[Holders], how: LocalTraining, checkpoint: Checkpoint | None = None
    ) -> Federation:
        """Return the training that is to be run."""
        clients = len(periods[0])
        count = check_count(self.clients_per_round, clients, _USUAL_CLIENTS)
        selection = Selection(self.selection, self.power, self.threshold)
        plan = Rounds(
            self.rounds,
            count,
            selection,
            self.aggregation,
            drop_out=self.drop_out,
            variates=self.algorithm == "scaffold",
        )
        engine = self.here(problem, how, checkpoint)
        collector = SecureSum(engine) if isinstance(engine, Masked) else PlainSum()
        return Federation(problem, periods, plan, engine, WeightedMean(), collector)

    def here(self, problem: Problem, how: LocalTraining, checkpoint: Checkpoint | None) -> Engine:
        """Return an engine of this process."""
        engine = InProcess(problem, how, None if checkpoint is None else checkpoint.clients)
        return Masked(engine) if self.secure_aggregation else engine

    def elsewhere(self, federation: Federation, initial: InitialModel, data: ClientData, divided: Partition) -> None:
        """Have the clients run by Flower, where that was asked for."""
        if self.engine == "in-process":
            return
        engine = OverFlower(
            initial,
            data,
            divided.holders,
            self.local_training(),
            address=self.superlink,
            nodes=self.nodes,
            certificates=None if self.certificates is None else Path(self.certificates),
        )
        federation.engine = engine
        if self.secure_aggregation:
            federation.engine = nodes = MaskedNodes(engine)
            federation.collector = SecureSum(nodes)

    def local_training(self) -> LocalTraining:
        """Return what clients do; of a trainer that is settled."""
        assert self.batch_size is not None
        assert self.learning_rate is not None
        return LocalTraining(
            self.local_epochs,
            self.batch_size,
            self.client_optimizer or "adamw",
            self.learning_rate,
            self.weight_decay,
            self.proximal if self.algorithm == "fedprox" else 0.0,
            self.algorithm == "scaffold",
        )

    def notes(self, divided: Partition, examples: Examples, federation: Federation) -> tuple[str, ...]:
        """Return what whoever trained must know."""
        counts = participation(federation.records)
        lost = sum(len(record.failed) for record in federation.records)
        found = [divided.summary(examples.labels or ())]
        found.append(f"{len(counts):,} of {len(divided.names):,} clients took part, in up to {_most(counts)} rounds")
        if lost:
            first = next(record for record in federation.records if record.failed)
            client, why = next(iter(first.failed.items()))
            found.append(f"{lost:,} answers of clients failed, first in round {first.round}: client {client} {why}")
        warning = federation.plan.selection.warning(self.aggregation)
        return (*found, *([warning] if warning else []))


def _most(counts: dict[int, int]) -> int:
    return max(counts.values(), default=0)
