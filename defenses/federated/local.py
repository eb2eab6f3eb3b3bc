"""What a client does in a round: some passes over its own rows, and the difference of the weights.

The same function trains clients in every engine; it knows nothing of who else there is. All that is random in it
depends on the seed, the round and the client alone, so that order and engine change no number.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from defenses.federated.updates import Update, add_scaled, difference, load_weights, trained_of, zeros_like
from defenses.training import LARGEST_GRADIENT, batches_of_like_length
from redteam.core.arrays import IntArray
from redteam.plugins.defense import Problem

ClientOptimizer = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class LocalTraining:
    """How clients train: `proximal` is FedProx's mu; with `variates` the gradient is corrected as SCAFFOLD does.

    `largest_gradient` is the norm that a step's gradient is cut at, which guards against one bad batch.
    """

    epochs: int
    batch_size: int
    optimizer: ClientOptimizer
    learning_rate: float
    weight_decay: float = 0.0
    proximal: float = 0.0
    variates: bool = False
    largest_gradient: float | None = LARGEST_GRADIENT


@dataclass(frozen=True)
class ClientAnswer:
    """What one client gives back: its update, or why there is none.

    `rows` is how many rows it trained on, `loss` the mean of its steps. `variate` is how its control variate changed,
    and `own` what it is now, which stays with the client.
    """

    client: int
    update: Update | None
    rows: int = 0
    loss: float = math.nan
    failure: str = ""
    variate: Update | None = None
    own: Update | None = None


@dataclass(frozen=True)
class RoundTask:
    """What the server tells the clients of a round: the weights, and SCAFFOLD's common control variate.

    `shares` says how much each client's update will count, `clip` how long it may be; `dropped` are lost in the round.
    """

    round: int
    seed: int
    weights: Update
    variate: Update | None = None
    dropped: frozenset[int] = frozenset()
    shares: Mapping[int, float] = field(default_factory=dict)
    clip: float | None = None


def train_client(
    problem: Problem, rows: IntArray, task: RoundTask, client: int, how: LocalTraining, own: Update | None = None
) -> ClientAnswer:
    """Train on one client's rows, from `task.weights`; `own` is the client's control variate of rounds before.

    `problem.model` is overwritten, its optimiser is not touched.
    """
    load_weights(problem.model, task.weights)
    seed = seed_for(task.seed, task.round, client)
    seed_dropout(problem.model, seed)
    trained = trained_of(problem.model)
    correction = _correction(task, own) if how.variates else None
    optimizer = client_optimizer(list(trained.values()), how)
    steps, total = 0, 0.0
    for batch in _batches(problem, rows, how, seed):
        loss = problem.losses(batch).mean()
        if not math.isfinite(loss.item()):
            return ClientAnswer(
                client, None, failure=f"had a loss of {loss.item()} at learning rate {how.learning_rate:g}"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        _adjust(trained, task.weights, how, correction)
        optimizer.step()
        steps, total = steps + 1, total + loss.item()
    for parameter in trained.values():
        parameter.grad = None
    update = difference(problem.model, task.weights)
    answer = ClientAnswer(client, update, len(rows), total / max(1, steps))
    return answer if correction is None else _with_variate(answer, task, how, own, steps)


def seed_for(seed: int, *of: int | str) -> int:
    """Return a seed of its own for a round and a client, below 2^63."""
    text = " ".join(map(str, (seed, *of))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"federated").digest(), "big") >> 1


def seed_dropout(model: torch.nn.Module, seed: int) -> None:
    """Seed what dropout draws from; on the CPU without `torch.manual_seed`, which notes a stack for every device."""
    parameter = next(model.parameters(), None)
    if parameter is None or parameter.device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _batches(problem: Problem, rows: IntArray, how: LocalTraining, seed: int) -> list[Tensor]:
    lengths = [1 if problem.lengths is None else problem.lengths[i] for i in rows.tolist()]
    found = []
    for epoch in range(how.epochs):
        for batch in batches_of_like_length(lengths, how.batch_size, seed=seed + epoch):
            found.append(torch.from_numpy(rows[batch]))
    return found


def client_optimizer(trained: list[torch.nn.Parameter], how: LocalTraining) -> torch.optim.Optimizer:
    """Return a fresh optimiser of a client."""
    if how.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=how.learning_rate, weight_decay=how.weight_decay, fused=True)
    return torch.optim.SGD(trained, lr=how.learning_rate, weight_decay=how.weight_decay)


def _adjust(
    trained: Mapping[str, torch.nn.Parameter], start: Update, how: LocalTraining, correction: Update | None
) -> None:
    """Add the proximal term or the correction to the gradients; guard against one bad batch where there is neither."""
    with torch.no_grad():
        for name, parameter in trained.items():
            if parameter.grad is None:
                continue
            if how.proximal:  # of (mu / 2) |w - w_0|^2, squared as in the paper
                parameter.grad.add_(parameter - start[name], alpha=how.proximal)
            if correction is not None:
                parameter.grad.add_(correction[name])
    if correction is None and how.largest_gradient is not None:
        torch.nn.utils.clip_grad_norm_(list(trained.values()), how.largest_gradient)


def _correction(task: RoundTask, own: Update | None) -> dict[str, Tensor]:
    """Return c - c_k: what is added to each gradient."""
    found = zeros_like(task.weights)
    if task.variate is not None:
        add_scaled(found, task.variate, 1.0)
    if own is not None:
        add_scaled(found, own, -1.0)
    return found


def _with_variate(
    answer: ClientAnswer, task: RoundTask, how: LocalTraining, own: Update | None, steps: int
) -> ClientAnswer:
    """Return the answer with the control variate c_k - c + (w_0 - w) / (steps * rate) (Karimireddy et al. 2020)."""
    assert answer.update is not None
    now = zeros_like(task.weights)
    if steps:
        add_scaled(now, answer.update, -1.0 / (steps * how.learning_rate))
    add_scaled(now, _correction(task, own), -1.0)
    changed = {name: value.clone() for name, value in now.items()}
    if own is not None:
        add_scaled(changed, own, -1.0)
    return ClientAnswer(answer.client, answer.update, answer.rows, answer.loss, variate=changed, own=now)
