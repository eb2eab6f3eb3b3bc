"""`redteam audit`: attack a target, report what was found, and decide by the policy."""

import os
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from redteam.cli.gate import refuse_overwriting
from redteam.cli.options import (
    GroupColumn,
    IdColumn,
    LabelColumn,
    Seed,
    SplitColumn,
    TextColumn,
    UserColumn,
)
from redteam.cli.present import Format, present, say
from redteam.cli.progress import progress
from redteam.errors import UsageError
from redteam.judge import judge
from redteam.policy import load_policy
from redteam.report import AuditReport


def audit(
    target: Annotated[
        str | None, typer.Argument(help="model.pt, a Hugging Face directory, module:function, or an http(s) URL.")
    ] = None,
    members: Annotated[Path | None, typer.Option("--members", help="Texts that were trained on.")] = None,
    nonmembers: Annotated[Path | None, typer.Option("--nonmembers", help="Texts that were not.")] = None,
    reference: Annotated[Path | None, typer.Option("--reference", help="Texts kept apart from both.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="One file with a split column.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", help="Saved scores instead of a target.")] = None,
    ledger: Annotated[Path | None, typer.Option("--ledger", help="Default: beside the model.")] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="TOML file of limits; see: redteam gate -h.")] = None,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="Older report: its leaks do not fail.")] = None,
    attacks: Annotated[list[str] | None, typer.Option("--attack", "-a", help="Only this id; repeatable.")] = None,
    fpr: Annotated[list[float] | None, typer.Option("--fpr", help="Report the TPR at this FPR; repeatable.")] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="Chance that any interval of the report is wrong.")] = 0.05,
    seed: Seed = 0,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print the report.")] = Format.text,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File instead of stdout.")] = None,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 on a leak, still 2 if not audited.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would run and how long; run nothing.")] = False,
    show_text: Annotated[bool, typer.Option("--show-text", help="Put training texts into the report.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    user_column: UserColumn = None,
    group_column: GroupColumn = None,
    split_column: SplitColumn = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Texts in one request.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds for one request.")] = None,
    retries: Annotated[int | None, typer.Option("--retries", min=0, help="Tries after a failed request.")] = None,
    budget: Annotated[int | None, typer.Option("--budget", min=1, help="Most requests to an endpoint.")] = None,
    token_env: Annotated[str | None, typer.Option("--token-env", help="Variable with the endpoint's token.")] = None,
) -> None:
    """Audit a text classifier: exit 0 pass, 1 leak proven, 2 not audited."""
    from redteam.case import Sources, open_case
    from redteam.data import Columns

    today = date.today()
    limits = load_policy(policy, today=today)
    older = None if baseline is None else AuditReport.load(baseline)
    refuse_overwriting(output, policy, baseline, members, nonmembers, reference, data, scores, ledger)
    columns = Columns(text_column, label_column, id_column, user_column, group_column, split_column)
    sources = Sources(members, nonmembers, reference, data, ledger, scores, columns)
    request = {
        "batch_size": batch_size,
        "timeout": timeout,
        "retries": retries,
        "budget": budget,
        "token_env": token_env,
    }
    settings = _settings(alpha, fpr or [limit.fpr for limit in limits.max_tpr], seed, show_text)
    chosen = _chosen(attacks)
    case = open_case(target, sources, _options(target, request))
    for note in case.notes:
        say(note)
    if plan:
        from redteam.plan import make_plan

        typer.echo(make_plan(case.target, case.split, chosen, limits, settings).text)
        raise typer.Exit
    report = _run(case, chosen, settings)
    verdict = judge(report, limits, today=today, baseline=older)
    raise typer.Exit(present(report, verdict, limits, format.value, output, exit_zero))


def _settings(alpha: float, fprs: list[float], seed: int, show_text: bool) -> Any:
    from redteam.audit import FPRS, Settings

    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha {alpha}: must lie between 0 and 0.5")
    for fpr in fprs:
        if not 0 < fpr < 1:
            raise UsageError(f"--fpr {fpr}: must lie between 0 and 1")
    return Settings(alpha, tuple(dict.fromkeys(fprs)) or FPRS, seed, show_text)


def _chosen(wanted: list[str] | None) -> Any:
    from redteam.registry import choose, discover_attacks

    return choose(discover_attacks(), wanted) if wanted else discover_attacks()


def _options(target: str | None, request: dict[str, Any]) -> dict[str, Any]:
    """Return the settings for a target that is asked over the network; UsageError where it is not."""
    given = {name: value for name, value in request.items() if value is not None}
    if given and not (target or "").startswith(("http://", "https://")):
        option = next(iter(given)).replace("_", "-")
        raise UsageError(f"--{option} is for http(s) targets; {target or '--scores'} is none")
    return given


def _run(case: Any, chosen: Any, settings: Any) -> AuditReport:
    from redteam.audit import audit as run

    with progress("scoring") as show:
        return run(
            case.target,
            case.split,
            chosen,
            settings=settings,
            guarantee=case.guarantee,
            progress=show,
            folder=_kept_answers(),
        )


def _kept_answers() -> Path:
    """Return where answers of a broken-off scoring are kept until the audit is taken up again."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "redteam"
