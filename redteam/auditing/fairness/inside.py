"""Fairness inside an audit: groups and swaps among the texts that a target was not trained on.

Of members it would be righter, in every group, so the non-members are asked.
"""

from collections.abc import Sequence
from dataclasses import replace

from redteam.auditing.besides import Besides
from redteam.auditing.fairness.run import Asked, FairnessAudit
from redteam.auditing.inputs import AuditInputs
from redteam.auditing.settings import AuditSettings
from redteam.core import UsageError
from redteam.plugins.registry import discover_fairness, discover_swap_controls
from redteam.report import Limit
from redteam.report.fairness import FairnessMetric
from redteam.report.metrics import metric
from redteam.targets.target import labels_of


def besides_of(inputs: AuditInputs, settings: AuditSettings) -> Besides:
    """Return all that an audit of these inputs measures beside membership."""
    fair = with_fairness(inputs, settings.swaps, settings.limits).fairness
    return Besides(inputs.labels, inputs.released, fair)


def with_fairness(inputs: AuditInputs, swaps: Sequence[str] | None, limits: Sequence[Limit] | None) -> AuditInputs:
    """Return the inputs with what is asked about groups, where swap lists are given or non-members are of two groups.

    Raises UsageError where saved scores leave nothing to ask, DataError where a limit is on what the rows cannot give.
    """
    rows = inputs.split.nonmembers
    if swaps and inputs.target.kind == "scores":
        raise UsageError(f"--swaps {swaps[0]}: saved scores say nothing of other texts; give the model")
    groups = {group for group in rows.groups or () if group.strip()}
    limited = any(isinstance(metric(limit.metric), FairnessMetric) for limit in limits or ())
    if not swaps and (len(groups) < 2 and not (limited and groups)):
        return inputs
    labels, control = labels_of(inputs.target), discover_swap_controls()[0]
    if len(groups) < 2 and not limited:
        rows = replace(rows, groups=None)
    asked = Asked(tuple(swaps or ()))
    probe = asked.probe(rows, labels or tuple(sorted({*(rows.labels or ())})), control)
    attacks = tuple(each for each in discover_fairness() if not each.only_named)
    told = (f"how groups fare is measured on the {len(rows):,} non-members, which were not trained on", *asked.remarks)
    fair = FairnessAudit(probe, attacks, control.id, told)
    fair.check(labels, limits or ())
    return replace(inputs, fairness=fair)
