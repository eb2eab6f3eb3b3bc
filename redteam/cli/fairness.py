"""`redteam fairness`: does a classifier answer otherwise where a text names another group, or comes from one?"""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli import options as o
from redteam.cli.numbers import check_alpha
from redteam.cli.present import JudgingOptions, ReportOptions, check_output, say
from redteam.cli.progress import progress
from redteam.cli.requests import RequestOptions
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.auditing.fairness.run import Asked
    from redteam.data import Examples
    from redteam.plugins.fairness import FairnessAttack, SwapControl
    from redteam.policy import Policy

Rows = Annotated[
    Path | None, typer.Argument(help="Labelled texts, best such as were not trained on; without, templates are asked.")
]
MODEL = "model.pt, a Hugging Face directory, module:function, or an http(s) URL."


def fairness(
    *,
    target: Annotated[str, typer.Argument(help=MODEL)],
    data: Rows = None,
    asking: o.FairnessOptions,
    rules: JudgingOptions,
    attack: o.Attacks = None,
    set: o.Set = None,
    alpha: o.Alpha = 0.05,
    seed: o.Seed = 0,
    result: ReportOptions,
    columns: o.RowOptions,
    requests: RequestOptions,
    opening: o.OpeningOptions,
    restart: o.Restart = False,
) -> None:
    """Measure fairness: exit 0 pass, 1 proven unfair, 2 inconclusive."""
    from redteam.auditing.fairness.report import audit_fairness
    from redteam.auditing.fairness.run import FairnessAudit
    from redteam.auditing.scoring import ScoreCache
    from redteam.auditing.settings import AuditSettings
    from redteam.cli.references import kept_answers
    from redteam.targets.loading import load_target
    from redteam.targets.target import labels_of

    today = date.today()
    policy, older = rules.load(today)
    check_alpha(alpha)
    check_output(result.output, rules.policy, rules.baseline, data, asking.templates, Path(target))
    rows = _rows(data, columns)
    asked = asking.asked(rows, seed=seed)
    attacks, control = _chosen(attack, asking, set or [])
    policy = _about_fairness(policy, attacks, asked, rows)
    opened = load_target(target, **requests.settings(target, opening))
    labels = labels_of(opened) or tuple(sorted({*((rows.labels or ()) if rows else ())}))
    other = None if asking.compare_with is None else load_target(asking.compare_with)
    probe = replace(asked.probe(rows, labels, control), other=other)
    for note in (*getattr(opened, "notes", ()), *asked.remarks):
        say(note)
    settings = AuditSettings(alpha=alpha, seed=seed, limits=policy.limits)
    with progress("asking") as show:
        cache = ScoreCache(opened, folder=kept_answers(), progress=show, restart=restart, tell=say)
        how = FairnessAudit(probe, attacks, control.id, tuple(asked.remarks))
        report = audit_fairness(cache, how, rows, settings, progress=show)
    raise typer.Exit(result.present(report, policy, today, baseline=older))


def _rows(data: Path | None, columns: o.RowOptions) -> "Examples | None":
    from redteam.data import read_examples

    if data is None:
        return None
    reading = read_examples(data, columns.columns())
    for note in reading.notes:
        say(note)
    return reading.examples


def _chosen(
    wanted: list[str] | None, asking: o.FairnessOptions, given: list[str]
) -> "tuple[tuple[FairnessAttack, ...], SwapControl]":
    from redteam.plugins.registry import choose, discover_fairness, discover_swap_controls
    from redteam.plugins.settings import tune

    found = discover_fairness()
    chosen = choose(found, wanted) if wanted else tuple(each for each in found if not each.only_named)
    asked = {each.id for each in (*chosen, *(each for each in found if asking.describes(each)))}
    chosen = tuple(each for each in found if each.id in asked)
    return tune(chosen, given), discover_swap_controls()[0]


def _about_fairness(
    policy: "Policy", attacks: "tuple[FairnessAttack, ...]", asked: "Asked", rows: "Examples | None"
) -> "Policy":
    """Return the limits of a policy that are on fairness; without a file, built-in ones on what was asked."""
    from redteam.policy import DEFAULT
    from redteam.report import Limit
    from redteam.report.fairness import FairnessMetric
    from redteam.report.metrics import known_metrics, metric

    ids = {attack.id for attack in attacks}
    if policy == DEFAULT:
        given = {name for attack in attacks for name in attack.metrics}
        of_pairs = (Limit("flip_rate", 0.1),) if asked.swaps and "flip_rate" in given else ()
        grouped = rows is not None and rows.groups is not None and "group_gap" in given
        return replace(policy, limits=(*of_pairs, *((Limit("group_gap", 0.2),) if grouped else ())))
    limits = tuple(limit for limit in policy.limits if isinstance(metric(limit.metric), FairnessMetric))
    if not limits:
        keys = ", ".join(each.key for each in known_metrics() if isinstance(each, FairnessMetric))
        raise UsageError(f"{policy.source}: limits nothing that is measured here: set one of {keys}")
    if left := [limit.key for limit in policy.limits if limit not in limits]:
        say(f"{policy.source}: {', '.join(dict.fromkeys(left))} are judged by redteam audit, not here")
    return replace(policy, limits=limits, require=tuple(each for each in policy.require if each in ids))
