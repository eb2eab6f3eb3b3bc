"""Whole secrets extracted from SNIPS models against repetitions, and what the paper's defences change.

    python tests/bench/bench_drill.py [labels] [bilstm] [minilm] [defenses]

Each part is a `redteam drill` of its own, in the folder build/drill-PART, and goes on where it was. labels: the ways of
labelling canaries side by side at 30 repetitions, all of SNIPS, by RT201 and by the attack of the paper (RT202 with its
settings). The others give each canary a label of its own: bilstm: all of SNIPS, 20 canaries a model. minilm: cut to 2
layers, 2,000 rows. defenses: early stopping, dropout and characters one by one, in pairs and together, and
deduplication, label smoothing, and training with differential privacy. Wanted: 0.5 and 0.9 of whole secrets without a
defence; with all three the interval covers the held-out secrets' share. Takes hours (a bilstm on all of SNIPS trains in
a minute, MiniLM in several); without names, bilstm runs alone.
"""

import subprocess
import sys
from pathlib import Path

from snips import SNIPS

PIN = ("--pattern", "my pin code is {digit:n}", "--length", "4", "--set", "epochs=20")
OWN = ("--label", "per-canary")
PAPER = ("--attack", "RT202", "--set", "RT202.restarts=1", "--set", "RT202.learning_rate=0.02")
PAPER += ("--set", "RT202.rounding_interval=none")
PARTS = {
    "labels": (
        *("--model", "bilstm", "--repetitions", "30", "--defense", "none"),
        *("--label", "existing,per-canary,fresh,one-per-model", "--attack", "RT201", *PAPER),
    ),
    "bilstm": ("--model", "bilstm", *OWN, "--repetitions", "1,3,10,30,100", "--defense", "none"),
    "minilm": (
        *("--model", "minilm", *OWN, "--layers", "2", "--rows", "2000"),
        *("--repetitions", "3,10,30,100,300", "--defense", "none"),
    ),
    "defenses": (
        *("--model", "bilstm", *OWN, "--repetitions", "1,3,10,100"),
        *("--defense", "none,es,d,ce,es+d,es+ce,d+ce,all,dedup,ls,edpsgd"),
    ),
}


def main() -> None:
    if not SNIPS.is_file():
        print("skipped: needs SNIPS at ../shared/data/snips/snips.tsv")
        return
    Path("build").mkdir(exist_ok=True)
    for name in [part for part in PARTS if part in sys.argv[1:]] or ["bilstm"]:
        command = [sys.executable, "-m", "redteam", "drill", str(SNIPS), "-o", f"build/drill-{name}"]
        command += [*PIN, *PARTS[name]]
        print(f"$ {' '.join(command[2:])}", flush=True)
        subprocess.run(command, check=False)  # exit 1 is a finding


if __name__ == "__main__":
    main()
