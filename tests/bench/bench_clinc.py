"""What training learns with no setting given: the first 77 intents of CLINC150, plain and at epsilon 8.

Wanted: every model is right on its members significantly more often than always answering one label, and plain ones on
most held-out texts. 65 texts an intent, 5,005 in all, half of them at random. Prints accuracy and processor seconds.

Privately, a classifier on MiniLM's first token learns nothing after two layers (its state varies by 0.2 % of its norm
from text to text) and less than it could after six: MiniLM sums a text up by the mean of its tokens, and so does the
layer that `redteam.models.pooling` adds.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from redteam.data import Examples
from redteam.plugins.registry import choose, discover_defenses
from redteam.statistics import has_learned
from redteam.targets.target import Target, label_indices
from redteam.training.train import ModelChoice, train

CLINC = Path(__file__).parents[3] / "shared" / "data" / "clinc150" / "data_full.json"
INTENTS, TEXTS = 77, 65
MODELS = {
    "tiny": ModelChoice("tiny"),
    "bilstm": ModelChoice("bilstm"),
    "minilm": ModelChoice("minilm"),
    "minilm2": ModelChoice("minilm", layers=2, freeze_embeddings=True),
}


def write_rows(path: Path) -> None:
    """Write the first texts of the first intents, in the order of the file; end the benchmark where it is absent."""
    if not CLINC.is_file():
        print(f"skipped: needs CLINC150 at {CLINC}")
        sys.exit(0)
    rows = json.loads(CLINC.read_text(encoding="utf-8"))["train"]
    known = list(dict.fromkeys(label for _, label in rows))[:INTENTS]
    seen: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for text, label in rows:
            seen[label] += 1
            if label in known and seen[label] <= TEXTS:
                writer.writerow((text, label))


def right(target: Target, rows: Examples) -> int:
    return int((target.predict(rows) == label_indices(target.labels, rows, name="model")).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--defense", nargs="*", default=["plain", "edpsgd"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_rows(data := Path(folder, "clinc.csv"))
        for name in chosen.defense:
            for model in chosen.model:
                (defense,) = choose(discover_defenses(), [name])
                started = time.process_time()
                private = name != "plain"
                files = train(data, Path(folder, "m.pt"), defense, model=MODELS[model], noise_from_seed=private)
                seconds, of = time.process_time() - started, len(files.members)
                own, unseen = (right(files.trained.target, rows) for rows in (files.members, files.nonmembers))
                most = np.unique(np.array(files.members.labels), return_counts=True)[1].max() / of
                verdict = "" if has_learned(own, of, most) else "  LEARNED NOTHING"
                told = next(note for note in files.notes if note.startswith("chosen"))
                shown = f"members {own / of:.1%}, held out {unseen / len(files.nonmembers):.1%}, {seconds:.0f} s"
                print(f"{name:<7} {model:<7} {shown}{verdict}; {told}", flush=True)


if __name__ == "__main__":
    main()
