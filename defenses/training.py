"""The loop of training without privacy, and of stopping early where rows are kept apart to say when."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from redteam.core import RedteamError
from redteam.data import Examples
from redteam.models.initial import InitialModel
from redteam.models.label_rows import PlantedRows
from redteam.models.last_layer import inputs_of, last_layer
from redteam.models.tokens import cut_at, token_ids
from redteam.plugins.defense import Checkpoint, Mechanism, Progress, StepWatch
from redteam.targets.model import batches_by_length, pad_batch
from redteam.training.checkpoint import TrainingState

_WARM_UP = 0.1  # share of the steps
LARGEST_GRADIENT = 1.0  # norm; guards against one bad batch, not against leakage


@dataclass(frozen=True)
class Recipe:
    """How to train; `patience` is in passes."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.0
    patience: int = 1


@dataclass(frozen=True)
class _Rows:
    """Texts as token ids, with the places of their labels, [n]."""

    tokens: list[list[int]]
    targets: Tensor
    pad: int
    layer: nn.Linear | None = None  # the last one, where it alone is trained, and
    inputs: Tensor | None = None  # what it reads of each text

    @classmethod
    def of(cls, initial: InitialModel, examples: Examples, planted: PlantedRows | None = None) -> "_Rows":
        place = {label: i for i, label in enumerate(initial.labels)}
        targets = torch.tensor([place[label] for label in examples.labels or ()])
        tokens, layer = tokenize(initial, list(examples.texts or ())), last_layer(initial.model)
        if planted is not None:
            tokens += [planted.tokens] * len(planted.targets)
            targets = torch.cat([targets, planted.targets])
        inputs = None if layer is None else inputs_of(initial.model, layer, tokens).clone()
        return cls(tokens, targets, initial.model.config.pad_token_id or 0, layer, inputs)

    @property
    def lengths(self) -> list[int]:
        return [len(ids) for ids in self.tokens]

    def logits(self, model: PreTrainedModel, rows: list[int]) -> Tensor:
        if self.layer is not None and self.inputs is not None:
            read: Tensor = self.layer(self.inputs[rows])
            return read
        found: Tensor = model(**pad_batch([self.tokens[i] for i in rows], pad=self.pad)).logits
        return found

    def loss(self, model: PreTrainedModel) -> float:
        """Return the mean cross-entropy of all rows in nats, without dropout."""
        model.eval()
        total = 0.0
        with torch.inference_mode():
            for rows in batches_by_length(self.lengths):
                logits = self.logits(model, rows).double()
                total += float(functional.cross_entropy(logits, self.targets[rows], reduction="sum"))
        model.train()
        return total / len(self.tokens)


@dataclass
class _Watch:
    """The best model so far by its loss on rows kept apart; `passes` counts those since."""

    model: PreTrainedModel
    apart: _Rows
    patience: int
    pass_: int = 0
    best: int = 0
    loss: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        return self.pass_ - self.best >= self.patience

    def look(self) -> None:
        """Note how good the model is after one more pass."""
        loss = self.apart.loss(self.model)
        self.pass_ += 1
        if loss < self.loss or not self.weights:  # whatever the first loss is, there must be a model to return
            self.best, self.loss = self.pass_, loss
            self.weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def kept(self) -> dict[str, Any]:
        return {"pass": self.pass_, "best": self.best, "loss": self.loss, "weights": self.weights}

    def take(self, kept: Mapping[str, Any]) -> None:
        if kept:
            self.pass_, self.best, self.loss = kept["pass"], kept["best"], kept["loss"]
            self.weights = kept["weights"]


