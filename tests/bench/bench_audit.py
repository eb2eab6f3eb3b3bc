"""A whole audit (RT101, RT102, RT901) against scoring its pool once, in turn; wanted: at most 1.3 times as long."""

import sys
import time
from statistics import median

from snips import ROWS, minilm_bundle, snips_examples

from redteam.auditing.run import audit
from redteam.data import Split
from redteam.targets.model import ModelTarget

ROUNDS = 3


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    examples = snips_examples(rows)
    split = Split.of(examples.take(range(0, rows, 2)), examples.take(range(1, rows, 2)))
    target = ModelTarget(minilm_bundle(tuple(sorted(set(examples.labels or ())))), name="minilm")
    pool, _ = split.pool(0)
    whole, once = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        audit(target, split)
        whole.append(time.perf_counter() - started)
        started = time.perf_counter()
        target.log_probabilities(pool)
        once.append(time.perf_counter() - started)
    print(f"{len(pool)} texts: audit {median(whole):.2f} s, scoring {median(once):.2f} s")
    print(f"audit / scoring once  {median(whole) / median(once):.3f}  (wanted: at most 1.3)")


if __name__ == "__main__":
    main()
