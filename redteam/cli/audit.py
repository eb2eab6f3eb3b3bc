"""`redteam audit`: attack a target, report what was found, and decide by the policy."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from redteam.cli import options as o
from redteam.cli.base import check_base
from redteam.cli.numbers import check_alpha
from redteam.cli.opening import limits as limits_of_opening
from redteam.cli.present import (
    Baseline,
    ExitZero,
    PolicyFile,
    ReportFile,
    ReportFormat,
    check_output,
    present,
    say,
    tell,
)
from redteam.cli.progress import progress
from redteam.core import UsageError, read_text

if TYPE_CHECKING:
    from redteam.auditing.inputs import AuditInputs
    from redteam.auditing.settings import AuditSettings
    from redteam.canary.evidence import CanaryAudit
    from redteam.models.trial import Limits
    from redteam.plugins.attack import Attack
    from redteam.plugins.extraction import ExtractionAttack
    from redteam.policy import Policy
    from redteam.report.values import AuditReport


def audit(
    target: o.Target = None,
    members: o.Members = None,
    nonmembers: o.Nonmembers = None,
    data: o.Data = None,
    scores: o.Scores = None,
    ledger: o.LedgerFile = None,
    training_data: o.TrainingData = None,
    canary_ledger: o.CanaryLedger = None,
    base: o.Base = None,
    policy: PolicyFile = None,
    baseline: Baseline = None,
    attack: o.Attacks = None,
    set: o.Set = None,
    fpr: o.Fprs = None,
    alpha: o.Alpha = 0.05,
    seed: o.Seed = 0,
    format: ReportFormat = "text",
    output: ReportFile = None,
    exit_zero: ExitZero = False,
    dry_run: o.DryRun = False,
    show_text: o.ShowText = False,
    text_column: o.TextColumn = None,
    label_column: o.LabelColumn = None,
    id_column: o.IdColumn = None,
    user_column: o.UserColumn = None,
    group_column: o.GroupColumn = None,
    split_column: o.SplitColumn = None,
    adapter_base: o.AdapterBase = None,
    max_length: o.MaxLength = None,
    device: o.Device = None,
    open_seconds: o.OpenSeconds = None,
    open_memory: o.OpenMemory = None,
    batch_size: o.BatchSize = None,
    timeout: o.Timeout = None,
    retries: o.Retries = None,
    request_budget: o.RequestBudget = None,
    token_env: o.TokenVariable = None,
    api: o.Api = None,
    request_template: o.RequestTemplate = None,
    response_path: o.ResponsePath = None,
    header: o.Headers = None,
    labels: o.Labels = None,
    max_skipped: o.MaxSkipped = None,
    label_map: o.LabelMap = None,
    restart: o.Forget = False,
) -> None:
    """Audit a text classifier: exit 0 pass, 1 leak, 2 inconclusive."""
    limits, older = _rules(policy, baseline)
    read = (members, nonmembers, data, scores, ledger, training_data, canary_ledger, base, label_map)
    check_output(output, policy, baseline, *read, *_named(target))
    columns = (text_column, label_column, id_column, user_column, group_column, split_column)
    files = (members, nonmembers, data, ledger, scores, canary_ledger, training_data)
    request: dict[str, Any] = {"batch_size": batch_size, "timeout": timeout, "retries": retries}
    request |= {"budget": request_budget}
    request |= {"token_env": token_env, "api": api, "headers": header or None}
    request |= {"base_model": adapter_base, "max_length": max_length, "device": device}
    request |= {"request_template": request_template, "response_path": response_path, "labels": labels}
    most = limits_of_opening(open_seconds, open_memory)
    request |= {"limits": most} if target and Path(target).is_dir() else {}
    inputs = _open(target, files, columns, label_map, request)
    fprs = [each.fpr for each in limits.limits if each.fpr is not None]
    settings = _settings(alpha, [*fprs, *(fpr or [])], seed, show_text, max_skipped)
    attacks, planted = _chosen(attack, set or [], inputs, base, most, limits.require)
    if dry_run:
        return tell(_plan(inputs, attacks, planted, limits, settings))
    report = _run(inputs, attacks, planted, settings, restart)
    raise typer.Exit(_judged(report, limits, older, format, output, exit_zero))


def _judged(
    report: "AuditReport",
    limits: "Policy",
    older: "AuditReport | None",
    format: str,
    output: Path | None,
    exit_zero: bool,
) -> int:
    from redteam.policy.judge import judge

    verdict = judge(report, limits, today=date.today(), baseline=older)
    return present(report, verdict, limits, format, output, exit_zero)


def _named(target: str | None) -> tuple[Path, ...]:
    """Return the files that a target's name stands for: the model and the ledger beside it."""
    from redteam.data.ledger import ledger_path

    return () if target is None else (Path(target), ledger_path(Path(target)))


