"""A report on fairness alone: how a target answers about groups, with nothing said of membership."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from redteam import __version__
from redteam.auditing.fairness.run import FairnessAudit, level_of, shared
from redteam.auditing.scoring import ScoreCache
from redteam.auditing.settings import AuditSettings
from redteam.core import UsageError
from redteam.core.progress import unwatched
from redteam.data import Examples
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAttack
from redteam.report import plural
from redteam.report.reading import measured_by
from redteam.report.values import (
    Accuracy,
    AuditReport,
    DataSummary,
    ErrorShare,
    Failure,
    Multiplicity,
    Scope,
    TargetSummary,
)
from redteam.targets.target import Access, label_indices, labels_of

NO_MEMBERS = "nothing about membership was measured, which takes redteam audit"


def audit_fairness(
    cache: ScoreCache,
    asked: FairnessAudit,
    rows: Examples | None,
    settings: AuditSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Measure fairness of the target behind `cache` and report what was found; nothing is decided here.

    `rows` are those whose right labels say whether the target has learned anything; None: templates alone. Raises
    DataError where a limit is on what the rows cannot give, UsageError where there is nothing to measure.
    """
    limits = settings.limits or ()
    _ask_once(cache, asked, rows)
    labels = labels_of(cache)
    asked.check(labels, limits)
    planned = asked.planned(labels, cache.access)
    if not planned and not any(attack.describes for attack in asked.attacks):
        raise UsageError("nothing to measure: give --swaps, or DATA with a column of groups (--group-column)")
    shares = shared(planned, limits, settings.alpha)
    level = level_of(shares, asked.attacks, settings.alpha)
    found = asked.run(cache, level, AttackContext(settings.seed, progress or unwatched))
    accuracy = None if rows is None else _accuracy(cache, rows)
    ran = tuple(attack.id for attack in asked.attacks if _gives(attack, planned, found.failures))
    return AuditReport(
        target=TargetSummary(cache.name, cache.kind, cache.access.word, len(labels), cache.digest, cache.noticed),
        data=DataSummary(0 if rows is None else len(rows), 0, 0, 0, 0),
        grade="B",
        grade_reason=NO_MEMBERS,
        multiplicity=_multiplicity(shares, settings.alpha),
        evidence=found.evidence,
        failures=found.failures,
        controls=(),
        classes=(),
        classes_signal=None,
        exposed=(),
        guarantee=None,
        seed=settings.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        accuracy=accuracy,
        scope=Scope(ran, planned, guarantee=False, accuracy=accuracy is not None),
        attack_notes=(*asked.remarks, *found.notes, *_controlled(asked)),
        fairness=found.numbers,
    )


def _ask_once(cache: ScoreCache, asked: FairnessAudit, rows: Examples | None) -> None:
    """Ask for every text before anything is measured: one pass, which an interruption takes up where it was."""
    texts = [
        text for pairs in asked.probe.pairs for part in (pairs.texts, pairs.swapped, *pairs.placebos) for text in part
    ]
    own = rows if rows is not None else None
    texts = [*texts, *((own.texts or ()) if own is not None else ())]
    if texts:
        every = Examples(np.arange(len(texts)), tuple(texts))
        cache.log_probabilities(every) if Access.PROBABILITIES in cache.access else cache.predict(every)


def _gives(attack: FairnessAttack, planned: tuple[str, ...], failures: tuple[Failure, ...]) -> bool:
    there = attack.describes or any(each.startswith(f"{attack.id}.") for each in planned)
    return there or any(failure.attack == attack.id for failure in failures)


def _controlled(asked: FairnessAudit) -> tuple[str, ...]:
    pairs = sum(len(each) for each in asked.probe.pairs)
    return (f"{asked.control}: {plural(pairs, 'placebo swap')} beside the swaps of groups",) if pairs else ()


def _multiplicity(shares: tuple[ErrorShare, ...], alpha: float) -> Multiplicity:
    named = dict.fromkeys(measured_by(share.id).name for share in shares)
    most = max((share.error for share in shares), default=alpha)
    method = f"Bonferroni: {alpha:g} shared equally over {plural(len(named), 'metric')} ({', '.join(named)})"
    return Multiplicity(alpha, len(shares), most, method if shares else "nothing is judged", None, shares)


def _accuracy(cache: ScoreCache, rows: Examples) -> Accuracy | None:
    """Return how often the target is right; None where rows have no labels."""
    if rows.labels is None:
        return None
    own = label_indices(labels_of(cache), rows, name=cache.name)
    right = float((cache.predict(rows) == own).mean())
    return Accuracy(right, right, max(Counter(own.tolist()).values()) / len(own))
