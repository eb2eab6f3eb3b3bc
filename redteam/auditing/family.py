"""Which numbers of an audit are judged, and how the error of the whole report is shared over them.

A build fails if any one judged number is "proven" beyond its limit, so the errors of all of them add up to the `alpha`
of the report, whatever their dependence (Bonferroni). What is shared so widely proves little: with 15 numbers alike a
leak that one test sees in four audits of ten is seen in one. Hence:

- Error is spent only on what a policy limits, and on an epsilon where a guarantee claims one. Each limited metric has
  as much as any other; exposure and extraction rate of planted canaries are metrics like these.
- Of a metric's error the primary attack has four fifths, all others together the rest. The primary attack is the one of
  greatest `strength` that applies to the target, fixed before anything is measured. Where it finds less than a limit
  the limit is kept; that a weaker attack finds less says nothing.
- Of an attack that gives several signals only those are judged that it names. Everything else is described: its
  interval holds by itself, at the report's alpha, and nothing is decided by it.

A TPR spends all its error on the end that can prove a leak, an AUC nine tenths, and the rest on its being turned round.
A step-down procedure (Holm 1979) would name more findings once one is proven, and never fail another build.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from redteam.auditing.settings import AuditSettings
from redteam.plugins.attack import Attack
from redteam.report import LOW_BOUND, SAME_FPR, plural
from redteam.report.metrics import metric
from redteam.report.reading import measure_of, measured_by
from redteam.report.values import ErrorShare, Multiplicity, Unit, rule_of

PRIMARY = 0.8  # of a metric's error, where other attacks are judged too

Rule = tuple[str, float | None]  # the name of a metric, and the FPR of a TPR


@dataclass(frozen=True)
class Family:
    """The numbers an audit is to give, the error of those that are judged, and the attack that settles limits."""

    alpha: float
    ids: tuple[str, ...]
    shares: tuple[ErrorShare, ...]
    primary: str | None

    @cached_property
    def _level(self) -> dict[str, float]:
        return {share.id: share.error for share in self.shares}

    def level(self, identifier: str) -> float:
        """Return the error of a number: its share of the family's where it is judged, else all by itself."""
        return self._level.get(identifier, self.alpha)

    @property
    def of_canaries(self) -> float:
        """The error of each number of planted canaries, who all have as much."""
        return self._most(of_canaries=True)

    @property
    def of_members(self) -> float:
        """The error of a number about members, of the attack that has most."""
        return self._most(of_canaries=False)

    def _most(self, *, of_canaries: bool) -> float:
        own = [share.error for share in self.shares if measured_by(share.id).of_canaries == of_canaries]
        return max(own, default=self.alpha)

    def multiplicity(self) -> Multiplicity:
        """Return how the error is shared, for the report."""
        most = max((share.error for share in self.shares), default=self.alpha)
        return Multiplicity(self.alpha, len(self.shares), most, self._method(), self.primary, self.shares)

    def _method(self) -> str:
        if not self.shares:
            return "nothing is judged: the policy limits none of what was measured"
        named = dict.fromkeys(measure_of(share.id) for share in self.shares)
        of = plural(len(named), "metric")
        mostly = f", {PRIMARY:.0%} of each for {self.primary}, the primary attack" if self.primary else ""
        bound = f"; {LOW_BOUND}" if any(measured_by(share.id).guaranteed for share in self.shares) else ""
        return f"Bonferroni: {self.alpha:g} shared equally over {of} ({', '.join(named)}){mostly}{bound}"


def make_family(
    attacks: Sequence[Attack],
    settings: AuditSettings,
    *,
    epsilon: bool,
    claimed: bool,
    unit: Unit = "example",
    planted: Sequence[str] = (),
    described: Sequence[str] = (),
) -> Family:
    """Return the family of the numbers that `attacks`, all of which apply, and canaries are to give.

    `epsilon`: one is measured of every signal; `claimed`: a guarantee bounds it, so that it is judged without a limit.
    `planted` are the ids of the numbers of canaries that are judged, `described` of those that are not.
    """
    rules: tuple[Rule, ...] = (("auc", None), *(("tpr", fpr) for fpr in settings.fprs))
    rules += (("epsilon", None),) if epsilon else ()
    judged = [rule for rule in rules if _limited(rule, settings, claimed)] if attacks else []
    of_canaries = list(dict.fromkeys(measured_by(each).name for each in planted))
    slots = len(judged) + len(of_canaries)
    primary = max(attacks, key=lambda attack: attack.strength, default=None)  # the first of those alike
    shares: list[ErrorShare] = []
    for rule in judged:
        shares += _of_membership(rule, attacks, primary, settings.alpha / slots, unit)
    if planted:
        each = settings.alpha * len(of_canaries) / slots / len(planted)
        shares += [ErrorShare(identifier, each) for identifier in planted]
    of_attacks = [_id(attack, signal, rule, unit) for attack in attacks for signal in attack.signals for rule in rules]
    ids = (*of_attacks, *planted, *described)
    return Family(settings.alpha, ids, tuple(shares), primary.id if primary is not None else None)


def _of_membership(
    rule: Rule, attacks: Sequence[Attack], primary: Attack | None, error: float, unit: Unit
) -> list[ErrorShare]:
    """Share the error of one metric: most for the primary attack, the rest for all others alike."""
    first, others = list[str](), list[str]()
    for attack in attacks:
        ids = [_id(attack, signal, rule, unit) for signal in attack.judged or attack.signals]
        (first if attack is primary else others).extend(ids)
    most = error * PRIMARY if others else error
    return [
        *(ErrorShare(each, most / len(first)) for each in first),
        *(ErrorShare(each, (error - most) / len(others)) for each in others),
    ]


def _id(attack: Attack, signal: str, rule: Rule, unit: Unit) -> str:
    return f"{rule_of(attack.id, *rule, unit)}:{signal}"


def _limited(rule: Rule, settings: AuditSettings, claimed: bool) -> bool:
    """Tell whether a metric is judged: a policy limits it, or a guarantee does; without a policy all are."""
    name, fpr = rule
    if settings.limits is None or (claimed and metric(name).guaranteed):
        return True
    return any(
        limit.metric == name and (fpr is None or (limit.fpr is not None and abs(limit.fpr - fpr) <= SAME_FPR))
        for limit in settings.limits
    )
