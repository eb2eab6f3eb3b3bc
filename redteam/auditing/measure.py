"""What every signal of every attack gives: intervals that share one error, by one plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redteam.auditing.epsilon import Canaries
from redteam.auditing.settings import AuditSettings
from redteam.core import StatisticsError, one_line
from redteam.core.arrays import FloatArray
from redteam.data import Examples
from redteam.data.grouping import Grouping
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report import LOW_BOUND
from redteam.report.metrics import metric
from redteam.report.values import Evidence, Failure, Multiplicity, Unit, rule_of
from redteam.statistics import Interval
from redteam.statistics.area import area_interval
from redteam.statistics.ranking import Ranking, rank
from redteam.statistics.tpr import tpr_interval
from redteam.targets.target import Access, Target, classifier, label_indices, labels_of


@dataclass(frozen=True)
class Measured:
    """What one signal of an attack gave: its scores, one a row, and the evidence from them."""

    attack: str
    signal: str
    scores: FloatArray
    evidence: tuple[Evidence, ...]


def run_attacks(
    target: Target,
    pool: Examples,
    units: Grouping,
    attacks: Sequence[Attack],
    *,
    context: AttackContext,
    settings: AuditSettings,
    each: float,
    canaries: Canaries | None = None,
) -> Iterator[Measured | Failure]:
    """Yield what every signal of every attack gave, or why there is nothing; the mask is joined after scoring.

    With `canaries` each signal also gives an epsilon. Each interval is at level `each`. Raises TargetError where the
    target itself gives no usable answers.
    """
    if any(attack.needs in target.access for attack in attacks):
        _answer_once(target, pool)
    for attack in attacks:
        reason = attack.applies(target.access, context)
        if reason is not None:
            yield Failure(attack.id, "not_applicable", reason)
            continue
        try:
            scores = attack.score(target, pool, context)
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
    rules: list[tuple[str, float | None]] = [("auc", None), *(("tpr", fpr) for fpr in fprs)]
    rules += [("epsilon", None)] if epsilon else []
    return tuple(
        f"{rule_of(attack.id, name, fpr, unit)}:{signal}"
        for attack in attacks
        if attack.needs in access
        for signal in attack.signals
        for name, fpr in rules
    )


def _answer_once(target: Target, pool: Examples) -> None:
    """Ask for every row before any attack does: a target that is down or talks nonsense ends the audit here."""
    if Access.PROBABILITIES in target.access:
        if pool.labels is not None:
            label_indices(labels_of(target), pool, name=target.name)  # first: a wrong label must cost no request
        classifier(target).log_probabilities(pool)
    elif Access.LOSSES in target.access:
        target.losses(pool)
    else:
        classifier(target).predict(pool)  # labels may only become known with the answers


def _measure(
    by: Attack,
    signal: str,
    scores: FloatArray | None,
    units: Grouping,
    settings: AuditSettings,
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
            included = canaries.measure(
                attack, signal, np.asarray(values, np.float64), units.is_member, alpha=each, seed=settings.seed
            )
            evidence.append(included)
    except StatisticsError as error:
        return Failure(attack, "failed", f"{signal}: {error}")
    own = np.asarray(scores, dtype=np.float64)
    return Measured(attack, signal, own, tuple(replace(each, unit=units.unit) for each in evidence))


def _evidence(
    attack: str, signal: str, name: str, ranking: Ranking, interval: Interval, fpr: float | None = None
) -> Evidence:
    members, nonmembers = ranking.n_members, ranking.n_nonmembers
    most = metric(name).attainable(members, nonmembers, alpha=interval.alpha, fpr=fpr)
    assert most is not None  # of an AUC, and of a TPR at an FPR
    return Evidence(attack, signal, name, interval, members, nonmembers, most, fpr)


def share_error(
    ids: Sequence[str], extraction: int, settings: AuditSettings, canaries: Canaries | None, unit: Unit
) -> Multiplicity:
    """Return how the error is shared over all planned intervals, of which `extraction` are of canaries."""
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
