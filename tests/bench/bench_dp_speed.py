"""One private step of MiniLM-L6 against the same step without privacy, for us and for Opacus.

    bench_dp_speed.py [ROW ...] [--rounds N] [--slow-rounds N] [--without METHOD ...]

Rows: full-64x32, full-32x128 (all weights; wanted at most 1.18 in pure torch, 1.07 and 1.10 with the kernel), biases,
lora (wanted 1.03), lengths (one logical batch of 256 texts of SNIPS; wanted 0.58 sorted, 0.50 with the first token
only) and memory (a logical batch of 1024 in parts of 64; wanted at most 1.25). Without a row: all of them.

A step is forward, backward, clipping, noise and fused AdamW. CPU time on one thread; every round takes one step of
each method in turn, in an order that rotates; medians of the ratios to the ordinary step of the same round. Slow
methods take few rounds, each beside the ordinary step alone. Peers are given position and type ids of shape (B, T),
without which they fail.
"""

import argparse
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from dp_peers import CLIP, SIGMA, Part, Step, adamw, loop_of_one, losses, opacus, opacus_ghost
from snips import snips_examples
from torch import nn

from defenses.edpsgd import kernel
from defenses.edpsgd.clipper import ExampleClipper
from defenses.edpsgd.first_token import first_token_only
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.sampling import parts_of
from redteam.models.initial import minilm_directory
from redteam.models.opening import load_encoder
from redteam.models.tokens import cut_at, load_tokenizer, token_ids

LOGICAL = 256
SLOW = ("Opacus ExpandedWeights", "Opacus hooks", "Opacus functorch", "loop of one")


