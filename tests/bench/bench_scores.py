"""An audit of 1,000,000 saved scores: peak memory of the whole process, and its statistics against scikit-learn's.

Wanted: under 1 GiB; under 5 times roc_auc_score + roc_curve on the same arrays, intervals included.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.csv
from sklearn.metrics import roc_auc_score, roc_curve

from redteam.statistics.area import area_interval
from redteam.statistics.ranking import rank
from redteam.statistics.tpr import tpr_interval

ROUNDS = 5


def compare_statistics(scores: np.ndarray, member: np.ndarray) -> None:
    """Time ours (AUC and TPR with intervals) and scikit-learn's (AUC and curve, no intervals) in turn."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        ranking = rank(scores, member)
        area_interval(ranking, alpha=0.025)
        tpr_interval(ranking, fpr=0.01, alpha=0.025, seed=0)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        roc_auc_score(member, scores)
        roc_curve(member, scores)
        theirs.append(time.perf_counter() - started)
    print(f"statistics: ours {median(ours):.2f} s, scikit-learn {median(theirs):.2f} s")
    print(f"ours / scikit-learn  {median(ours) / median(theirs):.2f}  (wanted: under 5)")


def audit_file(path: Path) -> None:
    """Run the command on a file and print its time and the peak memory of its process."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "redteam", "audit", "--scores", str(path)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    code, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss / 2**20
    print(f"{path.name}: exit {code}, {seconds:.1f} s, {peak:.2f} GiB  (wanted: under 1 GiB)")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rng = np.random.default_rng(0)
    member = rng.random(rows) < 0.5
    scores = rng.normal(size=rows) + 0.3 * member
    compare_statistics(scores, member)
    probabilities = rng.dirichlet(np.ones(7), size=rows)
    columns = {"member": member.astype(np.int8), "label": np.array([f"c{i}" for i in rng.integers(0, 7, rows)])}
    columns |= {f"prob:c{i}": probabilities[:, i] for i in range(7)}
    with tempfile.TemporaryDirectory() as folder:
        simple = Path(folder, "scores.csv")
        pyarrow.csv.write_csv(pa.table({"member": columns["member"], "score": scores}), simple)
        audit_file(simple)
        wide = Path(folder, "probabilities.csv")
        pyarrow.csv.write_csv(pa.table(columns), wide)
        audit_file(wide)


if __name__ == "__main__":
    main()
