"""Measure label canaries: how much of the accounted epsilon three adversaries show, and whether any shows too much.

    python tests/bench/bench_label_canaries.py table --data snips --epsilons 8,2 --canaries 2000 --seeds 3
    python tests/bench/bench_label_canaries.py coverage --trainings 200
    python tests/bench/bench_label_canaries.py broken --trainings 20

One line of JSON a training on standard output, then a summary on standard error. The data is in ../shared/data;
`coverage` makes its own. Each bound is at 95 % confidence by itself.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bench_clinc import write_rows
from scipy.stats import binomtest
from snips import snips_examples

from defenses.edpsgd.defense import EDPSGD
from defenses.plain import Plain
from redteam.auditing.inputs import Sources, open_inputs
from redteam.canary.label_evidence import LabelAudit
from redteam.data.label_canaries import ACCESSES
from redteam.statistics.area import area
from redteam.statistics.binomial import clopper_pearson_high, clopper_pearson_low
from redteam.statistics.epsilon import Sampled, planned_bounds
from redteam.statistics.epsilon.planned import counts_at_rank
from redteam.statistics.epsilon.subsampled import most_found
from redteam.statistics.ranking import rank
from redteam.targets.target import label_indices
from redteam.training.train import ModelChoice, RandomInclusion, train

ALPHA, HOLDOUT = 0.05, 0.42
FAST = ("clopper_pearson", "gdp", "one_run", "one_run_fdp")


@dataclass(frozen=True)
class Done:
    """One training: what it accounts for, how good it is, and its canaries with a score each by adversary."""

    accounted: float | None
    accuracy: float
    seconds: float
    labels: LabelAudit | None
    scores: dict


def run(data, defense, *, model, canaries, seed):
    """Train once, and open what was planted."""
    with tempfile.TemporaryDirectory() as folder:
        output, started = Path(folder) / "model.pt", time.process_time()
        inclusion = RandomInclusion(HOLDOUT, seed=seed)
        files = train(data, output, defense, model=model, inclusion=inclusion, label_canaries=canaries or None)
        seconds, told, target = time.process_time() - started, files.trained.guarantee, files.trained.target
        rows = files.nonmembers.take(range(0, len(files.nonmembers), -(-len(files.nonmembers) // 3000)))
        right = float((target.predict(rows) == label_indices(target.labels, rows, name="model")).mean())
        inputs = open_inputs(str(output), Sources(training_data=data), {})
        scores = {} if inputs.labels is None else inputs.labels.scores(inputs.target)
    return Done(told and told.accounted.epsilon, right, seconds, inputs.labels, scores)


def sampled_of(labels):
    """Return how the training samples, where that is Poisson's."""
    steps = labels.canaries.watched
    return Sampled(steps.sample_rate, steps.steps) if steps.plain and steps.sampling == "poisson" else None


def shown(done, access, only=()):
    """Return every bound by its planned rule, at ALPHA each, and the AUC."""
    labels, scores = done.labels, done.scores[access]
    plan, inside = labels.canaries.plan, labels.included
    how = {"delta": plan.delta, "alpha": ALPHA, "sampled": sampled_of(labels), "only": only}
    found = planned_bounds(scores[inside], scores[~inside], plan.rules[access], **how)
    return {name: round(b.low, 3) for name, b in found.items()} | {"auc": round(area(rank(scores, inside)), 4)}


def line(done, **what):
    """Print one training."""
    steps = done.labels.canaries.watched if done.labels else None
    moved = {} if steps is None else {"moved": round(steps.moved, 3), "share": round(steps.share, 3)}
    bounds = {access: shown(done, access) for access in done.scores}
    told = {"accounted": done.accounted, "accuracy": round(done.accuracy, 4), "cpu_seconds": round(done.seconds, 1)}
    print(json.dumps(what | told | moved | bounds), flush=True)
    return bounds


def data_file(name, folder, rows):
    """Write the texts of a data set as one labelled file."""
    path = Path(folder) / f"{name}.csv"
    if name == "clinc":
        write_rows(path)
        return path
    examples = snips_examples(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(examples.texts, examples.labels, strict=True))
    return path


def table(asked):
    """Print bounds and accuracy by epsilon and number of canaries."""
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        data = data_file(asked.data, folder, asked.rows)
        for epsilon in map(float, asked.epsilons.split(",")):
            how = {"epochs": asked.epochs, "batch_size": asked.batch}
            if epsilon == float("inf"):
                defense = Plain(epochs=asked.epochs)
            else:
                defense = EDPSGD(epsilon=epsilon, **how, runs=1, weights=asked.weights)
            for canaries in map(int, asked.canaries.split(",")):
                for seed in range(asked.first, asked.first + asked.seeds):
                    chosen = ModelChoice(asked.model, asked.layers)
                    done = run(data, defense, model=chosen, canaries=canaries, seed=seed)
                    bounds = line(
                        done, data=asked.data, model=asked.model, epsilon=epsilon, canaries=canaries, seed=seed
                    )
                    for access, found in bounds.items():
                        part = found.get("subsampled", 0.0) / (done.accounted or 1.0)
                        shares.setdefault((epsilon, canaries, access), []).append(part)
    for key, parts in shares.items():
        print(
            *key, f"share of accounted {np.mean(parts):.3f} of {len(parts)} seeds, {np.std(parts):.3f}", file=sys.stderr
        )


