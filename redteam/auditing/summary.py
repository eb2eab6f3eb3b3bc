"""What a report says of its target and its data."""

from redteam.auditing.scoring import ScoreCache
from redteam.canary.evidence import CanaryAudit
from redteam.data import Split
from redteam.report.values import DataSummary, TargetSummary
from redteam.targets.answers import OTHER
from redteam.targets.distributions import HARD
from redteam.targets.target import Target, labels_of


def target_summary(cache: ScoreCache, target: Target, *told: str) -> TargetSummary:
    """Return what was attacked, with what is `told` of it besides."""
    labels = sum(label != OTHER for label in labels_of(target))
    notes: tuple[str, ...] = (*getattr(target, "remarks", ()), *cache.noticed)
    if cache.access != target.access:
        notes += (HARD,)
    notes += told
    return TargetSummary(target.name, target.kind, cache.access.word, labels, target.digest, notes)


def data_summary(split: Split, skipped: tuple[int, int], planted: CanaryAudit | None) -> DataSummary:
    """Return how much was audited; `skipped` are members and non-members that the target refused."""
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