def _rules(policy: Path | None, baseline: Path | None) -> "tuple[Policy, AuditReport | None]":
    from redteam.policy.reading import load_policy
    from redteam.report.reading import load_report

    return load_policy(policy, today=date.today()), None if baseline is None else load_report(baseline)


def _open(
    target: str | None,
    files: Sequence[Path | None],
    columns: Sequence[str | None],
    label_map: Path | None,
    request: dict[str, Any],
) -> "AuditInputs":
    from redteam.auditing.inputs import Sources, open_inputs
    from redteam.data import Columns

    members, nonmembers, data, ledger, scores, canaries, training_data = files
    paths = (members, nonmembers, None, data, ledger, scores, canaries, training_data)
    sources = Sources(*paths, Columns(*columns), label_map)
    inputs = open_inputs(target, sources, _asked(target, request))
    for note in inputs.notes:
        say(note)
    return inputs


def _settings(
    alpha: float, fprs: list[float], seed: int, show_text: bool, max_skipped: float | None
) -> "AuditSettings":
    from redteam.auditing.settings import FPRS, AuditSettings
    from redteam.auditing.skipped import MAX_SKIPPED

    check_alpha(alpha)
    for fpr in fprs:
        if not 0 < fpr < 1:
            raise UsageError(f"--fpr {fpr}: must lie between 0 and 1")
    skipped = MAX_SKIPPED if max_skipped is None else max_skipped
    if not 0 <= skipped < 1:
        raise UsageError(f"--max-skipped {skipped}: must lie between 0 and 1, 1 excluded")
    return AuditSettings(alpha, tuple(dict.fromkeys(fprs)) or FPRS, seed, show_text, skipped)


def _chosen(
    wanted: list[str] | None,
    given: list[str],
    inputs: "AuditInputs",
    base: Path | None,
    most: "Limits",
    required: Sequence[str],
) -> "tuple[tuple[Attack, ...] | None, CanaryAudit | None]":
    """Return the attacks on membership, and the canaries with the attacks after them, where there are any.

    None stands for all attacks that the target's answers are worth, which only these answers tell.
    """
    from redteam.plugins.attack import Attack
    from redteam.plugins.extraction import ExtractionAttack
    from redteam.plugins.registry import choose, discover_attacks, discover_controls, discover_extractions
    from redteam.plugins.settings import changes_of, tune

    for control in discover_controls():
        if {name.lower() for name in wanted or ()} & {control.id.lower(), control.name.lower()}:
            raise UsageError(f"--attack {control.id}: is a control and always runs; name attacks")
    everything: tuple[Attack | ExtractionAttack, ...] = (*discover_attacks(), *discover_extractions())
    chosen = tune(choose(everything, wanted) if wanted else everything, given)
    changed = [attack.id for attack in chosen if changes_of(attack)]
    extractions = tuple(attack for attack in chosen if isinstance(attack, ExtractionAttack))
    unasked = [f"--attack {attack.id}" for attack in extractions if wanted]
    unasked += [f"--set {attack.id}.{changes_of(attack)}" for attack in extractions if attack.id in changed]
    unasked += [] if base is None else [f"--base {base}"]
    if inputs.planting is None and unasked:
        what = unasked[0]
        raise UsageError(f"{what}: the training data holds no canaries to extract; see: redteam canary plant --help")
    kept = None if wanted else (*required, *changed)
    check_base(base, extractions, most)
    attacks = tuple(attack for attack in chosen if isinstance(attack, Attack))
    named = wanted or any(
        attack.id in changed or (attack.outdone_from is not None and attack.id in required) for attack in attacks
    )
    return attacks if named else None, _canaries(inputs, extractions, base, kept)


