"""Is the list of rows at risk (RT108) the same with other references? Two sets that share no model, SNIPS and CLINC150.

The models are those of `bench_membership.py`, and with `--keep DIR` the answers that it kept. For each K two sets of K
references, trained on other halves with other seeds, rate all 2,000 rows. Prints the rank correlation of the two
ratings, and how many of the 20 rows that one set puts first are among the first 100 of the other; means over up to four
pairs of sets.

Wanted: a rank correlation above 0.5 with 8 references, and more with more.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from bench_membership import ROWS, TRAINED, FrozenHead, Models, as_trained, clinc_examples, tfidf_head, train
from scipy.stats import spearmanr
from snips import snips_examples

from redteam.core.arrays import FloatArray
from redteam.models.encoder import public_encoder
from redteam.statistics.membership.moments import moments
from redteam.statistics.membership.record_risk import record_risk

COUNTS, PAIRS, FIRST, AMONG = (4, 8, 16), 4, 20, 100


def rated(models: Models, chosen: range) -> FloatArray:
    """Return what references say each row's risk is, shape [n]."""
    return record_risk(moments(models.log_odds[chosen], models.included[chosen]), alpha=0.05).expected


def compare(name: str, models: Models, count: int) -> float:
    """Print how alike the ratings of two sets of `count` are; return the mean rank correlation."""
    sets = [range(first, first + count) for first in range(0, len(models.log_odds) - count + 1, count)]
    alike, found = [], []
    for one, other in list(zip(sets[::2], sets[1::2], strict=False))[:PAIRS]:
        first, second = rated(models, one), rated(models, other)
        alike.append(float(spearmanr(first, second)[0]))
        found.append(len(set(np.argsort(-first)[:FIRST]) & set(np.argsort(-second)[:AMONG])))
    print(
        f"{name:<16} K={count:<3} rank correlation {np.mean(alike):.2f} ({len(alike)} pairs of sets); of the first "
        f"{FIRST} of one set, {np.mean(found):.1f} are among the first {AMONG} of {ROWS:,} of the other",
        flush=True,
    )
    return float(np.mean(alike))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", choices=["clinc150", "snips"], default=["clinc150", "snips"])
    parser.add_argument("--model", nargs="*", choices=["tfidf", "frozen", *TRAINED], default=["tfidf", "frozen"])
    parser.add_argument("--models", type=int, default=32, help="How many there are at the most.")
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    wrong = []
    for data in chosen.data:
        pool = clinc_examples(ROWS) if data == "clinc150" else snips_examples(ROWS)
        own = np.unique(np.array(pool.labels), return_inverse=True)[1].astype(np.int64)
        for name in chosen.model:
            fit: Any = as_trained(TRAINED[name]) if name in TRAINED else tfidf_head
            if name == "frozen":
                fit = FrozenHead(public_encoder().embed(pool.texts or ()))
            models = train(fit, pool, own, chosen.models, chosen.keep and chosen.keep / data / name)
            for count in (k for k in COUNTS if 2 * k <= chosen.models):
                alike = compare(f"{data} {name}", models, count)
                wrong += [f"{data} {name}: another list with {count} references"] if count >= 8 and alike < 0.5 else []
    print("\n".join(wrong) or "as wanted")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
