"""`redteam audit`: attack a target, report what was found, and decide by the policy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from redteam.cli import options as o
from redteam.cli.base import check_base
from redteam.cli.numbers import check_alpha
from redteam.cli.present import JudgingOptions, ReportOptions, check_output, say, tell
from redteam.cli.progress import progress
from redteam.cli.references import (
    ReferenceOptions,
    ReferenceSources,
    foreseen,
    kept_answers,
    outline_of,
    provider,
    watched,
)
from redteam.cli.requests import RequestOptions
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.auditing.inputs import AuditInputs, Sources
    from redteam.auditing.settings import AuditSettings
    from redteam.canary.evidence import CanaryAudit
    from redteam.models.trial import Limits
    from redteam.plugins.attack import Attack
    from redteam.plugins.extraction import ExtractionAttack
    from redteam.plugins.reference_scores import ReferenceProvider
    from redteam.policy import Policy
    from redteam.report.values import AuditReport


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The files that say which texts were trained on."""

    members: o.Members = None
    nonmembers: o.Nonmembers = None
    data: o.Data = None
    scores: o.Scores = None
    ledger: o.LedgerFile = None
    training_data: o.TrainingData = None
    released: o.Released = None
    canary_ledger: o.CanaryLedger = None
    split_column: o.SplitColumn = None
    label_map: o.LabelMap = None

    @property
    def files(self) -> tuple[Path | None, ...]:
        """All of them, which no report may overwrite."""
        files = (self.members, self.nonmembers, self.data, self.scores, self.ledger)
        return (*files, self.training_data, self.released, self.canary_ledger, self.label_map)

    def sources(self, columns: o.RowOptions) -> "Sources":
        """Return them as the audit takes them."""
        from redteam.auditing.inputs import Sources

        return Sources(
            members=self.members,
            nonmembers=self.nonmembers,
            data=self.data,
            ledger=self.ledger,
            scores=self.scores,
            canaries=self.canary_ledger,
            training_data=self.training_data,
            released=self.released,
            columns=columns.columns(split=self.split_column),
            label_map=self.label_map,
        )


@dataclass(frozen=True, kw_only=True)
class MeasuringOptions:
    """How the numbers of an audit are made."""

    fpr: o.Fprs = None
    alpha: o.Alpha = 0.05
    seed: o.Seed = 0
    show_text: o.ShowText = False
    max_skipped: o.MaxSkipped = None
    swaps: o.Swaps = None

    def settings(self, policy: "Policy") -> "AuditSettings":
        """Return the settings of an audit, with the FPRs that a policy asks for; UsageError for impossible ones."""
        from redteam.auditing.settings import FPRS, AuditSettings
        from redteam.auditing.skipped import MAX_SKIPPED

        check_alpha(self.alpha)
        fprs = [*(each.fpr for each in policy.limits if each.fpr is not None), *(self.fpr or [])]
        for fpr in fprs:
            if not 0 < fpr < 1:
                raise UsageError(f"--fpr {fpr}: must lie between 0 and 1")
        skipped = MAX_SKIPPED if self.max_skipped is None else self.max_skipped
        if not 0 <= skipped < 1:
            raise UsageError(f"--max-skipped {skipped}: must lie between 0 and 1, 1 excluded")
        rates = tuple(dict.fromkeys(fprs)) or FPRS
        return AuditSettings(self.alpha, rates, self.seed, self.show_text, skipped, policy.limits)


def audit(
    *,
    target: o.Target = None,
    sources: SourceOptions,
    base: o.Base = None,
    rules: JudgingOptions,
    attack: o.Attacks = None,
    set: o.Set = None,
    references: ReferenceOptions,
    measuring: MeasuringOptions,
    result: ReportOptions,
    dry_run: o.DryRun = False,
    columns: o.RowOptions,
    requests: RequestOptions,
    opening: o.OpeningOptions,
    restart: o.Restart = False,
) -> None:
    """Audit a text classifier: exit 0 pass, 1 leak, 2 inconclusive."""
    today = date.today()
    policy, older = rules.load(today)
    files = (*sources.files, *references.files)
    check_output(result.output, rules.policy, rules.baseline, *files, base, *_named(target))
    references.check()
    inputs, attack = _open(target, sources.sources(columns), requests, opening, attack or None)
    settings = replace(measuring.settings(policy), base=base, swaps=tuple(measuring.swaps or ()))
    trains = references.trains
    attacks, planted = _chosen(attack, set or [], inputs, base, opening.limits(), policy.require, trains=trains)
    made_of = ReferenceSources(inputs, target, sources.ledger, base, settings.seed, kept_answers(), opening)
    used = attacks is None or any(each.uses_references for each in attacks)
    gradients = any(each.reads_gradients for each in attacks or ())
    compared = provider(references, made_of, used=used, gradients=gradients)
    if dry_run:
        plan = _plan(inputs, attacks, planted, policy, settings, foreseen(compared, inputs, settings.seed))
        return tell("\n".join((plan, *outline_of(compared, inputs, settings.seed))))
    report = _run(inputs, attacks, planted, compared, settings, restart)
    raise typer.Exit(result.present(report, policy, today, baseline=older))


