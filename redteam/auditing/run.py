"""The one pass: score a pool blindly, then join the scores with who was a member, and write down what they show.

Which numbers are judged, and how they share the error of the report, is settled in `redteam.auditing.family` before the
first attack runs. The breakdowns by label and by group are families of their own with their own alpha, and are never
judged. The controls have a level of their own, `redteam.auditing.grading`. Where whole users were put in or left out,
every interval is over users, `redteam.data.grouping`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from redteam import __version__
from redteam.auditing import group_leaks
from redteam.auditing.besides import Besides
from redteam.auditing.breakdown import by_group, exposed_row, measure_accuracy, most_exposed, users_and_rows
from redteam.auditing.curves import pictures
from redteam.auditing.epsilon import Canaries, fair_canaries
from redteam.auditing.family import Family, make_family
from redteam.auditing.grading import Looked, look
from redteam.auditing.keeping import not_kept
from redteam.auditing.measure import Measured, most_telling, run_attacks
from redteam.auditing.references import check_drawn_from_both, compared
from redteam.auditing.risk import rows_at_risk, tail_warning
from redteam.auditing.scoring import ScoreCache
from redteam.auditing.settings import AuditSettings
from redteam.auditing.skipped import left_out, refused_texts, without_refused
from redteam.auditing.summary import data_summary, target_summary
from redteam.canary.evidence import CanaryAudit
from redteam.canary.label_evidence import ATTACK as LABELS
from redteam.core.progress import Progress, phase, unwatched
from redteam.data import Examples, Split
from redteam.models.encoder import public_encoder
from redteam.plugins.attack import Attack, Control, suited
from redteam.plugins.context import AttackContext
from redteam.plugins.reference_scores import ReferenceProvider
from redteam.plugins.registry import discover_attacks, discover_controls, discover_risks
from redteam.report.values import AuditReport, ClassLeak, Evidence, Failure, Guarantee, Scope
from redteam.targets.target import Target

Kind = TypeVar("Kind")


def audit(
    target: Target,
    split: Split,
    attacks: Sequence[Attack] | None = None,
    *,
    controls: Sequence[Control] | None = None,
    settings: AuditSettings = AuditSettings(),
    guarantee: Guarantee | None = None,
    planted: CanaryAudit | None = None,
    besides: Besides | None = None,
    references: ReferenceProvider | None = None,
    progress: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
    restart: bool = False,
    tell: Callable[[str], None] | None = None,
    kept: dict[Any, Any] | None = None,
) -> AuditReport:
    """Attack `target` with the examples of `split` and report what was found; nothing is decided here.

    Membership joins the scores after the last attack. `settings` say at which level and where intervals are measured,
    `guarantee` is what the training claims, and `progress` hears of texts done and all of them.
    `attacks` and `controls` default to all there are, but for attacks that others outdo on this target; `planted` are
    canaries in the training data and the attacks after them, `besides` is what else is measured. `references` gives the
    scores of reference models, which attacks may use. `folder` is where answers of a broken-off pass are kept,
    `restart` forgets them, and `tell` is told of their use; `kept` is what attacks left in another audit of these rows.
    Raises TargetError or BundleError where the target gives no usable answers, or refuses too many texts; what goes
    wrong inside one attack is a `Failure` in the report.
    """
    wanted = discover_attacks() if attacks is None else tuple(attacks)
    controls = discover_controls() if controls is None else tuple(controls)
    cache = ScoreCache(
        target, folder=folder, progress=progress, restart=restart, tell=tell, max_skipped=settings.max_skipped
    )
    if planted is not None:
        planted.check(target)
    looked, skipped = _what_answers(cache, split, wanted, controls, settings)
    attacks = suited(wanted, cache.access) if attacks is None else wanted
    found = fair_canaries(looked.split, looked.units.is_member, guarantee, seed=settings.seed)
    context = _context(target, looked, attacks, references, settings, progress or unwatched, kept)
    job = _Job(cache, looked, attacks, planted, settings, context, guarantee, found, besides or Besides())
    return _report(job, skipped, controls)


def _report(job: "_Job", skipped: tuple[int, int], controls: Sequence[Control]) -> AuditReport:
    """Run the attacks and write down what they show."""
    looked, planted, settings = job.looked, job.planted, job.settings
    family = job.family()
    outcomes, extracted = job.outcomes(family), job.others(family)
    measured = [outcome for outcome in outcomes if isinstance(outcome, Measured)]
    accuracy = measure_accuracy(job.cache, looked.pool, looked.is_member) if measured or extracted else None
    ran: list[Any] = [*job.attacks, *(each for one in (planted, job.besides) if one for each in one.attacks)]
    asked = [one.id for one in ran] + [one.id for one in controls] + ([LABELS] if job.besides.labels else [])
    alike, told = compared(job.cache, looked.pool, looked.is_member, job.context.reference_scores)
    references = job.references(measured)
    how: dict[str, Any] = {"references": references, "alpha": settings.alpha, "seed": settings.seed}
    return AuditReport(
        target=target_summary(job.cache, job.cache.target, *told),
        data=data_summary(looked.split, skipped, planted),
        grade=looked.grade,
        grade_reason=looked.reason + job.no_epsilon,
        multiplicity=family.multiplicity(),
        evidence=(
            *(each for one in measured for each in one.evidence),
            *_only(Evidence, extracted),
            *group_leaks.measure(job.by_group, measured, looked, family.level),
        ),
        failures=(*looked.failures, *_only(Failure, outcomes), *_only(Failure, extracted)),
        controls=looked.controls,
        guarantee=job.guarantee,
        seed=settings.seed,
        accuracy=accuracy,
        scope=Scope(tuple(asked), family.ids, job.guarantee is not None, accuracy is not None),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        references=references,
        attack_notes=(*job.notes, *job.besides.notes, *job.warnings()),
        fairness=tuple(job.besides.numbers),
        taxonomy={one.id: one.taxonomy for one in ran if one.taxonomy is not None},
        not_kept=not_kept(job.attacks, family.primary, job.context, alike),
        pictures=pictures(measured, [share.id for share in family.shares], looked.units, ran, **how),
        **_breakdowns(job, most_telling(measured, family)),
    )


@dataclass(frozen=True)
class _Job:
    """All that is settled before the first attack runs; `found` are the fair canaries, or why there are none, `notes`
    what attacks remark."""

    cache: ScoreCache
    looked: Looked
    attacks: Sequence[Attack]
    planted: CanaryAudit | None
    settings: AuditSettings
    context: AttackContext
    guarantee: Guarantee | None
    found: Canaries | str
    besides: Besides
    notes: list[str] = field(default_factory=list)

    @property
    def known(self) -> Canaries | None:
        """The canaries whose epsilon can be measured."""
        return self.found if isinstance(self.found, Canaries) else None

    @property
    def no_epsilon(self) -> str:
        """Why no epsilon is measured, where membership was drawn at random and it might have been."""
        return f"; no epsilon is measured: {self.found}" if self.looked.grade == "A" and self.known is None else ""

    def family(self) -> Family:
        """Return the numbers there will be, which of them are judged, and how these share the error."""
        access = self.cache.access
        judged, described = self.besides.planned(self.cache, self.settings, claimed=self.guarantee is not None)
        return make_family(
            [attack for attack in self.attacks if attack.applies(access, self.context) is None],
            self.settings,
            epsilon=self.known is not None,
            claimed=self.guarantee is not None,
            unit=self.looked.units.unit,
            planted=(*(() if self.planted is None else self.planted.planned(access)), *judged, *self.by_group),
            described=described,
        )

    @property
    def by_group(self) -> tuple[str, ...]:
        able = [attack for attack in self.attacks if attack.applies(self.cache.access, self.context) is None]
        return group_leaks.planned(able, self.looked, self.settings.limits or ())

    def others(self, family: Family) -> list[Evidence | Failure]:
        """Return what planted canaries show, and all that is measured besides, at their levels."""
        return [*self.extracted(family.of_canaries), *self.besides.run(self.cache, family, self.context)]

    def outcomes(self, family: Family) -> list[Measured | Failure]:
        """Return what every signal gave at its level, or why there is nothing."""
        if self.looked.grade == "C":
            return list(_refusals(self.attacks, self.looked.reason))
        blind, units = _blind(self.cache.target, self.looked.pool), self.looked.units
        context = replace(self.context, remark=self.notes.append)
        how: dict[str, Any] = {"context": context, "settings": self.settings, "canaries": self.known}
        return list(run_attacks(self.cache, blind, units, self.attacks, family=family, **how))

    def references(self, measured: Sequence[Measured]) -> int:
        """Return how many reference models an attack that gave numbers made use of."""
        given = self.context.reference_scores
        ran = {one.attack for one in measured}
        used = any(attack.uses_references and attack.id in ran for attack in self.attacks)
        return len(given) if used and given is not None else 0

    def warnings(self) -> tuple[str, ...]:
        """Return what the answers alone let one fear; of rows, so not where whole users were put in."""
        if self.looked.grade == "C" or self.looked.units.unit == "user":
            return ()
        settings = self.settings
        return tail_warning(
            self.cache, self.looked.pool, self.looked.is_member, alpha=settings.alpha, seed=settings.seed
        )

    def extracted(self, each: float) -> list[Evidence | Failure]:
        """Return what the attacks after planted canaries gave at level `each`."""
        if self.planted is None:
            return []
        how: dict[str, Any] = {"seed": self.settings.seed, "progress": self.context.progress}
        return list(self.planted.run(self.cache, each=each, **how))


def _context(
    target: Target,
    looked: Looked,
    attacks: Sequence[Attack],
    references: ReferenceProvider | None,
    settings: AuditSettings,
    progress: Progress,
    kept: dict[Any, Any] | None,
) -> AttackContext:
    reads = any(attack.reads_texts for attack in attacks)
    given = None if references is None or looked.grade == "C" else references.scores(looked.pool)
    check_drawn_from_both(given, looked.units)
    return AttackContext(
        settings.seed,
        progress,
        encoder=public_encoder(settings.base, settings.vectors) if reads else None,
        reference_scores=given,
        nonmembers=None if looked.split.reference is None else _anonymous(looked.split.reference),
        requests=getattr(target, "requests_left", None),
        kept={} if kept is None else kept,
    )


def _only(kind: type[Kind], outcomes: Sequence[Any]) -> Iterator[Kind]:
    return (each for each in outcomes if isinstance(each, kind))


def _what_answers(
    cache: ScoreCache, split: Split, attacks: Sequence[Attack], controls: Sequence[Control], settings: AuditSettings
) -> tuple[Looked, tuple[int, int]]:
    """Return what the controls say of the texts that the target answers, and how many members and others it refused."""
    looked = look(split, controls, seed=settings.seed)
    target = cache.target
    if looked.grade == "C" or not any(attack.needs in target.access for attack in attacks):
        return looked, (0, 0)
    refused = refused_texts(cache, _blind(target, looked.pool))
    if not refused:
        return looked, (0, 0)
    left = without_refused(looked.split, refused, most=settings.max_skipped, name=target.name)
    again = look(left, controls, seed=settings.seed, before=looked.matched)
    return again, left_out(looked.split, left)


def _breakdowns(job: _Job, first: Measured | None) -> dict[str, Any]:
    """Return what the first signal shows by label, group, row and user; none of it is judged."""
    pool, units, split, settings = job.looked.pool, job.looked.units, job.looked.split, job.settings
    if first is None:
        return {"classes": (), "classes_signal": None, "exposed": (), "groups": (), "users": split.users}
    risks = rows_at_risk(
        discover_risks(), job.context.reference_scores, job.looked.is_member, alpha=settings.alpha
    ) or most_exposed(first.scores, job.looked.is_member)
    labels, groups = (pool.labels, pool.groups) if settings.breakdowns else (None, None)

    def within(kind: str, names: Sequence[str] | None) -> tuple[ClassLeak, ...]:
        shown = unwatched if names is None else phase(job.context.progress, f"intervals by {kind}")
        return by_group(names, first.scores, units, alpha=settings.alpha, progress=shown)

    return {
        "classes": within("label", labels),
        "classes_signal": f"{first.attack}:{first.signal}",
        "exposed": tuple(exposed_row(pool, row, risk, split.salt, settings.show_text) for row, risk in risks),
        "groups": within("group", groups),
        "users": users_and_rows(split, first.scores, job.looked.is_member),
    }


def _blind(target: Target, pool: Examples) -> Examples:
    """Return the pool as attacks see it; saved scores are looked up by row."""
    return pool if target.kind == "scores" else _anonymous(pool)


def _anonymous(pool: Examples) -> Examples:
    """Return the pool with nothing but texts and labels: a row number or an id can tell which side it came from."""
    return Examples(np.arange(len(pool)), pool.texts, pool.labels)


def _refusals(attacks: Sequence[Attack], reason: str) -> Iterator[Failure]:
    for attack in attacks:
        yield Failure(attack.id, "refused", f"evidence is grade C: {reason}")
