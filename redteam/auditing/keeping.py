"""Which limits nobody keeps by finding less: a weak attack's silence is no evidence.

An attack without reference models names few of the members that are named with them: measured on three kinds of model
it called a TPR at 1 % "within 5 %" where references proved 11 and 15 %. What it takes to keep a limit on a metric is
said by the metric (`fewest_references`), and by an attack that does as well without (`keeps_alone`).
"""

from collections.abc import Sequence

from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.report import NO_REFERENCES, plural
from redteam.report.metrics import known_metrics


def references_of(attack: Attack, context: AttackContext) -> int:
    """Return how many reference models an attack makes use of."""
    given = context.reference_scores
    return len(given) if attack.uses_references and given is not None else 0


def not_kept(attacks: Sequence[Attack], settles: str | None, context: AttackContext) -> dict[str, str]:
    """Return on which metrics the attack of the id `settles` keeps no limit by finding less, each with the reason."""
    primary = next((attack for attack in attacks if attack.id == settles), None)
    if primary is None:
        return {}
    used = references_of(primary, context)
    lacking = {
        each.name: each.fewest_references
        for each in known_metrics()
        if used < each.fewest_references and each.name not in primary.keeps_alone
    }
    return {name: _why(primary, used, fewest, context) for name, fewest in lacking.items()}


def _why(primary: Attack, used: int, fewest: int, context: AttackContext) -> str:
    given = 0 if context.reference_scores is None else len(context.reference_scores)
    if given and not used:
        return f"{primary.id} makes no use of the {plural(given, 'reference model')}: audit again without --attack"
    if used:
        return f"{plural(used, 'reference model')} find too few of the members, {fewest} or more settle it"
    return NO_REFERENCES