def few_rows(folder):
    """Write 200 rows of two labels that words tell apart."""
    rng, path = np.random.default_rng(0), Path(folder) / "few.csv"
    words = (["amber", "basil", "cedar", "delta", "ember"], ["fjord", "grove", "haven", "indigo", "juniper"])
    lines = [f"{' '.join(rng.choice(words[i % 2], 4))} {i % 7},{'ab'[i % 2]}" for i in range(200)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


def ruled_out(done, access, noise):
    """Tell whether the noise that there really is is ruled out: where a bound could exceed the accounted epsilon."""
    labels, scores = done.labels, done.scores[access]
    rules = labels.canaries.plan.rules[access]
    tp, n_in, fp, n_out = counts_at_rank(scores[labels.included], scores[~labels.included], rules.gdp)
    most = most_found(noise, float(clopper_pearson_high(fp, n_out, ALPHA / 2)), sampled_of(labels))
    return float(clopper_pearson_low(tp, n_in, ALPHA / 2)) > most


def coverage(asked):
    """Train so often, wholly anew; count bounds above the accounted epsilon, and above 0 with inclusion redrawn."""
    wrong, null, rng = {}, {}, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        data = few_rows(folder)
        for seed in range(asked.trainings):
            private = EDPSGD(epsilon=None, noise_multiplier=1.0, epochs=8, batch_size=150, runs=1)
            done = run(data, private, model=ModelChoice("bilstm"), canaries=400, seed=seed)
            plan, redrawn = done.labels.canaries.plan, rng.random(400) < 0.5
            for access in ACCESSES:
                found = shown(done, access, FAST)
                for name in FAST:
                    wrong[access, name] = wrong.get((access, name), 0) + (found[name] > done.accounted)
                key = access, "subsampled"
                wrong[key] = wrong.get(key, 0) + ruled_out(done, access, 1.0)
                scores, how = done.scores[access], {"delta": plan.delta, "alpha": ALPHA, "only": FAST}
                for name, b in planned_bounds(scores[redrawn], scores[~redrawn], plan.rules[access], **how).items():
                    null[access, name] = null.get((access, name), 0) + (b.low > 0)
            print(json.dumps({"seed": seed, "above": sum(wrong.values()), "null": sum(null.values())}), flush=True)
    for title, counts in (("above the accounted epsilon", wrong), ("above 0 with inclusion redrawn", null)):
        for key, count in counts.items():
            p = binomtest(count, asked.trainings, ALPHA, alternative="greater").pvalue
            print(*key, title, f"{count} of {asked.trainings}, p = {p:.3f}", file=sys.stderr)


@dataclass(frozen=True)
class HalfNoise(EDPSGD):
    """Adds half of the noise that it accounts for."""

    def stepper(self, problem, plan, source):
        """Let steps have half."""
        mechanism = replace(plan.mechanism, noise_multiplier=plan.mechanism.noise_multiplier / 2)
        return super().stepper(problem, replace(plan, mechanism=mechanism), source)


@dataclass(frozen=True)
class NoClipping(EDPSGD):
    """Leaves gradients as long as they are."""

    def stepper(self, problem, plan, source):
        """Clip at a norm that none has."""
        steps = super().stepper(problem, plan, source)
        steps.clipper._bound = 1e6
        return steps


@dataclass(frozen=True)
class WrongRate(EDPSGD):
    """Tells its accountant a quarter of the rate at which it samples."""

    def plan(self, problem):
        """Choose the noise for a quarter of the batch, and sample all of it."""
        batch = self.expected_batch(problem.population)
        told = replace(self, batch_size=max(1, batch // 4)).plan_of(problem)
        true = self.plan_of(problem)
        steps = round(self.passes * problem.population / batch)
        mechanism = replace(true.mechanism, noise_multiplier=told.mechanism.noise_multiplier, steps=steps)
        return replace(told, mechanism=mechanism)

    def plan_of(self, problem):
        """Return the honest plan."""
        return EDPSGD.plan(self, problem)


def broken(asked):
    """Count how often each broken trainer is proven to leak more than it accounts for, by adversary."""
    with tempfile.TemporaryDirectory() as folder:
        data = data_file("snips", folder, asked.rows)
        for kind in (each for each in (HalfNoise, NoClipping, WrongRate) if each.__name__ in asked.kinds.split(",")):
            proven = dict.fromkeys(ACCESSES, 0)
            for seed in range(asked.first, asked.first + asked.trainings):
                defense = kind(epsilon=8.0, epochs=asked.epochs, runs=1, weights="all")
                done = run(data, defense, model=ModelChoice("bilstm"), canaries=int(asked.canaries), seed=seed)
                lows = {access: shown(done, access, ("subsampled",))["subsampled"] for access in ACCESSES}
                proven = {access: proven[access] + (low > done.accounted) for access, low in lows.items()}
                told = {"trainer": kind.__name__, "seed": seed, "accounted": done.accounted, "proven": proven}
                print(json.dumps(told | lows | {"cpu_seconds": round(done.seconds, 1)}), flush=True)
            print(kind.__name__, proven, "of", asked.trainings, file=sys.stderr)


def main():
    """Read what to measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("table", "coverage", "broken"))
    parser.add_argument("--data", default="snips", choices=("snips", "clinc"))
    parser.add_argument("--model", default="bilstm")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--weights", default="all")
    parser.add_argument("--rows", type=int, default=13_800)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, help="of private trainings")
    parser.add_argument("--epsilons", default="8")
    parser.add_argument("--canaries", default="2000")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--kinds", default="HalfNoise,NoClipping,WrongRate")
    asked = parser.parse_args()
    {"table": table, "coverage": coverage, "broken": broken}[asked.what](asked)


if __name__ == "__main__":
    main()