def train(
    initial: InitialModel,
    examples: Examples,
    apart: Examples | None,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
    planted: PlantedRows | None = None,
    watch: StepWatch | None = None,
) -> int | None:
    """Train `initial.model` in place; with rows `apart`, up to the pass that was best on them.

    AdamW on the cross-entropy, a linear warm-up and decay, batches of texts of like length; `planted` are label
    canaries, which `watch` watches, and with which no rows may be apart. Returns the number of that
    pass, None without rows apart. Raises RedteamError where the loss is no number.
    """
    rows, model = _Rows.of(initial, examples, planted), initial.model.train()
    stop = None if apart is None else _Watch(model, _Rows.of(initial, apart), recipe.patience)
    batches, ends = batches_of(rows.lengths, recipe, seed)
    rate = recipe.learning_rate
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=recipe.weight_decay, fused=True)
    state = TrainingState(model, optimizer, checkpoint)
    done = state.resume()
    if stop is not None:
        stop.take(state.extra)
    if watch is not None:
        _begin(watch, optimizer, recipe, len(batches), state.extra if done else None)
    ended = (lambda: False) if stop is None else (lambda: stop.stopped)
    for step in state.steps(done, len(batches), lambda _: _kept(stop, watch), ended=ended):
        torch.manual_seed(_step_seed(seed, step))  # dropout depends on the step, not on what came before
        logits, targets = rows.logits(model, batches[step]), rows.targets[batches[step]]
        loss = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        _check(loss.item(), step, rate)
        loss.backward()  # type: ignore[no-untyped-call]
        _update(optimizer, learned, rate * schedule(step, len(batches)))
        if stop is not None and step + 1 in ends:
            stop.look()
        if progress is not None:
            progress(step + 1, len(batches), loss.item())
    if watch is not None:
        watch.close()
    model.eval()
    if stop is None:
        return None
    model.load_state_dict(stop.weights)
    return stop.best


def _update(optimizer: torch.optim.Optimizer, learned: list[nn.Parameter], rate: float) -> None:
    torch.nn.utils.clip_grad_norm_(learned, LARGEST_GRADIENT)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


def _begin(
    watch: StepWatch, optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int, kept: Mapping[str, Any] | None
) -> None:
    """Let label canaries be watched; a step is a mean over its batch, without clip or noise for one row."""
    mechanism = Mechanism(math.inf, 0.0, 1 / max(1, steps // recipe.epochs), steps, "shuffled")
    watch.begin(optimizer, mechanism, None, divisor=float(recipe.batch_size))
    if kept is not None:
        watch.take(kept.get("watched", {}))


def _kept(stop: _Watch | None, watch: StepWatch | None) -> dict[str, Any]:
    """Return what a checkpoint keeps beside model and optimiser."""
    return ({} if stop is None else stop.kept()) | ({} if watch is None else {"watched": watch.kept()})


def batches_of(lengths: list[int], recipe: Recipe, seed: int) -> tuple[list[list[int]], set[int]]:
    """Return the batches of all passes, and after how many steps each pass ends."""
    size = recipe.batch_size
    passes = [list(batches_of_like_length(lengths, size, seed=seed * 100_003 + e)) for e in range(recipe.epochs)]
    return list(itertools.chain(*passes)), set(itertools.accumulate(map(len, passes)))


def _check(loss: float, step: int, rate: float) -> None:
    if not math.isfinite(loss):
        raise RedteamError(f"loss is {loss} at step {step + 1}: try a learning_rate of {rate / 10:g}")


def tokenize(initial: InitialModel, texts: list[str]) -> list[list[int]]:
    """Return the token ids of each text, cut at the model's longest input."""
    cut_at(initial.tokenizer, initial.max_length)
    return token_ids(initial.tokenizer, texts, name="the model to train")


def batches_of_like_length(lengths: list[int], size: int, *, seed: int, window: int = 50) -> Iterator[list[int]]:
    """Yield every position once in random batches; within a window of batches, like lengths go together."""
    shuffle = random.Random(seed)
    order = list(range(len(lengths)))
    shuffle.shuffle(order)
    batches = []
    for i in range(0, len(order), size * window):
        near = sorted(order[i : i + size * window], key=lengths.__getitem__)
        batches += [near[j : j + size] for j in range(0, len(near), size)]
    shuffle.shuffle(batches)
    return iter(batches)


def schedule(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a linear rise, then a linear fall to zero."""
    warm = max(1, int(_WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def _step_seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % 2**63
