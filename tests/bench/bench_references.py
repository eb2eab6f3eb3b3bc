"""What reference models cost, as ratios of processor seconds.

`workers`: 16 models of `bilstm` trained by two workers, processes with their start, over 16 times one training here;
what two such processes take to start is printed beside it.
`frozen`: 16 heads on frozen six-layer MiniLM, one pass for all of them, against 16 times one trained from the texts.
`attacks`: an audit with 8 references given (every attack that runs, the list of rows, all intervals; the public encoder
reads each text once) over one scoring of the pool by each of the 9 models, six-layer MiniLM and `bilstm`.

Wanted: at most 1.15; at least 10; at most 1.5.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from snips import minilm_bundle, snips_examples

from redteam.auditing.run import audit
from redteam.core.parallel import run_jobs
from redteam.data import Examples, Split
from redteam.models.initial import minilm_directory
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.registry import discover_defenses
from redteam.references.recipe import LedgerRecipe
from redteam.references.trained import TrainedReferences
from redteam.references.training import train_reference
from redteam.targets.model import ModelTarget
from redteam.training.train import ModelChoice

MODELS, GIVEN = 16, 8


def processor(work: Callable[[], Any]) -> float:
    """Return the processor seconds that some work took, here and in processes that it started and saw end."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    before = used()
    work()
    return used() - before


def recipe(choice: ModelChoice, rows: int, **settings: Any) -> LedgerRecipe:
    plain = next(each for each in discover_defenses() if each.id == "RD100")
    return LedgerRecipe(type(plain)(**settings), choice, 0, rows // 2)


def alone_and_all(trainer: LedgerRecipe, rows: Examples, workers: int) -> tuple[float, float]:
    """Return the seconds of one training as it is by itself, and of all by so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        references = TrainedReferences(trainer, MODELS, Path(folder), workers=workers)
        plan = references.plan(rows)
        one = processor(lambda: train_reference(references.job(plan, 0)))
    with tempfile.TemporaryDirectory() as folder:
        references = TrainedReferences(trainer, MODELS, Path(folder), workers=workers)
        return one, processor(lambda: references.scores(rows))


def measure_workers() -> None:
    rows = snips_examples(600)
    one, all_of_them = alone_and_all(recipe(ModelChoice("bilstm"), len(rows), epochs=10), rows, workers=2)
    print(f"workers: one {one:.1f} s, {MODELS} by 2 workers {all_of_them:.1f} s")
    start = processor(lambda: [list(run_jobs(begin, [0, 0], workers=2))])
    print(f"{MODELS} / ({MODELS} x one)  {all_of_them / (MODELS * one):.2f}  (wanted: at most 1.15)")
    print(f"without the start of 2 workers, {start:.1f} s: {(all_of_them - start) / (MODELS * one):.2f}")


def begin(job: int) -> int:
    """Do nothing, in a process that has imported all that a training takes."""
    return job


def measure_frozen() -> None:
    rows = snips_examples(300)
    choice = ModelChoice(str(minilm_directory()), freeze_encoder=True)
    one, all_of_them = alone_and_all(recipe(choice, len(rows), epochs=20), rows, workers=1)
    print(f"frozen: one from the texts {one:.1f} s, {MODELS} together {all_of_them:.1f} s")
    print(f"({MODELS} x one) / {MODELS}  {MODELS * one / all_of_them:.0f}  (wanted: at least 10)")


class Given:
    """References as alike to each other as those of one recipe; what they say goes by the text of a row."""

    def __init__(self, rows: Examples) -> None:
        rng, shape = np.random.default_rng(1), (GIVEN, len(rows))
        self.included = np.empty(shape, dtype=np.bool_)
        self.included[::2] = rng.random((GIVEN // 2, len(rows))) < 0.5
        self.included[1::2] = ~self.included[::2]
        self.odds = rng.normal(2, 2, len(rows)) + rng.normal(0, 0.5, shape) + self.included
        self.place = {text: i for i, text in enumerate(rows.texts or ())}

    def scores(self, pool: Examples) -> ReferenceScores:
        there = [self.place[text] for text in pool.texts or ()]
        return ReferenceScores(self.odds[:, there], self.included[:, there], tuple(k ^ 1 for k in range(GIVEN)))


def measure_attacks(rows: int) -> None:
    some = snips_examples(rows)
    labels = tuple(sorted(set(some.labels or ())))
    split = Split.of(some.take(range(rows // 2)), some.take(range(rows // 2, rows)))
    quick = recipe(ModelChoice("bilstm"), rows, epochs=1)
    started = {
        "MiniLM": ModelTarget(minilm_bundle(labels), name="minilm"),
        "bilstm": quick.fit(some.take(range(200)), seed=0, checkpoint=None, progress=None).model,
    }
    for name, target in started.items():
        target.log_probabilities(some.take(range(50)))
        one = processor(lambda target=target: target.log_probabilities(some))
        whole = processor(lambda target=target: audit(target, split, references=Given(some)))
        print(f"attacks, {name}: one scoring of {rows:,} rows {one:.2f} s, the audit {whole:.1f} s")
        print(f"audit / ({GIVEN + 1} x scoring)  {whole / ((GIVEN + 1) * one):.2f}  (wanted: at most 1.5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rule", nargs="*", choices=["workers", "frozen", "attacks"])
    parser.add_argument("--rows", type=int, default=1000, help="Of the audit.")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    asked = chosen.rule or ["workers", "frozen", "attacks"]
    if "workers" in asked:
        measure_workers()
    if "frozen" in asked:
        measure_frozen()
    if "attacks" in asked:
        measure_attacks(chosen.rows)


if __name__ == "__main__":
    main()
