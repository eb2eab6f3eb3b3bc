"""What an audit measures beside membership: label canaries, released texts, and how groups fare."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redteam.auditing.fairness.run import FairnessAudit, level_of
from redteam.auditing.family import Family
from redteam.auditing.rebuilding import ReleasedAudit
from redteam.auditing.scoring import ScoreCache
from redteam.auditing.settings import AuditSettings
from redteam.canary.label_evidence import LabelAudit
from redteam.plugins.context import AttackContext
from redteam.report.reading import measured_by
from redteam.report.values import Evidence, Failure, FairnessNumber
from redteam.targets.target import Target, labels_of

Ids = tuple[str, ...]


@dataclass(frozen=True)
class Besides:
    """The measurements, each None where there is none; `notes` and `numbers` fill while they run."""

    labels: LabelAudit | None = None
    released: ReleasedAudit | None = None
    fairness: FairnessAudit | None = None
    notes: list[str] = field(default_factory=list)
    numbers: list[FairnessNumber] = field(default_factory=list)

    @property
    def attacks(self) -> tuple[Any, ...]:
        """The attacks that run, by themselves."""
        return tuple(each for one in (self.released, self.fairness) if one is not None for each in one.attacks)

    def planned(self, target: Target, settings: AuditSettings, *, claimed: bool) -> tuple[Ids, Ids]:
        """Return the ids of the numbers that are judged, and of all others; `claimed`: a guarantee bounds epsilon."""
        limits, parts = settings.limits, list[tuple[Ids, Ids]]()
        if self.labels is not None:
            parts.append(self.labels.planned(limits, claimed=claimed))
        if self.released is not None:
            parts.append(self.released.planned(limits))
        if self.fairness is not None:
            ids = self.fairness.planned(labels_of(target), target.access)
            named = {limit.metric for limit in limits or ()}  # of membership alone is all judged without limits
            judged = tuple(each for each in ids if measured_by(each).name in named)
            parts.append((judged, tuple(each for each in ids if each not in judged)))
        return tuple(i for judged, _ in parts for i in judged), tuple(i for _, others in parts for i in others)

    def run(self, cache: ScoreCache, family: Family, context: AttackContext) -> Iterator[Evidence | Failure]:
        """Yield what each shows at the level that the family leaves it."""
        if self.labels is not None:
            yield from self.labels.run(cache.target, family.level)
            self.notes.extend(self.labels.notes)
        if self.released is not None:
            yield from self.released.run(family.level, self.notes.append)
        if self.fairness is not None:
            level = level_of(family.shares, self.fairness.attacks, family.alpha)
            found = self.fairness.run(cache, level, context)
            yield from found.evidence
            yield from found.failures
            self.numbers.extend(found.numbers)
            self.notes.extend((*self.fairness.remarks, *found.notes))