def _named(target: str | None) -> tuple[Path, ...]:
    """Return the files that a target's name stands for: the model and the ledger beside it."""
    from redteam.data.ledger import ledger_path

    return () if target is None else (Path(target), ledger_path(Path(target)))


def _open(
    target: str | None, sources: "Sources", requests: RequestOptions, opening: o.OpeningOptions, asked: list[str] | None
) -> "tuple[AuditInputs, list[str] | None]":
    from redteam.auditing.inputs import open_inputs
    from redteam.auditing.released import open_released, parted

    tries, others = parted(asked, sources.released)
    inputs = open_inputs(target, sources, requests.settings(target, opening))
    if sources.released is not None:
        inputs = open_released(sources.released, inputs, target, sources.ledger, tries)
    for note in inputs.notes:
        say(note)
    return inputs, others


def _chosen(
    wanted: list[str] | None,
    given: list[str],
    inputs: "AuditInputs",
    base: Path | None,
    most: "Limits",
    required: Sequence[str],
    *,
    trains: bool,
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
    chosen = tune(everything if wanted is None else choose(everything, wanted), given)
    changed = [attack.id for attack in chosen if changes_of(attack)]
    extractions = tuple(attack for attack in chosen if isinstance(attack, ExtractionAttack))
    none = "the training data holds no canaries to extract"
    unasked = [f"--attack {attack.id}: {none}" for attack in extractions if wanted]
    unasked += [f"--set {attack.id}.{changes_of(attack)}: {none}" for attack in extractions if attack.id in changed]
    reads = trains or any(isinstance(attack, Attack) and attack.reads_texts for attack in chosen)
    unasked += [] if base is None or reads else [f"--base {base}: no attack that was named compares texts, and {none}"]
    if inputs.planting is None and unasked:
        raise UsageError(f"{unasked[0]}; see: redteam canary plant --help")
    kept = None if wanted is not None else (*required, *changed)
    check_base(base, extractions, most)
    meant = (*changed, *required)
    attacks = tuple(
        attack
        for attack in chosen
        if isinstance(attack, Attack) and (wanted is not None or not attack.only_named or attack.id in meant)
    )
    named = wanted is not None or any(
        attack.id in changed or (attack.id in required and (attack.only_named or attack.outdone_from is not None))
        for attack in attacks
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


def _plan(
    inputs: "AuditInputs",
    attacks: "tuple[Attack, ...] | None",
    planted: "CanaryAudit | None",
    limits: "Policy",
    settings: "AuditSettings",
    references: dict[str, Any],
) -> str:
    from redteam.auditing.fairness.inside import besides_of
    from redteam.auditing.keeping import weaker_than
    from redteam.auditing.plan import make_plan
    from redteam.plugins.attack import suited
    from redteam.plugins.registry import discover_attacks

    weak = attacks and weaker_than(attacks, inputs.target.access, references=bool(references["references"]))
    if attacks is None:
        attacks = suited(discover_attacks(), inputs.target.access)
    known: dict[str, Any] = {"guarantee": inputs.guarantee, "planted": planted}
    known |= {"besides": besides_of(inputs, settings), **references}
    made = make_plan(inputs.target, inputs.split, attacks, limits, settings, **known).text
    return f"{made}\nNOT KEPT   {weak}: no limit on members is kept by finding less" if weak else made


def _run(
    inputs: "AuditInputs",
    attacks: "tuple[Attack, ...] | None",
    planted: "CanaryAudit | None",
    compared: "ReferenceProvider | None",
    settings: "AuditSettings",
    restart: bool,
) -> "AuditReport":
    from redteam.auditing.fairness.inside import besides_of
    from redteam.auditing.keeping import held_open, weaker_than
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
            besides=besides_of(inputs, settings),
            references=watched(compared, show),
            progress=show,
            folder=kept_answers(),
            restart=restart,
            tell=say,
        )
    tuned: tuple[Attack | ExtractionAttack, ...] = (*(attacks or ()), *(planted.attacks if planted else ()))
    notes = tuple(f"{attack.id} was run with {changes_of(attack)}" for attack in tuned if changes_of(attack))
    weak = attacks and weaker_than(attacks, inputs.target.access, references=compared is not None)
    report = held_open(report, weak) if weak else report
    return replace(report, target=replace(report.target, notes=(*report.target.notes, *notes)))
