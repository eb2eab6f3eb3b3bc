"""`redteam compare`: what changed from one saved report to the next, and what of it is proven."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from redteam.cli.present import (
    FORMAT,
    ExitZero,
    ReportFile,
    Trackers,
    check_output,
    deliver,
    exit_code,
    log_to,
    say,
    terminal,
)
from redteam.core import INCONCLUSIVE, LEAK, PASS


class ComparisonFormat(StrEnum):
    """The formats of a comparison."""

    text = "text"
    json = "json"
    markdown = "markdown"
    html = "html"


def compare(
    old: Annotated[Path, typer.Argument(help="The older report, JSON.")],
    new: Annotated[Path, typer.Argument(help="The newer report, JSON.")],
    output: ReportFile = None,
    format: Annotated[ComparisonFormat, typer.Option("--format", "-f", help=FORMAT)] = ComparisonFormat.text,
    log: Trackers = None,
    exit_zero: ExitZero = False,
) -> None:
    """Compare two saved reports: exit 1 if one number is worse."""
    from redteam.formats.changes import as_json, as_markdown, as_text, headline
    from redteam.formats.html.changes import changes_page
    from redteam.integrations.logged import changes_logged
    from redteam.policy.comparison import compare_reports
    from redteam.report.reading import load_report

    render: dict[ComparisonFormat, Callable[..., str]] = {
        ComparisonFormat.text: as_text,
        ComparisonFormat.json: as_json,
        ComparisonFormat.markdown: as_markdown,
        ComparisonFormat.html: changes_page,
    }
    check_output(output, old, new)
    comparison = compare_reports(load_report(old), load_report(new))
    delivered = deliver(render[format](comparison, **terminal(output)), output)
    say(": ".join(headline(comparison)))
    code = LEAK if comparison.worse else INCONCLUSIVE if comparison.gaps else PASS
    delivered = log_to(log, lambda: changes_logged(comparison, code)) and delivered
    raise typer.Exit(exit_code(code, exit_zero=exit_zero, delivered=delivered))
