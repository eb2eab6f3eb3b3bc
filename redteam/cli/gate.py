"""`redteam gate`: judge a saved report by a policy, without the model and without any ML stack."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from redteam.cli.present import Baseline, ExitZero, PolicyFile, ReportFile, ReportFormat, present, refuse_overwriting


def gate(
    report: Annotated[Path, typer.Argument(help="The report to judge, as `redteam audit -f json` wrote it.")],
    policy: PolicyFile = None,
    baseline: Baseline = None,
    format: ReportFormat = "text",
    output: ReportFile = None,
    exit_zero: ExitZero = False,
) -> None:
    """Judge a saved report: exit 0 pass, 1 leak, 2 inconclusive."""
    from redteam.policy.judge import judge
    from redteam.policy.reading import load_policy
    from redteam.report.reading import load_report

    today = date.today()
    limits = load_policy(policy, today=today)
    loaded = load_report(report)
    older = None if baseline is None else load_report(baseline)
    refuse_overwriting(output, report, policy, baseline)
    verdict = judge(loaded, limits, today=today, baseline=older)
    raise typer.Exit(present(loaded, verdict, limits, format, output, exit_zero))
