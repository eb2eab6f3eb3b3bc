"""Federated training: accuracy by round of the algorithms, selection by activity, privacy by selection, overhead.

    python tests/bench/bench_federated.py rates SNIPS.tsv
    python tests/bench/bench_federated.py algorithms SNIPS.tsv SHAKESPEARE.tsv [DATA SET ...]
    python tests/bench/bench_federated.py activity SNIPS.tsv
    python tests/bench/bench_federated.py privacy
    python tests/bench/bench_federated.py overhead
    python tests/bench/bench_federated.py pictures LOG FOLDER

Accuracies are of a small classifier, the mean of 32-dimensional word embeddings and one linear layer, so that many
seeds can be afforded; the loop, clients, server and partitions are those of `redteam train --defense federated`.
Prints JSON lines, one a cell: means over seeds with Student's 95 % intervals.
"""

import csv
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from defenses.federated.aggregation import WeightedMean
from defenses.federated.engines import InProcess
from defenses.federated.local import LocalTraining
from defenses.federated.partitions import by_user, partition
from defenses.federated.privacy import Participation
from defenses.federated.rounds import Federation, Rounds
from defenses.federated.secure.rounds import Masked, SecureSum
from defenses.federated.selection import Selection
from defenses.federated.server import server_optimizer
from redteam.data import Examples
from redteam.plugins.defense import Problem


def client(rate=0.1, **others):
    return LocalTraining(1, 16, "adamw", rate, **others)


def variates(rate):
    return LocalTraining(1, 16, "sgd", rate, variates=True)


CANDIDATES = {  # client and server, by what is tried
    "fedavg": {rate: (client(rate), ("average", 1.0)) for rate in (0.03, 0.1, 0.3)},
    "fedprox": {mu: (client(proximal=mu), ("average", 1.0)) for mu in (0.001, 0.01, 0.1)},
    "fedadam": {rate: (client(), ("adam", rate)) for rate in (0.03, 0.1, 0.3)},
    "fedyogi": {rate: (client(), ("yogi", rate)) for rate in (0.03, 0.1, 0.3)},
    "fedadagrad": {rate: (client(), ("adagrad", rate)) for rate in (0.1, 0.3, 1.0)},
    "scaffold": {rate: (variates(rate), ("average", 1.0)) for rate in (1.0, 3.0, 10.0)},
}
CHOSEN = {"fedavg": 0.1, "fedprox": 0.001, "fedadam": 0.3, "fedyogi": 0.3, "fedadagrad": 1.0, "scaffold": 10.0}
ALGORITHMS = {name: CANDIDATES[name][value] for name, value in CHOSEN.items()}


def read(path, label, user=None, most=None, seed=0):
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    order = np.random.default_rng(seed).permutation(len(rows))[:most]
    rows = [rows[i] for i in order]
    users = tuple(row[user] for row in rows) if user else None
    return Examples(np.arange(len(rows)), tuple(r["text"] for r in rows), tuple(r[label] for r in rows), users=users)


