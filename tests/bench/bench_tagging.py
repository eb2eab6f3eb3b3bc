"""Tagging over clients: the slots of SNIPS by FedAvg, beside one client that holds all; accuracy and span F1.

    python tests/bench/bench_tagging.py SNIPS.tsv

SNIPS.tsv has a column `annotated`, as "play [track : Yesterday] now". Prints JSON lines, one a partition.
"""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch

from defenses.federated import Federated
from defenses.federated.tagging.tagger import initial_tagger
from defenses.federated.tagging.texts import TaggedTexts
from defenses.federated.tagging.training import train_tagger

_PART = re.compile(r"\[([^:\]]+) : ([^\]]*)\]|([^\[]+)")


def slots(annotated):
    """Return the words of an annotated text, and their tags in IOB2."""
    words, tags = [], []
    for kind, inside, outside in _PART.findall(annotated):
        own = (inside if kind else outside).split()
        words += own
        tags += [f"B-{kind}", *[f"I-{kind}"] * (len(own) - 1)][: len(own)] if kind else ["O"] * len(own)
    return words, tags


def read(path, most, seed):
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    found = [slots(rows[i]["annotated"]) for i in np.random.default_rng(seed).permutation(len(rows))]
    found = [(tuple(words), tuple(tags)) for words, tags in found if words][:most]
    return TaggedTexts(tuple(words for words, _ in found), tuple(tags for _, tags in found))


def main(path, rows=1500, rounds=15, seed=0):
    texts = read(path, rows, seed)
    cut = int(rows * 0.8)
    train, test = texts.take(range(cut)), texts.take(range(cut, rows))
    for clients, concentration in ((1, 1.0), (20, 100.0), (20, 0.1)):
        trainer = Federated(
            rounds=rounds, partition="labels", clients=clients, concentration=concentration, learning_rate=0.005
        )
        found = train_tagger(trainer, initial_tagger("tiny", texts, seed=seed), train, seed=seed).scores(test)
        said = {"accuracy": round(found.accuracy, 4), "f1": round(found.f1, 4), "spans": found.spans}
        print(json.dumps({"clients": clients, "dirichlet": concentration, "rounds": rounds, **said}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
