"""`redteam report`: draw what was saved, without the model: a page, a model card, an annex of an assessment."""

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli.present import JudgingOptions, ReportFile, check_output, deliver, exit_code, say
from redteam.core import PASS, ReportError, UsageError, read_text

if TYPE_CHECKING:
    from redteam.experiments.report import ExperimentReport

_EXPERIMENTS = ("redteam.gap/", "redteam.drill/")


def report(
    saved: Annotated[Path, typer.Argument(help="What `redteam audit -f json`, `gap` or `drill` wrote, JSON.")],
    rules: JudgingOptions,
    output: ReportFile = None,
    card: Annotated[bool, typer.Option("--card", help="Write a section for a Hugging Face model card.")] = False,
    dpia: Annotated[bool, typer.Option("--dpia", help="Write an annex for a data-protection assessment.")] = False,
) -> None:
    """Draw a saved report as one HTML page.

    Exit 0: it was written, whatever it says; `redteam gate` judges.
    """
    if card and dpia:
        raise UsageError("--card and --dpia: each is a document of its own; give one of them")
    check_output(output, saved, rules.policy, rules.baseline)
    kind = _format_of(saved)
    if kind.startswith(_EXPERIMENTS):
        if card or dpia:
            raise UsageError(f"{'--card' if card else '--dpia'}: is made of the report of an audit, not of {kind}")
        text, said = _of_experiment(saved, kind)
    else:
        text, said = _of_audit(saved, rules, "card" if card else "dpia" if dpia else "html")
    delivered = deliver(text, output)
    if delivered and output is not None:
        say(f"wrote {output}; {said}")
    raise typer.Exit(exit_code(PASS, exit_zero=False, delivered=delivered))


def _format_of(path: Path) -> str:
    """Return the format that a document states, an empty one where it states none: its reader says what is wrong."""
    try:
        document = json.loads(read_text(path))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        return ""
    return str(document.get("format", "")) if isinstance(document, dict) else ""


def _of_audit(saved: Path, rules: JudgingOptions, document: str) -> tuple[str, str]:
    from redteam.formats import FORMATS, summary
    from redteam.formats.documents import annex, card
    from redteam.policy.judge import judge
    from redteam.report.reading import load_report

    today = date.today()
    policy, older = rules.load(today)
    loaded = load_report(saved)
    verdict = judge(loaded, policy, today=today, baseline=older)
    render = {"html": FORMATS["html"], "card": card, "dpia": annex}[document]
    return render(loaded, verdict, policy=policy), summary(verdict)


def _of_experiment(saved: Path, kind: str) -> tuple[str, str]:
    found: ExperimentReport
    if kind.startswith(_EXPERIMENTS[0]):
        from redteam.experiments.gap.report import GapReport
        from redteam.experiments.gap.table import render_page as of_gap

        found = GapReport.load(saved)
        return of_gap(found), f"{len(found.rows)} rows"
    from redteam.experiments.drill.report import DrillReport
    from redteam.experiments.drill.table import render_page as of_drill

    found = DrillReport.load(saved)
    return of_drill(found), f"{len(found.rows)} rows"
