"""Audits among the tests of a project: pytest finds this by its entry point, and nothing heavy is imported before use.

def test_the_release_candidate_keeps_the_policy(redteam_audit):
    assert_no_leak(redteam_audit("model.pt"))
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redteam.policy import Policy
    from redteam.report.values import AuditReport

__all__ = ["assert_no_leak", "redteam_audit"]


def assert_no_leak(report: "AuditReport | Path | str", policy: "Policy | Path | str | None" = None) -> None:
    """Raise AssertionError unless `report`, or the one saved there, passes `policy`, or redteam.toml here.

    What is inconclusive is no pass.
    """
    __tracebackhide__ = True
    from redteam.integrations.judged import Judged, policy_of
    from redteam.report.reading import load_report
    from redteam.report.values import AuditReport

    loaded = report if isinstance(report, AuditReport) else load_report(Path(report))
    judged = Judged.of(loaded, policy_of(policy))
    if judged.verdict.exit_code:
        lines = (judged.summary, *(finding.message for finding in judged.verdict.proven), *judged.verdict.problems)
        raise AssertionError("\n  ".join(lines))


@pytest.fixture(scope="session")
def redteam_audit(tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., AuditReport]":
    """A function that runs `redteam audit` with its arguments in a process of its own and returns the report."""

    def run(*arguments: str | Path) -> "AuditReport":
        __tracebackhide__ = True
        from redteam.report.reading import load_report

        saved = tmp_path_factory.mktemp("redteam") / "report.json"
        command = [sys.executable, "-m", "redteam", "audit", *map(str, arguments)]
        command += ["-q", "-f", "json", "-o", str(saved)]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
        if not saved.exists():  # nothing was audited, and the last line says why
            pytest.fail(
                (done.stderr.strip() or f"redteam audit: exit {done.returncode}").splitlines()[-1], pytrace=False
            )
        return load_report(saved)

    return run
