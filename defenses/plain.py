"""RD100 plain: ordinary training, no defence; what every defence is compared with.

AdamW on the cross-entropy, a linear warm-up and decay, batches of texts of like length. It guarantees nothing: an
example's influence on the weights has no bound, so the ledger's guarantee is empty.
"""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from redteam.checkpoint import TrainingState
from redteam.data import Examples
from redteam.defense import Checkpoint, Defense, Progress, Trained
from redteam.errors import RedteamError
from redteam.interrupts import Interrupts
from redteam.models.starting import Start
from redteam.models.tokens import cut_at, token_ids
from redteam.targets.model import pad_batch

_WARM_UP = 0.1  # share of the steps
_CHECKPOINT_EVERY = 20.0  # seconds
_LARGEST_GRADIENT = 1.0  # norm; guards against one bad batch, not against leakage


@dataclass(frozen=True)
class Plain(Defense):
    """Train without a defence; `learning_rate` None takes what suits the model."""

    id = "RD100"
    name = "plain"

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01

    def fit(
        self,
        start: Start,
        examples: Examples,
        *,
        seed: int,
        population: int | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train and return the model; the numbers depend on the settings, the data and the seed alone."""
        texts = list(examples.texts or ())
        tokens = tokenize(start, texts)
        index = {label: i for i, label in enumerate(start.labels)}
        targets = torch.tensor([index[label] for label in examples.labels or ()])
        batches = [b for e in range(self.epochs) for b in self._epoch([len(t) for t in tokens], seed, e)]
        model, rate = start.model.train(), self.learning_rate or start.learning_rate
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=self.weight_decay, fused=True)
        state = TrainingState(model, optimizer, checkpoint)
        kept_at = time.monotonic()
        with Interrupts() as interrupts:
            for step in range(state.resume(), len(batches)):
                torch.manual_seed(_step_seed(seed, step))  # dropout depends on the step, not on what came before
                rows = batches[step]
                inputs = pad_batch([tokens[i] for i in rows], pad=model.config.pad_token_id or 0)
                loss = functional.cross_entropy(model(**inputs).logits, targets[rows])
                if not math.isfinite(loss.item()):
                    raise RedteamError(f"loss is {loss.item()} at step {step + 1}: try --learning-rate {rate / 10:g}")
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(trained, _LARGEST_GRADIENT)
                for group in optimizer.param_groups:
                    group["lr"] = rate * _schedule(step, len(batches))
                optimizer.step()
                optimizer.zero_grad()
                if progress is not None:
                    progress(step + 1, len(batches), loss.item())
                if interrupts.caught or time.monotonic() - kept_at > _CHECKPOINT_EVERY:
                    state.keep(step + 1)
                    kept_at = time.monotonic()
                    interrupts.raise_if_caught()
            interrupts.raise_if_caught()
        model.eval()
        return Trained(start.bundle())

    def _epoch(self, lengths: list[int], seed: int, epoch: int) -> Iterator[list[int]]:
        return batches_of_like_length(lengths, self.batch_size, seed=seed * 100_003 + epoch)


def tokenize(start: Start, texts: list[str]) -> list[list[int]]:
    """Return the token ids of each text, cut at the model's longest input."""
    cut_at(start.tokenizer, start.max_length)
    return token_ids(start.tokenizer, texts, name="the model to train")


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


def _schedule(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a linear rise, then a linear fall to zero."""
    warm = max(1, int(_WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def _step_seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % 2**63
