"""What every signal of every attack gives: intervals that share one error, by one plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redteam.auditing.epsilon import Canaries
from redteam.auditing.family import Family
from redteam.auditing.settings import AuditSettings
from redteam.core import StatisticsError, one_line
from redteam.core.arrays import FloatArray
from redteam.core.progress import phase
from redteam.data import Examples
from redteam.data.grouping import Grouping
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report.metrics import metric
from redteam.report.values import Evidence, Failure, rule_of
from redteam.statistics import Interval, two_sided
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


def most_telling(measured: Sequence[Measured], family: Family) -> Measured | None:
    """Return the primary attack's first judged signal, or the first there is."""
    judged = {share.id.partition(":")[2] for share in family.shares if share.id.startswith(f"{family.primary}.")}
    of_primary = [one for one in measured if one.attack == family.primary]
    return next(iter([*(one for one in of_primary if one.signal in judged), *of_primary, *measured]), None)


def run_attacks(
    target: Target,
    pool: Examples,
    units: Grouping,
    attacks: Sequence[Attack],
    *,
    context: AttackContext,
    settings: AuditSettings,
    family: Family,
    canaries: Canaries | None = None,
) -> Iterator[Measured | Failure]:
    """Yield what every signal of every attack gave, or why there is nothing; the mask is joined after scoring.

    With `canaries` each signal also gives an epsilon. `family` says at which level each interval is. Raises TargetError
    where the target itself gives no usable answers.
    """
    if any(attack.needs in target.access for attack in attacks):
        _answer_once(target, pool)
    for attack in attacks:
        reason = attack.applies(target.access, context)
        if reason is not None:
            # what runs only where it is named was asked for, and no judge of the report may pass over it
            yield Failure(attack.id, "failed" if attack.only_named else "not_applicable", reason)
            continue
        try:
            scores = attack.score(target, pool, _for_attack(context, attack))
        except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end an audit as a pass
            yield Failure(attack.id, "failed", one_line(error))
            continue
        shown = phase(context.progress, f"intervals of {attack.id}")
        for done, signal in enumerate(attack.signals, 1):
            yield _measure(attack, signal, scores.get(signal), units, settings, family, canaries)
            shown(done, len(attack.signals))


def _for_attack(context: AttackContext, attack: Attack) -> AttackContext:
    """Return the context in which what an attack remarks bears its id, and its progress its name."""
    shown = phase(context.progress, f"{attack.id} {attack.name}")
    return replace(context, progress=shown, remark=lambda line: context.remark(f"{attack.id}: {line}"))


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
    family: Family,
    canaries: Canaries | None,
) -> Measured | Failure:
    attack = by.id

    def level(name: str, fpr: float | None = None) -> float:
        return family.level(f"{rule_of(attack, name, fpr, units.unit)}:{signal}")

    if scores is None:
        return Failure(attack, "failed", f"{signal}: the attack returned no scores for it")
    try:
        values = units.score(scores)
        ranking = rank(values, units.is_member, may_tie=by.may_tie)
        interval = area_interval(ranking, alpha=level("auc"), low_share=metric("auc").low_share)
        evidence = [_evidence(attack, signal, "auc", ranking, interval)]
        for fpr in settings.fprs:
            ends = two_sided(level("tpr", fpr))  # only one of them fails a build
            interval = replace(tpr_interval(ranking, fpr=fpr, alpha=ends, seed=settings.seed), alpha=level("tpr", fpr))
            evidence.append(_evidence(attack, signal, "tpr", ranking, interval, fpr))
        if canaries is not None:
            own = np.asarray(values, np.float64)
            evidence.append(
                canaries.measure(attack, signal, own, units.is_member, alpha=level("epsilon"), seed=settings.seed)
            )
    except StatisticsError as error:
        return Failure(attack, "failed", f"{signal}: {error}")
    return Measured(
        attack, signal, np.asarray(scores, dtype=np.float64), tuple(replace(each, unit=units.unit) for each in evidence)
    )


def _evidence(
    attack: str, signal: str, name: str, ranking: Ranking, interval: Interval, fpr: float | None = None
) -> Evidence:
    members, nonmembers = ranking.n_members, ranking.n_nonmembers
    most = metric(name).attainable(members, nonmembers, alpha=interval.alpha, fpr=fpr)
    assert most is not None  # of an AUC, and of a TPR at an FPR
    return Evidence(attack, signal, name, interval, members, nonmembers, most, fpr)
