"""Draw docs/examples/ from saved reports of real runs: `python docs/make/example_pages.py`.

The audits are those of the two models of `make demo`, the gap and the drill the recorded ones; nothing is run again.
"""

from datetime import date
from pathlib import Path

from redteam.experiments.drill.page import render_page as drill_page
from redteam.experiments.drill.report import DrillReport
from redteam.experiments.gap.page import render_page as gap_page
from redteam.experiments.gap.report import GapReport
from redteam.formats import FORMATS
from redteam.policy.judge import judge
from redteam.policy.reading import load_policy
from redteam.report.reading import load_report

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
DAY = date(2026, 1, 1)  # on which they are judged: the policy has nothing that expires


def pages() -> dict[str, str]:
    """Return every example by the name of its file."""
    records = ROOT / "docs" / "records"
    return {
        "audit-leaky.html": _audit("leaky"),
        "audit-safe.html": _audit("safe"),
        "gap.html": gap_page(GapReport.load(records / "gap-snips.json")),
        "drill.html": drill_page(DrillReport.load(records / "drill-labels.json")),
    }


def _audit(name: str) -> str:
    policy = load_policy(ROOT / "fixtures" / "policy.toml", today=DAY)
    report = load_report(ROOT / "fixtures" / name / "report.json")
    page = FORMATS["html"](report, judge(report, policy, today=DAY), policy=policy)
    return page.replace(str(ROOT / "fixtures"), "fixtures")  # the policy is named by its path


if __name__ == "__main__":
    EXAMPLES.mkdir(exist_ok=True)
    for name, page in pages().items():
        (EXAMPLES / name).write_text(page, encoding="utf-8")
