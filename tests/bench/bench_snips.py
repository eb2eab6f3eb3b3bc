"""What the tool says on real data: MiniLM (2 layers) overtrained on SNIPS, and the same model on rows it never saw.

Wanted: the overtrained model is a proven leak (exit 1); over 100 random splits of unseen rows into two halves, no
finding in at least 95. Both by the built-in limits; the second also by the strictest one there is, AUC 0.5.
"""

import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from snips import SNIPS, snips_examples

from redteam.auditing.inputs import Sources, open_inputs
from redteam.auditing.run import audit
from redteam.auditing.scoring import ScoreCache
from redteam.data import Split
from redteam.plugins.registry import choose, discover_defenses
from redteam.policy import DEFAULT, Policy
from redteam.policy.judge import judge
from redteam.report import Limit
from redteam.report.values import AuditReport
from redteam.training.train import ModelChoice, RandomInclusion, train

TODAY = date(2026, 1, 1)
SPLITS, SIDE = 100, 2000


def found(report: AuditReport, policy: Policy) -> bool:
    return bool(judge(report, policy, today=TODAY).findings)


def main() -> None:
    snips_examples(1)
    (plain,) = choose(discover_defenses(), ["plain"])
    with tempfile.TemporaryDirectory() as folder:
        files = train(
            SNIPS,
            Path(folder, "model.pt"),
            type(plain)(epochs=25, batch_size=32),
            model=ModelChoice("minilm", layers=2, dropout=0.0),
            inclusion=RandomInclusion(holdout=0.89, seed=1),
        )
        inputs = open_inputs(str(files.model), Sources(), {})
    report = audit(inputs.target, inputs.split)
    verdict = judge(report, DEFAULT, today=TODAY)
    aucs = {e.id: e.interval for e in report.evidence if e.metric == "auc"}
    for name, auc in aucs.items():
        print(f"{name:<28} {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]")
    print(f"overtrained on {len(inputs.split.members)} members: exit {verdict.exit_code}  (wanted: 1)")

    unseen, target = inputs.split.nonmembers, ScoreCache(inputs.target)
    target.log_probabilities(unseen)  # once: the splits below only draw rows again
    rng, leaks, strict, refused = np.random.default_rng(0), 0, 0, 0
    for _ in range(SPLITS):
        rows = rng.permutation(len(unseen))
        split = Split.of(unseen.take(rows[:SIDE]), unseen.take(rows[SIDE : 2 * SIDE]))
        null = audit(target, split)
        leaks += found(null, DEFAULT)
        strict += found(null, Policy((Limit("auc", 0.5),)))
        refused += null.grade == "C"
    print(
        f"{SPLITS} splits of {len(unseen)} unseen rows into halves of {SIDE}: {leaks} findings by the built-in limits,"
    )
    print(f"{strict} by the limit AUC 0.5, {refused} refused by a control  (wanted: at most 5 findings)")


if __name__ == "__main__":
    main()
