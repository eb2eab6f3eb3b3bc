"""One private step of a bidirectional LSTM classifier against the same step without privacy, and Opacus' DPLSTM.

A step is forward, backward, clipping, noise and AdamW on 64 texts of 32 tokens, or of 8 to 32 tokens with padding;
embedding and hidden size 128 each. CPU time on one thread; every round takes one step of each in turn; medians of the
ratios to the non-private step of the same round. Wanted: at most 2.5, aim 1.5.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn import functional

from defenses.edpsgd import kernel
from defenses.edpsgd.clipper import ExampleClipper
from defenses.edpsgd.noise import NoiseSource
from redteam.models.bilstm import BiLSTMConfig, BiLSTMForSequenceClassification

BATCH, LENGTH, SIZE, LABELS = 64, 32, 128, 7
CLIP, SIGMA = 1.0, 1.0


def make_model(vocabulary: int) -> nn.Module:
    torch.manual_seed(0)
    config = BiLSTMConfig(vocab_size=vocabulary, hidden_size=SIZE, embedding_size=SIZE, dropout=0.0, num_labels=LABELS)
    return BiLSTMForSequenceClassification(config)


def make_batch(vocabulary: int, *, padded: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, vocabulary, (BATCH, LENGTH), generator=generator)
    lengths = torch.randint(8, LENGTH + 1, (BATCH,), generator=generator) if padded else torch.full((BATCH,), LENGTH)
    mask = (torch.arange(LENGTH) < lengths.unsqueeze(1)).long()
    return ids * mask, mask, torch.randint(0, LABELS, (BATCH,), generator=generator)


def losses(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    ids, mask, labels = batch
    return functional.cross_entropy(model(input_ids=ids, attention_mask=mask).logits, labels, reduction="none")


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def ordinary(model: nn.Module, batch: tuple) -> Callable[[], None]:
    optimizer = adamw(model)

    def step() -> None:
        losses(model, batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(model: nn.Module, batch: tuple, *, use_kernel: bool) -> Callable[[], None]:
    os.environ["REDTEAM_NO_KERNEL"] = "0" if use_kernel else "1"
    optimizer, clipper, noise, count = (
        adamw(model),
        ExampleClipper(model, clip=CLIP),
        NoiseSource(1),
        iter(range(10**9)),
    )

    def step() -> None:
        os.environ["REDTEAM_NO_KERNEL"] = "0" if use_kernel else "1"
        noise.fill(clipper.buffer, SIGMA * CLIP / BATCH, step=next(count))
        clipper.add(losses(model, batch), scale=1 / BATCH)
        optimizer.step()

    return step


def opacus(model: nn.Module, batch: tuple) -> Callable[[], None]:
    """Opacus with its default, hooks, and its own LSTM in the place of torch's."""
    from opacus import GradSampleModule
    from opacus.layers import DPLSTM
    from opacus.optimizers import DPOptimizer

    lstm = DPLSTM(SIZE, SIZE, batch_first=True, bidirectional=True)
    lstm.load_state_dict(model.encoder.state_dict(), strict=False)
    model.encoder = lstm
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="sum")
    optimizer = DPOptimizer(
        adamw(wrapped), noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=BATCH, loss_reduction="sum"
    )

    def step() -> None:
        losses(wrapped, batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if i:  # the first round warms up
                seconds[name].append(time.process_time() - started)
    return seconds


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for vocabulary in (2_000, 10_000):
        for padded in (False, True):
            batch = make_batch(vocabulary, padded=padded)
            steps = {"non-private": ordinary(make_model(vocabulary), batch)}
            if kernel.available():
                steps["ours with the kernel"] = ours(make_model(vocabulary), batch, use_kernel=True)
            steps["ours in pure torch"] = ours(make_model(vocabulary), batch, use_kernel=False)
            try:
                steps["Opacus DPLSTM"] = opacus(make_model(vocabulary), batch)
            except ImportError:
                print("Opacus is not installed: left out")
            seconds = measure(steps, rounds)
            base = seconds["non-private"]
            print(f"vocabulary {vocabulary:,}, {'8 to 32' if padded else '32'} tokens: {1e3 * median(base):.1f} ms")
            for name, times in seconds.items():
                ratio = median(a / b for a, b in zip(times, base, strict=True))
                print(f"  {name:22} {ratio:5.2f}  ({1e3 * median(times):.1f} ms)")
            os.environ.pop("REDTEAM_NO_KERNEL", None)


if __name__ == "__main__":
    main()
