"""What can be measured and limited: one class per metric, in the file of this package that bears the metric's name.

A metric holds all that is known of it: policy key, limit, unit, direction, the grade that admits it, largest bound,
judging, words, SARIF. A package brings its own under the entry point group `redteam.metrics`. Only those named load.

`low > limit` is proven, `high <= limit` is proven within, all else is inconclusive; the other way round for a metric
that a policy bounds from below (`min_...`). A metric may be stricter, never laxer: NaN never passes.
"""

import functools
import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal

from redteam import report as words
from redteam.core import ReportError
from redteam.report import Check, Limit, Outcome, Ruling, Sample, decimals, number, range_of, read_number, some
from redteam.report.values import AuditReport, Evidence, Grade
from redteam.statistics import Interval

_CLOSE, GROUP = 1e-6, "redteam.metrics"


class Metric(ABC):
    """One metric; a new one says what its attributes ask and puts a finding and a meaning into words.

    Unless it says otherwise it is a share of members told from non-members, has two-sided intervals, counts where
    members and non-members come from one source, and is bounded from above by `max_` and its name.
    """

    name: ClassVar[str]  # in reports and policies, and of its file
    symbol: ClassVar[str]  # in tables
    description: ClassVar[str]  # of its rule in SARIF: what is proven where the limit is broken
    remedy: ClassVar[str]  # what to do then
    tags: ClassVar[tuple[str, ...]] = ()  # standard names of the threat
    given_by: ClassVar[str] = "an attack that gives one"
    measured_in: ClassVar[str] = "share"
    sense: ClassVar[Literal["max", "min"]] = "max"  # which side a policy bounds: "min" where less is worse
    order: ClassVar[int] = 100  # among the limits of a policy
    worst_grade: ClassVar[Grade] = "B"  # the worst evidence that lets it stand
    of_canaries: ClassVar[bool] = False  # measured on planted secrets and held-out canaries, not on members
    guaranteed: ClassVar[bool] = False  # attacks bound it from below only, and a guarantee from above
    options: ClassVar[tuple[str, ...]] = ()  # policy keys that belong to its limit
    fewest_references: ClassVar[int] = 0  # models that an attack needs to keep a limit on it by finding less
    low_share: ClassVar[float] = 0.5  # of the error of an interval, for the end that can prove a limit broken
    allowed: ClassVar[str] = "at least 0 and below 1"

    @property
    def key(self) -> str:
        """The policy key of its limit."""
        return f"{self.sense}_{self.name}"

    def allows(self, limit: float) -> bool:
        """Tell whether a limit is one that `allowed` speaks of."""
        return 0 <= limit < 1

    def read(self, table: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Return the limits that a policy sets; a ValueError names the key, what stands there and what would do."""
        limit = read_number(self.key, table[self.key], self.allowed, self.allows)
        return (Limit(self.name, limit, sense=self.sense),)

    def unset(self) -> Limit | None:
        """Return the limit that holds where a policy sets none, None where none does."""
        return Limit(self.name, 0.0, required=False, sense=self.sense) if self.of_canaries else None

    def admits(self, grade: Grade) -> bool:
        """Tell whether evidence of such a grade lets it be judged at all."""
        return grade <= self.worst_grade

    def attainable(
        self, members: int, nonmembers: int, *, alpha: float, fpr: float | None = None, delta: float | None = None
    ) -> float | None:
        """Return the largest bound that a perfect attack could prove on so many, None where no rule says."""
        return None

    def examples_needed(self, limit: Limit, *, alpha: float) -> tuple[int, int] | None:
        """Return how many members and non-members it takes to prove a limit broken, None where none would do."""
        return None

    def detectable(self, limit: Limit, members: int, nonmembers: int, *, alpha: float) -> float | None:
        """Return the smallest leak that would be proven beyond `limit` with probability 0.8, where that is known."""
        return None

    def turned(self, interval: Interval) -> Interval:
        """Return an interval on the scale on which more is worse."""
        value, low, high = -interval.value, -interval.high, -interval.low
        return interval if self.sense == "max" else Interval(value, low, high, interval.alpha)

    def worse(self, value: float) -> float:
        """Return a value on the scale on which more is worse."""
        return value if self.sense == "max" else -value

    def can_break(self, limit: float, attainable: float) -> bool:
        """Tell whether a bound as far out as `attainable` would prove a limit broken; NaN would not."""
        return self.worse(limit) < self.worse(attainable)

    def outcome(self, evidence: Evidence, limit: Limit, report: AuditReport) -> Outcome:
        """Tell what one piece of evidence says about one limit."""
        if not self.admits(report.grade):
            return "inadmissible"
        interval, most = self.turned(evidence.interval), self.worse(limit.limit)
        if interval.low > most:
            return "exceeded"
        if not self.can_break(limit.limit, evidence.attainable):
            return "underpowered"
        return "within" if interval.high <= most else "inconclusive"

    def rule_on(self, limit: Limit, report: AuditReport) -> Ruling:
        """Hold one limit against all evidence that it covers."""
        outcomes = self.outcomes(limit, report)
        checks = tuple(Check(e.id, e.rule, limit.limit, e.interval, o) for e, o in outcomes)
        problems = self.cannot_break(limit, outcomes)
        open_ = [e for e, o in outcomes if o == "inconclusive"]
        planted = self.of_canaries and report.data.canaries > 0
        refused = report.grade == "C" and not self.admits("C")  # which is a problem by itself
        if not outcomes and (limit.required or planted) and not refused:
            there = [e.id for e in report.evidence if limit.covers(e)]
            problems = (words.only_described(limit, there) if there else self.missing(limit, report),)
        elif outcomes and not any(report.settles(e) for e, _ in outcomes):
            problems = (f"{limit.name}: {report.multiplicity.primary}, which settles limits, gave no {self.symbol}",)
        if outcomes and planted:
            problems = (*problems, *words.unasked(limit, self.symbol, report))
        notes = [self.undecided(limit, open_)] if open_ else []
        notes += [words.not_kept(limit, weak)] if (weak := self._unkept(outcomes, report)) else []
        return Ruling(checks, problems, tuple(notes))

    def _unkept(self, outcomes: Sequence[tuple[Evidence, Outcome]], report: AuditReport) -> str | None:
        """Return why a limit is neither proven broken nor kept, where what ran is too weak to keep it."""
        broken = any(outcome == "exceeded" for _, outcome in outcomes)
        found_less = any(outcome in ("weaker", "inconclusive") and report.settles(e) for e, outcome in outcomes)
        return self.too_weak(report) if found_less and not broken else None

    def too_weak(self, report: AuditReport) -> str | None:
        """Return why no attack that ran keeps a limit on it by finding less; None where one does."""
        if report.not_kept is not None:
            return report.not_kept.get(self.name)
        return words.NO_REFERENCES if report.references < self.fewest_references else None  # an older report

    def outcomes(self, limit: Limit, report: AuditReport) -> tuple[tuple[Evidence, Outcome], ...]:
        """Return all evidence that a limit covers, each with what it says about it."""
        return tuple((e, self._outcome(e, limit, report)) for e in report.judged if limit.covers(e))

    def _outcome(self, evidence: Evidence, limit: Limit, report: AuditReport) -> Outcome:
        """Tell the same, but that a weaker attack finds less says nothing, where its best guess is within the limit."""
        found, value = self.outcome(evidence, limit, report), self.worse(evidence.interval.value)
        says = ("exceeded", "reversed", "inadmissible", *(("inconclusive",) if value > self.worse(limit.limit) else ()))
        if found in says:
            return found
        finds_less = found in ("within", "inconclusive") and self.too_weak(report) is not None
        return "weaker" if finds_less or not report.settles(evidence) else found

    def leak(self, evidence: Evidence, limit: Limit, report: AuditReport) -> tuple[Evidence, str]:
        """Return evidence that breaks a limit as it is to be read, and the finding in words."""
        return evidence, self.finding(evidence, limit.limit)

    def severity(self, evidence: Evidence, limit: float) -> float:
        """Put metrics on one scale: how much of what this sample could have shown beyond the limit was shown."""
        room = self.worse(evidence.attainable) - self.worse(limit)
        return (self.turned(evidence.interval).low - self.worse(limit)) / room if room > 0 else 1.0

    def at_least(self, evidence: Evidence) -> float:
        """Return what is proven, on the scale on which more is worse."""
        return self.turned(evidence.interval).low

    def at_most(self, evidence: Evidence, report: AuditReport, *, beside: Evidence) -> float:
        """Return what is proven not to be passed, on that scale, for a comparison with `beside`."""
        return self.turned(evidence.interval).high

    def contradictions(self, evidence: Evidence, report: AuditReport) -> Iterator[str]:
        """Yield what in a saved piece of evidence cannot be so."""
        interval, sizes = evidence.interval, (evidence.members, evidence.nonmembers)
        if self.of_canaries:
            if not (1 <= sizes[0] <= report.data.canaries and sizes[0] == sizes[1]):
                yield f"{evidence.id} is of {sizes[0]} canaries and {sizes[1]} held out, the report of other numbers"
            elif not 0 <= interval.low <= evidence.attainable + _CLOSE:
                yield f"{evidence.id} is beyond what {sizes[0]} canaries can show"
            return
        if not (interval.low >= 0 and interval.high <= 1):
            yield f"{evidence.id} is not between 0 and 1"
            return
        if sizes != report.sizes_of(evidence.unit):
            yield f"{evidence.id} is of another number of {evidence.unit}s than the report"
            return
        if interval.low > evidence.attainable + _CLOSE:
            yield f"{evidence.id} is beyond what so many examples can show"
        most = self.attainable(*sizes, alpha=interval.alpha, fpr=evidence.fpr, delta=evidence.delta)
        older = report.multiplicity.primary is None  # when other intervals were made, of which other bounds hold
        if most is not None and not older and not abs(evidence.attainable - most) <= _CLOSE:
            yield f"{evidence.id} says that {evidence.attainable:g} is attainable, but {most:g} is"

    def problems(self, report: AuditReport) -> Iterator[str]:
        """Yield what about its evidence is no pass under any policy."""
        yield from ()

    @abstractmethod
    def finding(self, evidence: Evidence, limit: float) -> str:
        """Say in plain words what evidence beyond its limit shows, with the numbers."""

    @abstractmethod
    def meaning(self, evidence: Evidence) -> str:
        """Say what one number means for the people in the training data."""

    def legend(self, report: AuditReport) -> str | None:
        """Say how to read its numbers in a table, where that takes a word."""
        return None

    def measured(self, interval: Interval, *, digits: int = 2) -> str:
        """Write what was measured."""
        return range_of(interval, digits=digits)

    def shown(self, evidence: Evidence) -> str:
        """Write the number that a meaning is given to."""
        return number(evidence.interval.value)

    def full(self, evidence: Evidence, *, digits: int = 2) -> str:
        """Write what was measured and what could have been, where the interval does not say both."""
        return self.measured(evidence.interval, digits=digits)

    def cells(self, evidence: Evidence, *, digits: int = 2) -> tuple[str, str]:
        """Write the value and the interval as two cells of a table."""
        value, interval = range_of(evidence.interval, digits=digits).split(" ", 1)
        return value, interval

    def against(self, interval: Interval, limit: float, between: str) -> str:
        """Write what was measured next to its limit, `0.93 [0.91, 0.95] > 0.60`, with decimals to see the order."""
        shown = decimals(interval, limit)
        return f"{self.measured(interval, digits=shown)}{between}{number(limit, digits=shown)}"

    def missing(self, limit: Limit, report: AuditReport) -> str:
        """Say that a report has nothing to hold against a limit."""
        return words.nothing_there(limit, self.symbol, self.given_by, report, of_canaries=self.of_canaries)

    def undecided(self, limit: Limit, evidence: Sequence[Evidence]) -> str:
        """Say what keeps evidence from settling a limit."""
        widest = max(evidence, key=lambda e: self.turned(e.interval).high)
        if self.of_canaries and not limit.limit > 0:
            return words.nothing_proven(limit, evidence, self.measured(widest.interval))
        shown = self.against(widest.interval, limit.limit, ", limit ")
        why = f"the interval reaches over the limit, more {'canaries' if self.of_canaries else f'{widest.unit}s'} would"
        return f"{limit.name} is not settled by {some([e.id for e in evidence])} ({shown}): {why} narrow it"

    def cannot_break(self, limit: Limit, outcomes: Sequence[tuple[Evidence, Outcome]]) -> tuple[str, ...]:
        """Say of which samples no outcome could break the limit, and which could."""
        weak = [e for e, o in outcomes if o == "underpowered"]
        return words.too_small(limit, weak, self.way_out, "canary" if self.of_canaries else None)

    def way_out(self, limit: Limit, evidence: Evidence) -> str:
        """Say what sample could break a limit that this one could not."""
        have, alpha = (evidence.members, evidence.nonmembers), evidence.interval.alpha
        if self.of_canaries:
            return "plant more canaries and train again"
        if self.guaranteed or self.attainable(*have, alpha=alpha, fpr=limit.fpr) is None:
            return f"audit more {evidence.unit}s"
        needed = self.examples_needed(limit, alpha=alpha) if 0 < alpha < 1 else None
        more = "no number of examples would do: lower the limit"
        return more if needed is None else f"audit {words.lacking(needed, have, evidence.unit)}"

    def prospect(self, limit: Limit, sample: Sample) -> str:
        """Say before an audit whether its sample could break a limit."""
        if self.of_canaries:
            return words.of_planted(limit, sample)
        most = self.attainable(sample.members, sample.nonmembers, alpha=sample.each, fpr=limit.fpr)
        found = words.of_members(limit, most, lambda: self.examples_needed(limit, alpha=sample.each))
        least = self.detectable(limit, sample.members, sample.nonmembers, alpha=sample.each)
        return found if least is None else f"{found}, {self.symbol} {least:.3f} or more with probability 0.8"


@functools.cache
def metric(name: str) -> Metric:
    """Return the metric of that name; raise ReportError where nothing that is installed brings it."""
    if name in _own():
        module = importlib.import_module(f"{__name__}.{name}")
        found = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
        classes = [each for each in found if issubclass(each, Metric)]
    else:
        from redteam.core.discovery import load  # only where a package brings one

        classes = [load(entry) for entry in entry_points(group=GROUP, name=name)]
    if len(classes) != 1 or getattr(classes[0], "name", None) != name:
        known = ", ".join(names())
        raise ReportError(f"unknown metric {name!r}: known are {known}; install the package that measures it")
    return classes[0]()


def names() -> tuple[str, ...]:
    """Return the name of every metric that there is, without importing any."""
    return tuple(sorted({*_own(), *(entry.name for entry in entry_points(group=GROUP))}))


def known_metrics() -> tuple[Metric, ...]:
    """Return every metric, in the order of policies."""
    return tuple(sorted(map(metric, names()), key=lambda each: (each.order, each.name)))


def _own() -> frozenset[str]:
    return frozenset(each.name for each in pkgutil.iter_modules(__path__))