def _canaries(
    inputs: "AuditInputs", extractions: "tuple[ExtractionAttack, ...]", base: Path | None, kept: Sequence[str] | None
) -> "CanaryAudit | None":
    """Return the canaries with the attacks after them: all, unless `kept` says which need not be left out."""
    from redteam.canary.evidence import CanaryAudit
    from redteam.canary.run import Attacker, without_searches

    if inputs.planting is None:
        return None
    if kept is None:
        return CanaryAudit(inputs.planting, extractions, Attacker(base=base))
    run, spared = without_searches(extractions, inputs.planting, inputs.target.access, kept=kept)
    return CanaryAudit(inputs.planting, run, Attacker(base=base), spared)


def _asked(target: str | None, request: dict[str, Any]) -> dict[str, Any]:
    """Return the settings for a target; UsageError for those that it does not have.

    The labels are for every black box: a function has an order of its answers too.
    """
    given = {name: value for name, value in request.items() if value is not None}
    labels = given.pop("labels", None)
    for_all = {name: given.pop(name) for name in ("batch_size",) if name in given and target is not None}
    for_models = {name: given.pop(name) for name in ("base_model", "max_length", "device", "limits") if name in given}
    if for_models and (target is None or not Path(target).exists()):
        raise UsageError(
            f"{_flag(next(iter(for_models)))} is for models, a file or a directory; {target or '--scores'} is none"
        )
    if given and not _is_url(target):
        raise UsageError(f"{_flag(next(iter(given)))} is for http(s) targets; {target or '--scores'} is none")
    given |= for_all | for_models
    if labels is None:
        return given
    if target is None or Path(target).exists() or not (_is_url(target) or ":" in target):
        raise UsageError(f"--labels is for endpoints and functions; {target or '--scores'} names its labels itself")
    return given | {"labels": _label_list(labels)}


def _flag(setting: str) -> str:
    """Return the option that a setting of a target comes from."""
    named = {"base_model": "adapter-base", "budget": "request-budget", "headers": "header"}
    return f"--{named.get(setting, setting.replace('_', '-'))}"


def _is_url(target: str | None) -> bool:
    return (target or "").startswith(("http://", "https://"))


def _label_list(said: str) -> list[str]:
    """Return the labels of a list with commas, or of the lines of a file; UsageError where there are not two."""
    try:
        lines = read_text(Path(said)).splitlines() if Path(said).is_file() else said.split(",")
    except (OSError, ValueError) as error:
        raise UsageError(f"--labels {said[:80]}: cannot be read ({type(error).__name__})") from None
    labels = [line.strip() for line in lines if line.strip()]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UsageError(f"--labels {said[:80]}: wanted two or more different labels, a,b,c or a file of one a line")
    return labels


def _plan(
    inputs: "AuditInputs",
    attacks: "tuple[Attack, ...] | None",
    planted: "CanaryAudit | None",
    limits: "Policy",
    settings: "AuditSettings",
) -> str:
    from redteam.auditing.plan import make_plan
    from redteam.plugins.attack import suited
    from redteam.plugins.registry import discover_attacks

    if attacks is None:
        attacks = suited(discover_attacks(), inputs.target.access)
    plan = make_plan(
        inputs.target, inputs.split, attacks, limits, settings, guarantee=inputs.guarantee, planted=planted
    )
    return plan.text


def _run(
    inputs: "AuditInputs",
    attacks: "tuple[Attack, ...] | None",
    planted: "CanaryAudit | None",
    settings: "AuditSettings",
    restart: bool,
) -> "AuditReport":
    from redteam.auditing.run import audit as run
    from redteam.plugins.settings import changes_of

    with progress("scoring") as show:
        report = run(
            inputs.target,
            inputs.split,
            attacks,
            settings=settings,
            guarantee=inputs.guarantee,
            planted=planted,
            progress=show,
            folder=_kept_answers(),
            restart=restart,
            tell=say,
        )
    tuned: tuple[Attack | ExtractionAttack, ...] = (*(attacks or ()), *(planted.attacks if planted else ()))
    notes = tuple(f"{attack.id} was run with {changes_of(attack)}" for attack in tuned if changes_of(attack))
    return replace(report, target=replace(report.target, notes=(*report.target.notes, *notes)))


def _kept_answers() -> Path | None:
    """Return where answers of a broken-off scoring are kept until the audit is taken up again, if there is a place."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "redteam"
    except RuntimeError:  # a user without a home, as in some containers
        return None
