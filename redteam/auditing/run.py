"""The one pass: score a pool blindly, then join the scores with who was a member, and write down what they show.

How the error is shared. One report makes many statements, and a build fails if any one of them is "proven". So the
allowed error `alpha` of the whole report is divided by the number of judged intervals before anything is measured:
every applicable attack counts with each of its signals, and each signal with its AUC, its TPR at every FPR asked for
and, where coins decided membership, its epsilon; where the data holds canaries, every attack after them counts with
its extraction rate and its exposure for each number of repetitions. Each interval misses the truth with probability at
most alpha / intervals, hence all of them hold together with probability at least 1 - alpha, whatever their dependence
(Bonferroni). The breakdowns by label and by group are families of their own with their own alpha, and are never
judged. The controls have a level of their own, `redteam.auditing.grading`. Where whole users were put in or left
out, every interval is over users, `redteam.data.grouping`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from redteam import __version__
from redteam.auditing.breakdown import by_group, measure_accuracy, most_exposed
from redteam.auditing.epsilon import Canaries, fair_canaries
from redteam.auditing.grading import look
from redteam.auditing.scoring import ScoreCache
from redteam.auditing.skipped import MAX_SKIPPED, left_out, refused_texts, without_refused
from redteam.canary.evidence import CanaryAudit
from redteam.core.arrays import BoolArray, FloatArray
from redteam.core.errors import StatisticsError, one_line
from redteam.data import Examples, Split
from redteam.data.grouping import Grouping
from redteam.plugins.attack import Attack, Control, suited
from redteam.plugins.inversion import unwatched
from redteam.plugins.registry import discover_attacks, discover_controls
from redteam.report.values import (
    AuditReport,
    DataSummary,
    Evidence,
    Failure,
    Guarantee,
    Metric,
    Multiplicity,
    Scope,
    TargetSummary,
    Unit,
    Users,
    rule_of,
)
from redteam.report.wording import LOW_BOUND
from redteam.statistics.area import area, area_interval
from redteam.statistics.interval import Interval
from redteam.statistics.ranking import Ranking, rank
from redteam.statistics.resolution import ceiling
from redteam.statistics.tpr import tpr_interval
from redteam.targets.answers import OTHER
from redteam.targets.distributions import HARD
from redteam.targets.target import Access, Target, label_indices

FPRS = (0.01,)


@dataclass(frozen=True)
class Settings:
    """How an audit measures: total error, false-positive rates, seed, whether row texts may be shown.

    `max_skipped` is the share of either side that the target may refuse to answer; more end the audit.
    """

    alpha: float = 0.05
    fprs: tuple[float, ...] = FPRS
    seed: int = 0
    show_text: bool = False
    max_skipped: float = MAX_SKIPPED


@dataclass(frozen=True)
class Measured:
    """What one signal of an attack gave: its scores, one a row, and the evidence from them."""

    attack: str
    signal: str
    scores: FloatArray
    evidence: tuple[Evidence, ...]


def audit(
    target: Target,
    split: Split,
    attacks: Sequence[Attack] | None = None,
    *,
    controls: Sequence[Control] | None = None,
    settings: Settings = Settings(),
    guarantee: Guarantee | None = None,
    planted: CanaryAudit | None = None,
    progress: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
    restart: bool = False,
    tell: Callable[[str], None] | None = None,
) -> AuditReport:
    """Attack `target` with the examples of `split` and report what was found; nothing is decided here.

    `attacks` and `controls` default to all there are, but for attacks that others outdo on this target; `planted` are
    canaries in the training data and the attacks after them. `folder` is where answers of a broken-off pass are kept,
    `restart` forgets them, and `tell` is told of their use. Raises TargetError or BundleError where the target gives no
    usable answers, or refuses too many texts; what goes wrong inside one attack is a `Failure` in the report.
    """
    wanted = discover_attacks() if attacks is None else tuple(attacks)
    controls = discover_controls() if controls is None else tuple(controls)
    cache = ScoreCache(
        target, folder=folder, progress=progress, restart=restart, tell=tell, max_skipped=settings.max_skipped
    )
    if planted is not None:
        planted.check(target)
    looked, skipped = look(split, controls, seed=settings.seed), (0, 0)
    if looked.grade != "C" and any(target.access >= attack.needs for attack in wanted):
        refused = refused_texts(cache, _blind(target, looked.pool))
        if refused:
            left = without_refused(looked.split, refused, most=settings.max_skipped, name=target.name)
            skipped = left_out(looked.split, left)
            looked = look(left, controls, seed=settings.seed, before=looked.matched)
    attacks, access = suited(wanted, cache.access) if attacks is None else wanted, cache.access
    split, pool, is_member, units = looked.split, looked.pool, looked.is_member, looked.units
    results, failures, grade, reason = looked.controls, [*looked.failures], looked.grade, looked.reason
    blind = _blind(target, pool)
    canaries = fair_canaries(split, units.is_member, guarantee, seed=settings.seed)
    known = canaries if isinstance(canaries, Canaries) else None
    extraction = () if planted is None else planted.planned(access)
    own = intervals_planned(attacks, access, settings.fprs, epsilon=known is not None, unit=units.unit)
    ids = own + extraction
    share = _share(ids, len(extraction), settings, known, units.unit)
    attacked = run_attacks(cache, blind, units, attacks, settings=settings, each=share.each, canaries=known)
    outcomes = list(_refusals(attacks, reason) if grade == "C" else attacked)
    measured = [outcome for outcome in outcomes if isinstance(outcome, Measured)]
    failures += [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    first = measured[0] if measured else None
    extracted = (
        []
        if planted is None
        else list(planted.run(cache, each=share.each, seed=settings.seed, progress=progress or unwatched))
    )
    failures += [outcome for outcome in extracted if isinstance(outcome, Failure)]
    accuracy = measure_accuracy(cache, pool, is_member) if measured or extracted else None
    asked = (
        [one.id for one in attacks]
        + [one.id for one in (planted.attacks if planted else ())]
        + [one.id for one in controls]
    )
    return AuditReport(
        target=_target_summary(cache, target),
        data=_data_summary(split, skipped, planted),
        grade=grade,
        grade_reason=f"{reason}; no epsilon is measured: {canaries}" if grade == "A" and known is None else reason,
        multiplicity=share,
        evidence=(
            *(evidence for one in measured for evidence in one.evidence),
            *(outcome for outcome in extracted if isinstance(outcome, Evidence)),
        ),
        failures=tuple(failures),
        controls=tuple(results),
        classes=by_group(pool.labels, first.scores, units, alpha=settings.alpha) if first else (),
        classes_signal=f"{first.attack}:{first.signal}" if first else None,
        exposed=most_exposed(first.scores, is_member, pool, split.salt, settings.show_text) if first else (),
        guarantee=guarantee,
        seed=settings.seed,
        accuracy=accuracy,
        scope=Scope(tuple(asked), ids, guarantee is not None, accuracy is not None),
        users=_users(split, first, is_member),
        groups=by_group(pool.groups, first.scores, units, alpha=settings.alpha) if first else (),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )


def _blind(target: Target, pool: Examples) -> Examples:
    """Return the pool as attacks see it; saved scores are looked up by row."""
    return pool if target.kind == "scores" else _anonymous(pool)


def run_attacks(
    target: Target,
    pool: Examples,
    units: Grouping,
    attacks: Sequence[Attack],
    *,
    settings: Settings,
    each: float,
    canaries: Canaries | None = None,
) -> Iterator[Measured | Failure]:
    """Yield what every signal of every attack gave, or why there is nothing; the mask is joined after scoring.

    With `canaries` each signal also gives an epsilon. Each interval is at level `each`. Raises TargetError where the
    target itself gives no usable answers.
    """
    if any(target.access >= attack.needs for attack in attacks):
        _answer_once(target, pool)
    for attack in attacks:
        if target.access < attack.needs:
            reason = f"needs {attack.needs.word}, the target gives {target.access.word}"
            yield Failure(attack.id, "not_applicable", reason)
            continue
        try:
            scores = attack.score(target, pool, seed=settings.seed)
        except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end an audit as a pass
            yield Failure(attack.id, "failed", one_line(error))
            continue
        for signal in attack.signals:
            yield _measure(attack, signal, scores.get(signal), units, settings, each, canaries)


def intervals_judged(attacks: Sequence[Attack], access: Access, fprs: Sequence[float], *, epsilon: bool = False) -> int:
    """Return how many intervals the applicable attacks will give: the family that shares the error."""
    return len(intervals_planned(attacks, access, fprs, epsilon=epsilon))


def intervals_planned(
    attacks: Sequence[Attack],
    access: Access,
    fprs: Sequence[float],
    *,
    epsilon: bool = False,
    unit: Unit = "example",
) -> tuple[str, ...]:
    """Return the id of each of these intervals, by which a report shows whether all of them are there."""
    rules: list[tuple[Metric, float | None]] = [("auc", None), *(("tpr", fpr) for fpr in fprs)]
    rules += [("epsilon", None)] if epsilon else []
    return tuple(
        f"{rule_of(attack.id, metric, fpr, unit)}:{signal}"
        for attack in attacks
        if access >= attack.needs
        for signal in attack.signals
        for metric, fpr in rules
    )


def _answer_once(target: Target, pool: Examples) -> None:
    """Ask for every row before any attack does: a target that is down or talks nonsense ends the audit here."""
    if target.access == Access.LABELS:
        target.predict(pool)  # labels may only become known with the answers
    elif target.access == Access.LOSSES:
        target.losses(pool)
    else:
        if pool.labels is not None:
            label_indices(target.labels, pool, name=target.name)  # first: a wrong label must cost no request
        target.log_probabilities(pool)


def _measure(
    by: Attack,
    signal: str,
    scores: FloatArray | None,
    units: Grouping,
    settings: Settings,
    each: float,
    canaries: Canaries | None,
) -> Measured | Failure:
    attack = by.id
    if scores is None:
        return Failure(attack, "failed", f"{signal}: the attack returned no scores for it")
    try:
        values = units.score(scores)
        ranking = rank(values, units.is_member, may_tie=by.may_tie)
        evidence = [_evidence(attack, signal, "auc", ranking, area_interval(ranking, alpha=each))]
        for fpr in settings.fprs:
            interval = tpr_interval(ranking, fpr=fpr, alpha=each, seed=settings.seed)
            evidence.append(_evidence(attack, signal, "tpr", ranking, interval, fpr))
        if canaries is not None:
            coins = canaries.measure(
                attack, signal, np.asarray(values, np.float64), units.is_member, alpha=each, seed=settings.seed
            )
            evidence.append(coins)
    except StatisticsError as error:
        return Failure(attack, "failed", f"{signal}: {error}")
    own = np.asarray(scores, dtype=np.float64)
    return Measured(attack, signal, own, tuple(replace(each, unit=units.unit) for each in evidence))


def _evidence(
    attack: str, signal: str, metric: str, ranking: Ranking, interval: Interval, fpr: float | None = None
) -> Evidence:
    members, nonmembers = ranking.n_members, ranking.n_nonmembers
    most = ceiling(metric, members, nonmembers, alpha=interval.alpha, fpr=fpr)
    return Evidence(attack, signal, metric, interval, members, nonmembers, most, fpr)  # type: ignore[arg-type]


def _anonymous(pool: Examples) -> Examples:
    """Return the pool with nothing but texts and labels: a row number or an id can tell which side it came from."""
    return Examples(np.arange(len(pool)), pool.texts, pool.labels)


def _share(
    ids: Sequence[str], extraction: int, settings: Settings, canaries: Canaries | None, unit: Unit
) -> Multiplicity:
    intervals = max(1, len(ids))
    rates = ", ".join(f"{fpr:g}" for fpr in settings.fprs)
    epsilon = "" if canaries is None else f", and its epsilon at delta {canaries.delta:g} by one_run; {LOW_BOUND}"
    secrets = f"; {extraction} are extraction rates and exposures of canaries" if extraction else ""
    method = (
        f"Bonferroni: {settings.alpha:g} shared equally over {intervals} intervals, "
        f"the AUC of every signal{' over users' if unit == 'user' else ''} and its TPR at an FPR of {rates}"
        f"{epsilon}{secrets}"
    )
    return Multiplicity(settings.alpha, intervals, settings.alpha / intervals, method)


def _refusals(attacks: Sequence[Attack], reason: str) -> Iterator[Failure]:
    for attack in attacks:
        yield Failure(attack.id, "refused", f"evidence is grade C: {reason}")


def _users(split: Split, first: Measured | None, is_member: BoolArray) -> Users | None:
    """Return how the users stand and, where they are the unit, what their rows would show if they were draws."""
    if split.users is None or split.unit == "example" or first is None:
        return split.users
    with contextlib.suppress(StatisticsError):
        return replace(split.users, rows_auc=area(rank(first.scores, is_member)))
    return split.users


def _target_summary(cache: ScoreCache, target: Target) -> TargetSummary:
    labels = sum(label != OTHER for label in target.labels)
    notes: tuple[str, ...] = getattr(target, "remarks", ())
    if cache.access < target.access:
        notes += (HARD,)
    return TargetSummary(target.name, target.kind, cache.access.word, labels, target.digest, notes)


def _data_summary(split: Split, skipped: tuple[int, int], planted: CanaryAudit | None) -> DataSummary:
    return DataSummary(
        members=len(split.members),
        nonmembers=len(split.nonmembers),
        reference=0 if split.reference is None else len(split.reference),
        moved_out=split.moved_out,
        duplicates=split.duplicates,
        canaries=0 if planted is None else len(planted.planting.canaries),
        skipped_members=skipped[0],
        skipped_nonmembers=skipped[1],
    )
