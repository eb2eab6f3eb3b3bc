"""How often `redteam verify` is right: honest trainers called liars, bugs caught, and how much of epsilon is shown.

python tests/bench/bench_verify.py honest [--runs 100] [--trainer double|RD102|RD101] [--canaries 5000]
python tests/bench/bench_verify.py bugs   [--runs 100] [--canaries 100000] [--epsilon 2] [--only CLASS]
python tests/bench/bench_verify.py table  [--runs 1] [--canaries 1000]  (every broken and every unusual honest trainer)
python tests/bench/bench_verify.py tight  [--canaries 1000000] [--epsilon 8] [--trainer RD102]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "verify"))
import broken
import doubles

from redteam.plugins.registry import choose, discover_defenses
from redteam.verify.run import VerificationPlan, verify
from redteam.verify.subject import DefenseSubject

EPSILONS = (1.0, 2.0, 4.0, 8.0)


def subject(name):
    """The honest double, or a trainer of the registry."""
    if name == "double":
        return doubles.Honest()
    return DefenseSubject(choose(discover_defenses(), [name])[0], {})


def honest(options):
    """Count the runs in which an honest trainer is called a liar."""
    for epsilon in options.epsilon or EPSILONS:
        started, words, bounds = time.monotonic(), [], []
        for seed in range(options.runs):
            canaries = options.canaries or (5_000 if epsilon < 8 else 60_000)  # fewer could not show more than 8
            plan = VerificationPlan(canaries=canaries, epsilon=epsilon)
            result = verify(subject(options.trainer), plan, seed=1000 * seed + int(epsilon))
            words.append(result.verdict)
            bounds.append(result.clopper_pearson.low / result.accounted.epsilon)
        print(
            f"{options.trainer}, epsilon {epsilon:g}: {words.count('violated')} of {options.runs} violated, "
            f"{words.count('inconclusive')} inconclusive; bound over accounted: median {np.median(bounds):.2f}, "
            f"largest {max(bounds):.2f}; {time.monotonic() - started:.0f} s",
            flush=True,
        )


def bugs(options):
    """Count the runs in which each planted bug is caught."""
    for bug in doubles.BUGS:
        if options.only not in (None, bug.__name__):
            continue
        started, results = time.monotonic(), []
        for seed in range(options.runs):
            results.append(
                verify(
                    bug(),
                    VerificationPlan(canaries=options.canaries or 100_000, epsilon=(options.epsilon or [2.0])[0]),
                    seed=seed,
                )
            )
        caught = sum(result.verdict == "violated" for result in results)
        bounds = [result.clopper_pearson.low for result in results]
        print(
            f"{bug.name}: caught in {caught} of {options.runs}; bound {min(bounds):.2f} to {max(bounds):.2f} where "
            f"{results[0].accounted.epsilon:.2f} is accounted; {time.monotonic() - started:.0f} s",
            flush=True,
        )


def table(options):
    """Say of every broken trainer, and of every unusual honest one, what came out and why."""
    plan = VerificationPlan(canaries=options.canaries or 1_000, epochs=2)
    for group in ("NAMED", "OWN", "HONEST"):
        words = []
        for trainer in getattr(broken, group):
            for seed in range(options.seed, options.seed + options.runs):
                result = verify(trainer(), plan, seed=seed)
                words.append(result.verdict)
                print(f"{group}: {trainer.name}: {result.verdict}: {result.reason}", flush=True)
        print(f"{group}: " + ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words))), flush=True)


def tight(options):
    """Say how much of the accounted epsilon the bounds reach."""
    for epsilon in options.epsilon or EPSILONS:
        started = time.monotonic()
        plan = VerificationPlan(canaries=options.canaries or 1_000_000, epsilon=epsilon)
        result = verify(subject(options.trainer), plan, seed=options.seed)
        told = result.accounted.epsilon
        print(
            f"{options.trainer}, epsilon {epsilon:g}: Clopper-Pearson {result.clopper_pearson.low:.2f} "
            f"({result.clopper_pearson.low / told:.0%}), GDP {result.gdp.low:.2f} ({result.gdp.low / told:.0%}), "
            f"one run {result.one_run.low:.2f}; {result.verdict}, {result.score}; {time.monotonic() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("honest", "bugs", "table", "tight"))
    parser.add_argument("--runs", type=int)
    parser.add_argument("--canaries", type=int)
    parser.add_argument("--epsilon", type=float, action="append")
    parser.add_argument("--trainer", default="double")
    parser.add_argument("--only")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.runs = asked.runs or (1 if asked.what == "table" else 100)
    torch.set_num_threads(1)
    {"honest": honest, "bugs": bugs, "table": table, "tight": tight}[asked.what](asked)