class Bag(nn.Module):
    def __init__(self, words, labels, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.EmbeddingBag(words, 32, mode="mean", padding_idx=0)
        self.out = nn.Linear(32, labels)

    def forward(self, ids):
        return self.out(self.words(ids))


class Task:
    """Rows as ids of the 3,000 commonest words of the training rows, cut at 24, and a model for them."""

    def __init__(self, examples, share, seed):
        cut = int(len(examples) * share)
        self.train, self.test = examples.take(range(cut)), examples.take(range(cut, len(examples)))
        counts = Counter(word for text in self.train.texts for word in text.lower().split())
        place = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(3000))}
        self.labels = sorted(set(examples.labels))
        self.x, self.y = zip(*(self._ids(each, place) for each in (self.train, self.test)), strict=True)
        self.seed = seed

    def _ids(self, examples, place):
        ids = torch.zeros(len(examples), 24, dtype=torch.long)
        for row, text in enumerate(examples.texts):
            found = [place.get(word, 1) for word in text.lower().split()[:24]] or [1]
            ids[row, : len(found)] = torch.tensor(found)
        return ids, torch.tensor([self.labels.index(label) for label in examples.labels])

    def problem(self, server):
        model = Bag(3002, len(self.labels), self.seed)

        def losses(rows):
            return functional.cross_entropy(model(self.x[0][rows]), self.y[0][rows], reduction="none")

        size = len(self.train)
        return Problem(model, server_optimizer(model, *server, 0.0), losses, size, size)

    def accuracy(self, model):
        with torch.no_grad():
            return float((model(self.x[1]).argmax(1) == self.y[1]).float().mean())

    def by_round(self, periods, plan, how, server):
        """Return the accuracy before each round and after the last."""
        problem, found = self.problem(server), []
        run = Federation(problem, periods, plan, InProcess(problem, how), WeightedMean())
        run.watch = lambda *_: found.append(self.accuracy(problem.model))
        run.run(seed=self.seed)
        return [*found, self.accuracy(problem.model)]

    def central(self, rounds):
        """Return the accuracy after each of as many passes over all rows in one place."""
        problem, found = self.problem(("average", 1.0)), []
        optimizer = torch.optim.AdamW(problem.model.parameters(), lr=1e-2, weight_decay=0.0)
        rng = np.random.default_rng(self.seed)
        for _ in range(rounds):
            found.append(self.accuracy(problem.model))
            for rows in np.array_split(rng.permutation(problem.size), problem.size // 16):
                optimizer.zero_grad()
                problem.losses(torch.from_numpy(rows)).mean().backward()
                optimizer.step()
        return [*found, self.accuracy(problem.model)]


def told(values):
    """Return mean and half-width of Student's 95 % interval over seeds, the first axis."""
    values = np.asarray(values, dtype=np.float64)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return np.round(values.mean(axis=0), 4).tolist(), np.round(half, 4).tolist()


def say(**cell):
    print(json.dumps(cell), flush=True)


def rates(snips, seed=100, rounds=24):
    """Try rates on a seed that nothing else uses, on SNIPS at Dirichlet 1: `CHOSEN` are the best of them."""
    task = Task(read(snips, "intent", None, 3000, seed), 0.8, seed)
    divided = partition("labels", task.train, clients=30, concentration=1.0, exponent=1.0, seed=seed)
    for algorithm, candidates in CANDIDATES.items():
        for value, (local, server) in candidates.items():
            plan = Rounds(rounds, 10, variates=local.variates)
            curve = task.by_round([divided.holders], plan, local, server)
            say(algorithm=algorithm, value=value, late=round(float(np.mean(curve[-6:])), 4))


def algorithms(snips, shakespeare, *only, seeds=3, rounds=24):
    cells = [(f"snips dirichlet {c:g}", "labels", c) for c in (0.1, 1.0, 100.0)]
    for name, rule, value in [*cells, ("snips zipf", "zipf", 1.0), ("shakespeare speakers", "users", 1.0)]:
        if only and name not in only:
            continue
        curves = {}
        for seed in range(seeds):
            if rule == "users":
                task = Task(read(shakespeare, "genre", "user", 3000, seed), 0.8, seed)
                divided = by_user(task.train)
            else:
                task = Task(read(snips, "intent", None, 3000, seed), 0.8, seed)
                how = {"clients": 30, "concentration": value, "exponent": 1.0, "seed": seed}
                divided = partition(rule, task.train, **how)
            curves.setdefault("centralised", []).append(task.central(rounds))
            for algorithm, (local, server) in ALGORITHMS.items():
                plan = Rounds(rounds, 10, variates=local.variates)
                curves.setdefault(algorithm, []).append(task.by_round([divided.holders], plan, local, server))
        for algorithm, values in curves.items():
            mean, half = told(values)
            at = [1, 6, 12, rounds]
            say(data=name, algorithm=algorithm, rounds=at, accuracy=[mean[r] for r in at], half=[half[r] for r in at])
            say(data=name, algorithm=algorithm, curve=mean, half_of_curve=half)


RULES = {
    "uniform": (Selection("uniform"), "matching"),
    "proportional": (Selection("proportional"), "matching"),
    "proportional, sizes": (Selection("proportional"), "sizes"),
}


def activity(snips, seeds=5, clients=100, target=0.5):
    local, server = client(1e-2), ("average", 1.0)
    for setting, periods, rounds in (("static", 1, 20), ("continual", 4, 5)):
        curves = {}
        for seed in range(seeds):
            task = Task(read(snips, "intent", None, 4000, seed), 0.8, seed)
            parts = np.array_split(np.arange(len(task.train)), periods)
            rng, holders = np.random.default_rng(seed), []
            for p, rows in enumerate(parts):  # who is active changes from period to period
                how = {"clients": clients, "concentration": 0.5, "exponent": 1.2, "seed": 100 * seed + p}
                held = partition("labels-zipf", task.train.take(rows), **how).holders
                holders.append([rows[held[k]] for k in rng.permutation(clients)])
            for name, (selection, weights) in RULES.items():
                plan = Rounds(rounds, 10, selection, weights)
                curves.setdefault(name, []).append(task.by_round(holders, plan, local, server))
        base = np.array(curves["uniform"])
        for name, values in curves.items():
            values = np.array(values)
            reached = [next((r for r, a in enumerate(v) if a >= target), len(v)) for v in values]
            fixed = {f"at {r}": told(values[:, r]) for r in (5, 10, 20)}
            over = {f"over uniform at {r}": told(values[:, r] - base[:, r]) for r in (5, 10, 20)}
            own = [next((r for r, a in enumerate(v) if a >= target), len(v)) for v in base]
            sooner = told(np.array(own) - np.array(reached))
            say(setting=setting, rule=name, rounds_to=target, reached=told(reached), sooner=sooner, **fixed, **over)


def privacy(clients=1000, count=50, rounds=100, noise=1.0, delta=1e-5):
    sizes = np.maximum(1, np.round(2000 * np.arange(1, clients + 1) ** -1.0)).astype(np.int64)
    rules = [Selection(rule, threshold=10) for rule in ("uniform", "log", "power", "proportional", "threshold", "top")]
    for selection in rules:
        chances = selection.inclusion(sizes, count)[None]
        worst, median = Participation(chances, np.ones_like(chances), rounds).epsilons(noise, delta)
        said = {"largest chance": round(float(chances.max()), 4), "median chance": round(float(np.median(chances)), 4)}
        say(
            selection=selection.rule, noise=noise, rounds=rounds, worst=round(worst, 3), median=round(median, 3), **said
        )


def overhead(repetitions=5):
    """Time a round of ten clients of 64 rows on the small transformer, against a plain loop over the same steps."""
    from defenses.edpsgd.texts import text_problem
    from redteam.models.initial import initial_model
    from redteam.testing.examples import sentences

    rows = sentences(640, seed=0)
    initial = initial_model("tiny", rows, learn_from=rows, seed=0)
    initial.model.train()
    local = LocalTraining(1, 16, "adamw", 1e-3)
    problem = text_problem(initial, rows, server_optimizer(initial.model, "average", 1.0, 0.0), population=None)
    holders = np.array_split(np.arange(640), 10)
    times = {"plain": [], "in-process": [], "under masks": []}
    for repetition in range(repetitions + 1):
        start = time.perf_counter()
        plain_round(problem, holders, local)
        middle = time.perf_counter()
        Federation(problem, [holders], Rounds(1, 10), InProcess(problem, local), WeightedMean()).run(seed=repetition)
        end = time.perf_counter()
        masked = Masked(InProcess(problem, local))
        Federation(problem, [holders], Rounds(1, 10), masked, WeightedMean(), SecureSum(masked)).run(seed=repetition)
        last = time.perf_counter()
        if repetition:  # the first pays for what is imported at the first step
            for name, took in zip(times, (middle - start, end - middle, last - end), strict=True):
                times[name].append(took)
    plain, here, masks = (np.array(each) for each in times.values())
    ratios = {"in-process / plain": here / plain, "under masks / in-process": masks / here}
    said = {
        name: {"median": round(float(np.median(r)), 3), "least": round(float(r.min()), 3)} for name, r in ratios.items()
    }
    medians = {name: round(float(np.median(each)), 4) for name, each in times.items()}
    say(seconds=medians, **said)


def plain_round(problem, holders, local):
    """FedAvg as one would write it down: a deep copy of the weights, AdamW on each client, and the mean."""
    model = problem.model
    start = {name: value.clone() for name, value in model.state_dict().items()}
    total = {name: torch.zeros_like(value) for name, value in start.items() if value.is_floating_point()}
    for held in holders:
        model.load_state_dict(start)
        optimizer = torch.optim.AdamW(model.parameters(), lr=local.learning_rate, weight_decay=0.0, fused=True)
        order = sorted(held.tolist(), key=lambda i: problem.lengths[i])
        for at in range(0, len(order), local.batch_size):
            optimizer.zero_grad()
            problem.losses(torch.tensor(order[at : at + local.batch_size])).mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        for name, value in total.items():
            value.add_(model.state_dict()[name], alpha=len(held) / 640)
    model.load_state_dict({**start, **total})


def pictures(log, folder):
    """Draw the curves of a log of `algorithms` with their intervals, one picture a data set."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "federated"
    from matplotlib import pyplot

    cells = [json.loads(line) for line in Path(log).read_text().splitlines() if '"curve"' in line]
    for name in dict.fromkeys(cell["data"] for cell in cells):
        figure, panel = pyplot.subplots(figsize=(5.4, 3.2))
        for cell in (each for each in cells if each["data"] == name):
            mean, half = np.array(cell["curve"]), np.array(cell["half_of_curve"])
            (line,) = panel.plot(mean, label=cell["algorithm"], lw=1.4)
            low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
            panel.fill_between(range(len(mean)), low, high, color=line.get_color(), alpha=0.12, lw=0)
        panel.set(title=name, xlabel="rounds", ylabel="accuracy on held-out rows", ylim=(0, 1))
        panel.legend(fontsize=7, ncols=2)
        figure.tight_layout()
        figure.savefig(Path(folder) / f"federated-{name.replace(' ', '-')}.svg", metadata={"Date": None})


if __name__ == "__main__":
    torch.set_num_threads(1)
    known = {each.__name__: each for each in (rates, algorithms, activity, privacy, overhead, pictures)}
    if len(sys.argv) < 2:  # what needs no data
        privacy()
        overhead()
    else:
        known[sys.argv[1]](*sys.argv[2:])
