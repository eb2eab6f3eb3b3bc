"""The measurements of fairness that an audit makes: what they are to give, and what they gave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from redteam.auditing.fairness.pairs import one_row_a_user, pairs_of_rows, pairs_of_templates
from redteam.auditing.fairness.swaps import load_swaps
from redteam.core import DataError, one_line
from redteam.core.progress import phase
from redteam.data import Examples
from redteam.plugins.context import AttackContext
from redteam.plugins.fairness import FairnessAnswer, FairnessAttack, FairnessProbe, Level, SwapControl
from redteam.report import Limit, plural
from redteam.report.values import ErrorShare, Evidence, Failure, FairnessNumber, rule_of
from redteam.targets.target import Access, Target, label_indices, labels_of


@dataclass(frozen=True)
class FairnessAudit:
    """What is asked about groups, and by which measurements; `control` is the id of the placebo swap."""

    probe: FairnessProbe
    attacks: tuple[FairnessAttack, ...]
    control: str
    remarks: tuple[str, ...] = ()

    def planned(self, labels: tuple[str, ...], access: Access) -> tuple[str, ...]:
        """Return the id of each number that `run` gives, which share the error of the report."""
        return tuple(
            f"{rule_of(attack.id, metric)}:{signal}"
            for attack in self.attacks
            for metric, signal in attack.planned(self.probe, labels, access)
        )

    def check(self, labels: tuple[str, ...], limits: Sequence[Limit]) -> None:
        """Raise DataError where a limit is on what these rows cannot give."""
        limited = {limit.metric: limit.name for limit in limits}
        for attack in self.attacks:
            for metric, what in attack.lacks(self.probe, labels).items():
                if metric in limited:
                    raise DataError(f"{limited[metric]}: {what}")

    def foreseen(self, target: Target, limits: Sequence[Limit]) -> Iterator[str]:
        """Yield lines on what would run, without an answer of the target; each swapped text costs several answers."""
        labels, named = labels_of(target), {limit.metric for limit in limits}
        for attack in self.attacks:
            reason = target.access.lacking(attack.needs)
            planned = attack.planned(self.probe, labels, target.access)
            if reason is None and not planned and not attack.describes:
                continue
            judged = sum(metric in named for metric, _ in planned)
            held = f"{plural(len(planned), 'number')}, {judged} under limits" if planned else "described"
            yield f"{attack.id}      {attack.name}: {held if reason is None else f'not run: {reason}'}"
        for pairs in self.probe.pairs:
            out = ", ".join(f"{count:,} {why}" for why, count in pairs.left_out)
            answers = len(pairs) * (2 + len(pairs.placebos))
            yield (
                f"swaps      {pairs.name}: {plural(len(pairs), 'pair')} of {pairs.of}, {answers:,} answers with those "
                f"under placebos{f'; left out: {out}' if out else ''}"
            )
        yield from (f"groups     {remark}" for remark in self.remarks)

    def run(self, target: Target, level: Level, context: AttackContext) -> "Answered":
        """Measure; what goes wrong inside one measurement is a Failure."""
        found, failures = FairnessAnswer(), list[Failure]()
        for attack in self.attacks:
            reason = target.access.lacking(attack.needs)
            given = attack.describes or attack.planned(self.probe, labels_of(target), target.access)
            if reason is not None or not given:
                if reason is not None:
                    failures.append(Failure(attack.id, "not_applicable", reason))
                continue
            try:
                shown = phase(context.progress, f"{attack.id} {attack.name}")
                one = attack.measure(target, self.probe, level, replace(context, progress=shown))
            except DataError:  # what was asked cannot be measured on these texts
                raise
            except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end an audit as a pass
                failures.append(Failure(attack.id, "failed", one_line(error)))
                continue
            found = FairnessAnswer(
                (*found.evidence, *one.evidence), (*found.numbers, *one.numbers), (*found.notes, *one.notes)
            )
        return Answered(found.evidence, tuple(failures), found.numbers, found.notes)


@dataclass(frozen=True)
class Answered:
    """What all measurements gave together."""

    evidence: tuple[Evidence, ...]
    failures: tuple[Failure, ...] = ()
    numbers: tuple[FairnessNumber, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """How a user asks: swap lists by name or file, templates, groups and labels of interest; empty: all there are."""

    swaps: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    positives: tuple[str, ...] = ()
    seed: int = 0
    remarks: list[str] = field(default_factory=list, compare=False)

    def probe(self, rows: Examples | None, labels: tuple[str, ...], control: SwapControl) -> FairnessProbe:
        """Return what is asked about; DataError for what the rows do not hold."""
        if unknown := [label for label in self.positives if label not in labels]:
            known = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
            raise DataError(f"--positive {unknown[0]}: no label of the target, which are {known}")
        lists = [load_swaps(given) for given in dict.fromkeys(self.swaps)]
        pairs = []
        for each in lists:
            if rows is not None:
                pairs.append(pairs_of_rows(rows, each, control))
            if self.templates:
                made = pairs_of_templates(self.templates, each, control, seed=self.seed)
                pairs.append(replace(made, name=f"{made.name} templates") if rows is not None else made)
        if rows is not None and rows.labels is not None and labels:
            label_indices(labels, rows, name="target")
        return FairnessProbe(self._grouped(rows), tuple(pairs), self.positives)

    def _grouped(self, rows: Examples | None) -> Examples | None:
        """Return the rows whose groups are compared, one of each user; DataError where there are not two groups."""
        if rows is None or rows.groups is None:
            if self.groups:
                raise DataError(f"--groups {self.groups[0]}: the rows name no groups; say --group-column NAME")
            return None
        known = set(rows.groups)
        if missing := [group for group in self.groups if group not in known]:
            raise DataError(f"--groups {missing[0]}: no row is of it; the groups are {_some(known)}")
        wanted = set(self.groups) or {group for group in known if group.strip()}
        if len(wanted) < 2:
            raise DataError(f"only one group, {_some(known)}: rates are compared between at least two")
        kept = [i for i, group in enumerate(rows.groups) if group in wanted]
        if len(kept) < len(rows):
            self.remarks.append(f"{plural(len(rows) - len(kept), 'row')} of other groups or none left out of rates")
        grouped = rows.take(kept)
        single = one_row_a_user(grouped, seed=self.seed)
        if len(single) < len(grouped):
            self.remarks.append(f"rates are of one row of each of {plural(len(single), 'user')}, drawn at random")
        return single


def shared(planned: Sequence[str], limits: Sequence[Limit], alpha: float) -> tuple[ErrorShare, ...]:
    """Share an error over the numbers that are limited: alike over metrics, and over the numbers of each."""
    limited = {limit.metric for limit in limits}
    by_metric: dict[str, list[str]] = {}
    for each in planned:
        metric = each.partition(":")[0].rpartition(".")[2]
        if metric in limited:
            by_metric.setdefault(metric, []).append(each)
    return tuple(ErrorShare(each, alpha / len(by_metric) / len(ids)) for ids in by_metric.values() for each in ids)


def level_of(shares: Sequence[ErrorShare], attacks: Sequence[FairnessAttack], alpha: float) -> Level:
    """Return the level of a number by its metric and signal: its share, or all of `alpha` where it only describes."""
    known = {share.id: share.error for share in shares}

    def level(metric: str, signal: str) -> float:
        ids = (f"{rule_of(attack.id, metric)}:{signal}" for attack in attacks)
        return next((known[each] for each in ids if each in known), alpha)

    return level


def _some(groups: set[str]) -> str:
    ordered = sorted(groups)
    return ", ".join(map(repr, ordered[:5])) + (", ..." if len(ordered) > 5 else "")
