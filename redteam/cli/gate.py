"""`redteam gate`: judge a saved report by a policy, without the model and without any ML stack."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from redteam.cli.present import JudgingOptions, ReportOptions, refuse_overwriting


def gate(
    report: Annotated[Path, typer.Argument(help="The report to judge, as `redteam audit -f json` wrote it.")],
    rules: JudgingOptions,
    result: ReportOptions,
) -> None:
    """Judge a saved report: exit 0 pass, 1 leak, 2 inconclusive."""
    from redteam.report.reading import load_report

    today = date.today()
    policy, older = rules.load(today)
    loaded = load_report(report)
    refuse_overwriting(result.output, report, rules.policy, rules.baseline)
    raise typer.Exit(result.present(loaded, policy, today, baseline=older))