class Adapted(nn.Module):
    """A frozen Linear beside a trained product of rank 8, as LoRA has it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 8, bias=False)
        self.up = nn.Linear(8, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 2.0 * self.up(self.down(x))


def make_model(trained: str) -> nn.Module:
    torch.manual_seed(0)
    model = load_encoder(minilm_directory(), ("a", "b"), layers=None).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for name, parameter in model.named_parameters():
        head = name.startswith("classifier")
        parameter.requires_grad_(trained == "full" or head or (trained == "biases" and name.endswith(".bias")))
    if trained == "lora":
        for layer in model.bert.encoder.layer:
            own = layer.attention.self
            own.query, own.value = Adapted(own.query), Adapted(own.value)
    return model


def random_part(batch: int, length: int) -> Part:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 30_000, (batch, length), generator=generator)
    return ids, torch.ones_like(ids), torch.randint(0, 2, (batch,), generator=generator)


def ordinary(model: nn.Module, parts: list[Part]) -> Step:
    optimizer, count = adamw(model), sum(len(part[0]) for part in parts)

    def step() -> None:
        for part in parts:
            (losses(model, part).sum() / count).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(model: nn.Module, parts: list[Part], *, use_kernel: bool) -> Step:
    optimizer, clipper, numbers = adamw(model), ExampleClipper(model, clip=CLIP, kernel=use_kernel), iter(range(10**9))
    noise, count = NoiseSource(1), sum(len(part[0]) for part in parts)

    def step() -> None:
        if use_kernel:
            noise.fill(clipper.buffer, SIGMA * CLIP / count, step=next(numbers))
        else:
            clipper.buffer.normal_(0.0, SIGMA * CLIP / count)
        for part in parts:
            clipper.add(losses(model, part), scale=1 / count)
        optimizer.step()

    return step


def methods_for(trained: str, batch: int, length: int) -> dict[str, Callable[[], Step]]:
    part = random_part(batch, length)
    made = lambda: make_model(trained)  # noqa: E731
    methods = {
        "ordinary": lambda: ordinary(made(), [part]),
        "ours in pure torch": lambda: ours(made(), [part], use_kernel=False),
        "ours with the kernel": lambda: ours(made(), [part], use_kernel=True),
        "Opacus ghost": lambda: opacus_ghost(made(), [part]),
        "Opacus ExpandedWeights": lambda: opacus(made(), part, "ExpandedWeights"),
        "Opacus hooks": lambda: opacus(made(), part, "hooks"),
        "Opacus functorch": lambda: opacus(made(), part, "functorch"),
        "loop of one": lambda: loop_of_one(made(), part),
    }
    return {name: method for name, method in methods.items() if kernel.available() or "kernel" not in name}


def padded(rows: list[list[int]]) -> Part:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = (torch.arange(longest) < torch.tensor([[len(row)] for row in rows])).long()
    return ids, mask, torch.zeros(len(rows), dtype=torch.long)


def length_methods(stack: ExitStack) -> dict[str, Callable[[], Step]]:
    """One logical batch of SNIPS in parts of 64 in random order, or as the trainer divides it, like with like."""
    texts, tokenizer = list(snips_examples(LOGICAL).texts or ()), load_tokenizer(minilm_directory())
    cut_at(tokenizer, 128)
    rows = token_ids(tokenizer, texts, name="minilm")
    lengths = np.array([len(row) for row in rows])
    chance = [padded(rows[i : i + 64]) for i in range(0, LOGICAL, 64)]
    ordered = [padded([rows[i] for i in part]) for part in parts_of(np.arange(LOGICAL), lengths, at_once=64)]
    tokens = [sum(part[0].numel() for part in parts) for parts in (chance, ordered)]
    print(f"lengths: median {np.median(lengths):.0f}, mean {lengths.mean():.1f}, longest {lengths.max()}")
    print(
        f"tokens with padding: {tokens[0]:,} in {len(chance)} parts by chance, {tokens[1]:,} in {len(ordered)} sorted"
    )

    def first() -> nn.Module:
        return stack.enter_context(first_token_only(make_model("full")))

    fast = kernel.available()
    return {
        "ordinary": lambda: ordinary(make_model("full"), chance),
        "ordinary, sorted": lambda: ordinary(make_model("full"), ordered),
        "ordinary, sorted, first token": lambda: ordinary(first(), ordered),
        "ours, random order": lambda: ours(make_model("full"), chance, use_kernel=fast),
        "ours in pure torch, sorted": lambda: ours(make_model("full"), ordered, use_kernel=False),
        "ours, sorted": lambda: ours(make_model("full"), ordered, use_kernel=fast),
        "ours, sorted, first token": lambda: ours(first(), ordered, use_kernel=fast),
        "Opacus ghost, random order": lambda: opacus_ghost(make_model("full"), chance),
    }


@dataclass(frozen=True)
class Rounds:
    """How many rounds are measured after one to warm up, how many of the slow methods, and who is left out."""

    all: int
    slow: int
    without: tuple[str, ...]


def compare(title: str, methods: dict[str, Callable[[], Step]], rounds: Rounds) -> None:
    kept = {name: build for name, build in methods.items() if name not in rounds.without}
    steps = {name: build() for name, build in kept.items() if name not in SLOW}
    seconds = measure(steps, rounds.all)
    print(f"{title}: an ordinary step takes {median(seconds['ordinary']):.3f} s")
    for name, times in seconds.items():
        report(name, times, seconds["ordinary"])
    for name in SLOW:  # one at a time: some need ten times the memory
        if name in kept:
            alone = measure({"ordinary": steps["ordinary"], name: kept[name]()}, rounds.slow)
            report(name, alone[name], alone["ordinary"])


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Take turns, in an order that rotates; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        names = list(steps)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            started = time.process_time()
            steps[name]()
            seconds[name] += [time.process_time() - started] if i else []
    return seconds


def report(name: str, times: list[float], base: list[float]) -> None:
    ratios = [a / b for a, b in zip(times, base, strict=True)]
    print(f"  {name:30} {median(ratios):6.3f}  {min(ratios):.2f} to {max(ratios):.2f}", flush=True)


MEMORY: dict[str, Callable[[Part, int], Step]] = {
    "ordinary": lambda part, n: ordinary(make_model("full"), [part] * n),
    "ours in pure torch": lambda part, n: ours(make_model("full"), [part] * n, use_kernel=False),
    "ours with the kernel": lambda part, n: ours(make_model("full"), [part] * n, use_kernel=kernel.available()),
    "Opacus ghost": lambda part, n: opacus_ghost(make_model("full"), [part] * n),
}


def peak_memory(rounds: Rounds) -> None:
    print("peak memory of a logical batch of 1024, in parts of 64 x 32, MB and ratio")
    base = 0
    for name in MEMORY:
        if name not in rounds.without:
            command = [sys.executable, __file__, "--peak-of", name]
            peak = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
            base = base or peak
            print(f"  {name:30} {peak:6} {peak / base:6.3f}", flush=True)


def main() -> None:
    rows = {"full-64x32": ("full", 64, 32), "full-32x128": ("full", 32, 128)}
    rows |= {"biases": ("biases", 64, 32), "lora": ("lora", 64, 32)}
    parser = argparse.ArgumentParser()
    parser.add_argument("row", nargs="*", choices=[*rows, "lengths", "memory", []])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow-rounds", type=int, default=2)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--peak-of", choices=list(MEMORY))
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.peak_of:
        step = MEMORY[given.peak_of](random_part(64, 32), 16)
        step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    rounds = Rounds(given.rounds, given.slow_rounds, tuple(given.without))
    for row in given.row or [*rows, "lengths", "memory"]:
        if row == "memory":
            peak_memory(rounds)
        elif row == "lengths":
            with ExitStack() as stack:
                compare("one logical batch of 256 texts", length_methods(stack), rounds)
        else:
            compare(row, methods_for(*rows[row]), rounds)


if __name__ == "__main__":
    main()
