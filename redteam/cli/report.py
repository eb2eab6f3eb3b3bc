"""`redteam report`: draw what was saved, without the model: a page, a model card, an annex of an assessment."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from redteam.cli.present import JudgingOptions, ReportFile, check_output, deliver, exit_code, say
from redteam.core import PASS, ReportError, UsageError, read_text

_LARGEST = 64 * 2**20  # bytes
Drawn = tuple[str, str]  # the page, and what is said of it


def report(
    saved: Annotated[Path, typer.Argument(help="What audit, gap, drill, verify or compare saved, JSON.")],
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
    draw = _PAGES.get(kind.partition("/")[0])
    if draw is not None:
        _only_a_page(kind, rules, card=card, dpia=dpia)
        text, said = draw(saved)
    else:
        text, said = _of_audit(saved, rules, "card" if card else "dpia" if dpia else "html")
    delivered = deliver(text, output)
    if delivered and output is not None:
        say(f"wrote {output}; {said}")
    raise typer.Exit(exit_code(PASS, exit_zero=False, delivered=delivered))


def _only_a_page(kind: str, rules: JudgingOptions, *, card: bool, dpia: bool) -> None:
    """Raise UsageError for options that need the report of an audit."""
    if card or dpia:
        raise UsageError(f"{'--card' if card else '--dpia'}: is made of the report of an audit, not of {kind}")
    if rules.policy is not None or rules.baseline is not None:
        raise UsageError(f"--policy and --baseline: judge the report of an audit, not {kind}")


def _format_of(path: Path) -> str:
    """Return the format that a document states, an empty one where it states none: its reader says what is wrong."""
    try:
        document = json.loads(read_text(path, most=_LARGEST))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        return ""
    found = document.get("format") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""


def _of_audit(saved: Path, rules: JudgingOptions, document: str) -> Drawn:
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


def _of_gap(saved: Path) -> Drawn:
    from redteam.experiments.gap.page import outcome, render_page
    from redteam.experiments.gap.report import GapReport

    found = GapReport.load(saved)
    return render_page(found), f"{outcome(found)}: {len(found.rows)} rows"


def _of_drill(saved: Path) -> Drawn:
    from redteam.experiments.drill.page import outcome, render_page
    from redteam.experiments.drill.report import DrillReport

    found = DrillReport.load(saved)
    return render_page(found), f"{outcome(found)}: {len(found.rows)} rows"


def _of_trainer(saved: Path) -> Drawn:
    from redteam.verify.page import render_page
    from redteam.verify.saved import load_verification

    found = load_verification(saved)
    return render_page(found), f"{found.verdict}: {found.subject}"


def _of_privatiser(saved: Path) -> Drawn:
    from redteam.verify.saved import load_privatiser_verification
    from redteam.verify.words.page import render_page

    found = load_privatiser_verification(saved)
    return render_page(found), f"{found.verdict}: {found.subject}"


def _of_changes(saved: Path) -> Drawn:
    from redteam.formats.changes import headline
    from redteam.formats.html.changes import changes_page
    from redteam.policy.comparison import load_comparison

    found = load_comparison(saved)
    return changes_page(found), ": ".join(headline(found))


_PAGES: dict[str, Callable[[Path], Drawn]] = {
    "redteam.gap": _of_gap,
    "redteam.drill": _of_drill,
    "redteam.verification": _of_trainer,
    "redteam.text-verification": _of_privatiser,
    "redteam.comparison": _of_changes,
}
