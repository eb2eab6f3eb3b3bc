"""Which limits nobody keeps by finding less: a weak attack's silence is no evidence.

An attack without reference models names few of the members that are named with them: measured on three kinds of model
it called a TPR at 1 % "within 5 %" where references proved 11 and 15 %. What it takes to keep a limit on a metric is
said by the metric (`fewest_references`), and by an attack that does as well without (`keeps_alone`).
"""

from collections.abc import Sequence
from dataclasses import replace

from redteam.auditing.group_leaks import BY_GROUP, GAP
from redteam.plugins.attack import Attack, suited
from redteam.plugins.context import AttackContext
from redteam.plugins.registry import discover_attacks
from redteam.references.fidelity import Fidelity
from redteam.report import NO_REFERENCES, plural
from redteam.report.metrics import known_metrics
from redteam.report.values import AuditReport
from redteam.statistics.membership.fidelity import SAME_RECIPE
from redteam.targets.target import Access

_OF_MEMBERS = ("auc", BY_GROUP, GAP)  # limits that an attack without references keeps, if it is the strongest there is
AS_HOPED = Fidelity(1.0, SAME_RECIPE, None, None)  # what a plan expects of references


def references_of(attack: Attack, context: AttackContext) -> int:
    """Return how many reference models an attack makes use of."""
    given = context.reference_scores
    return len(given) if attack.uses_references and given is not None else 0


def not_kept(
    attacks: Sequence[Attack], settles: str | None, context: AttackContext, alike: Fidelity | None
) -> dict[str, str]:
    """Return on which metrics the attack of the id `settles` keeps no limit by finding less, each with the reason.

    `alike` tells whether the references answer as the target does; None where nobody can see that.
    """
    primary = next((attack for attack in attacks if attack.id == settles), None)
    if primary is None:
        return {}
    used = references_of(primary, context)
    asking = {
        each.name: each.fewest_references
        for each in known_metrics()
        if each.fewest_references and each.name not in primary.keeps_alone
    }
    weakened = primary.weakened()
    if weakened is not None:
        return dict.fromkeys((*_OF_MEMBERS, *asking), weakened)
    reasons = {name: _why(primary, used, fewest, context, alike) for name, fewest in asking.items()}
    return {name: why for name, why in reasons.items() if why is not None}


def _why(primary: Attack, used: int, fewest: int, context: AttackContext, alike: Fidelity | None) -> str | None:
    given = 0 if context.reference_scores is None else len(context.reference_scores)
    if given and not used:
        return f"{primary.id} makes no use of the {plural(given, 'reference model')}: audit again without --attack"
    if not used:
        return NO_REFERENCES
    if used < fewest:
        return f"{plural(used, 'reference model')} find too few of the members, {fewest} or more settle it"
    if alike is None:
        return "from labels alone nobody sees whether the reference models answer as the target would"
    if alike.slope is None:
        return "the reference models say too little of each other's rows to see whether they answer as the target would"
    return None if alike.same_recipe else "the reference models do not answer as the target would: train them like it"


def weaker_than(attacks: Sequence[Attack], access: Access, *, references: bool) -> str | None:
    """Return a line where a stronger attack than all of those that were named would have settled the limits."""

    def able(among: Sequence[Attack]) -> list[Attack]:
        return [each for each in among if each.needs in access and (references or not each.uses_references)]

    first = max(able(attacks), key=lambda attack: attack.strength, default=None)
    stronger = [
        each.id for each in able(suited(discover_attacks(), access)) if first and each.strength > first.strength
    ]
    if first is None or not stronger:
        return None
    return f"limits are settled by {first.id}, a weaker attack than {' and '.join(stronger)}, which was not asked"


def held_open(report: AuditReport, why: str) -> AuditReport:
    """Return a report whose attacks keep no limit on members by finding less, for the reason `why`."""
    unkept = dict.fromkeys((*_OF_MEMBERS, *(each.name for each in known_metrics() if each.fewest_references)), why)
    return replace(report, attack_notes=(*report.attack_notes, why), not_kept=unkept | dict(report.not_kept or {}))
