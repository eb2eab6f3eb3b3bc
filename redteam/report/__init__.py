"""What an audit found, as values: written, read back, checked for consistency, and put into words.

What passes between metrics and the judge stands here - limits, what each piece of evidence says about one, samples to
come - and numbers in plain words, for readers who have never seen a ROC curve.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redteam.report.values import AuditReport, Evidence, Unit
from redteam.statistics import Interval

SAME_FPR = 1e-12  # two false-positive rates this close are one, whatever their decimals went through

Outcome = Literal["exceeded", "within", "inconclusive", "underpowered", "inadmissible", "reversed", "weaker"]
NOT_JUDGED: tuple[Outcome, ...] = ("underpowered", "inadmissible")  # the sample, or what the evidence is, forbids it
SETTLE_NOTHING: tuple[Outcome, ...] = (*NOT_JUDGED, "weaker")  # nor does what a weaker attack misses


@dataclass(frozen=True)
class Limit:
    """One limit of a policy in the form that evidence is held against, and the key that sets it.

    It is on a metric, for a TPR at `fpr`, for an epsilon at `delta`. `required`: a report without evidence for it is
    not passed.
    """

    metric: str
    limit: float
    fpr: float | None = None
    delta: float | None = None
    required: bool = True
    sense: Literal["max", "min"] = "max"

    @property
    def key(self) -> str:
        """The policy key that sets it."""
        return f"{self.sense}_{self.metric}"

    @property
    def name(self) -> str:
        """The limit in words, such as `max_tpr 0.05 at FPR 0.01` or `max_epsilon 8 at delta 1e-05`."""
        fpr = "" if self.fpr is None else f" at FPR {self.fpr:g}"
        return f"{self.key} {self.limit:g}{fpr}" + ("" if self.delta is None else f" at delta {self.delta:g}")

    def covers(self, evidence: Evidence) -> bool:
        """Tell whether this limit is about `evidence`: the same metric, of canaries too, and for a TPR the same FPR."""
        if evidence.metric.removeprefix("canary_") != self.metric or (evidence.fpr is None) != (self.fpr is None):
            return False
        return self.fpr is None or evidence.fpr is None or abs(evidence.fpr - self.fpr) <= SAME_FPR


@dataclass(frozen=True)
class Check:
    """One limit held against one piece of evidence, or against the guarantee, which has no interval."""

    id: str
    rule: str
    limit: float
    interval: Interval | None
    outcome: Outcome


@dataclass(frozen=True)
class Ruling:
    """What holding one limit against a report gave; `inconclusive` and `aside` are notes, or problems under strict.

    `aside` is about parts of the report: it is said last; `told` is a note under any policy."""

    checks: tuple[Check, ...] = ()
    problems: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """What an audit would measure, each interval at level `each`.

    `randomised` are the members and non-members of random inclusion with the delta to measure at, None where there are
    none; `planted` is the largest attainable bound by metric on canaries, None where none are planted.
    """

    members: int
    nonmembers: int
    each: float
    randomised: tuple[int, int, float] | None = None
    planted: Mapping[str, float] | None = None


def read_number(key: str, value: Any, what: str, allowed: Callable[[float], bool]) -> float:
    """Return a number of a policy; a ValueError names the key, what stands there and what would do."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} = {quote(value)} is not a number: it must be {what}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and allowed(number)):
        raise ValueError(f"{key} = {quote(value)} is out of range: it must be {what}")
    return number


def require_keys(value: Any, names: tuple[str, ...], key: str, example: str) -> None:
    """Raise ValueError where `value` is not a table of exactly these keys."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} = {quote(value)} must be a table with {example}")
    require_known(value, names, f"{key}.")
    for name in names:
        if name not in value:
            raise ValueError(f"{key}: {name} is missing: give {example}")


def require_known(table: Mapping[str, Any], names: tuple[str, ...], prefix: str = "") -> None:
    """Raise ValueError for the first key of a table that is none of `names`, with the one that was meant."""
    for key, value in table.items():
        if key not in names:
            import difflib

            close = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
            raise ValueError(f"unknown key {f'{prefix}{key}'!r} = {quote(value)}: {hint}")


def quote(value: Any) -> str:
    """Return what stands somewhere, cut to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


LOW_BOUND = "A low bound is not evidence of privacy."

NO_REFERENCES = (
    "attacks with reference models find several times the members: audit again with --references 8, or give some"
)
LUCK = "which is not proven to be more than luck"


def number(value: float, *, digits: int = 2) -> str:
    """Write a number with so many decimals, or in whole thousands where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: `1 limit`, `2 limits`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def of_either(members: int, nonmembers: int, unit: Unit) -> str:
    """Write how many there are of either side: `1 member and 2 non-members`, or users who are that."""
    if unit == "client":
        return plural(members, "client")
    if unit == "user":
        return f"{plural(members, 'user')} who are members and {nonmembers:,} who are not"
    return f"{plural(members, 'member')} and {plural(nonmembers, 'non-member')}"


def range_of(interval: Interval, *, digits: int = 2) -> str:
    """Write an interval as `0.93 [0.91, 0.95]`."""
    low, high = number(interval.low, digits=digits), number(interval.high, digits=digits)
    return f"{number(interval.value, digits=digits)} [{low}, {high}]"


def decimals(interval: Interval, limit: float) -> int:
    """Return how many decimals it takes, from two to six, to see on which side of `limit` the bounds are."""
    for digits in range(2, 6):
        shown = round(limit, digits)
        if all(
            (round(end, digits) > shown) == (end > limit) and (round(end, digits) < shown) == (end < limit)
            for end in (interval.low, interval.high)
        ):
            return digits
    return 6


def some(names: Sequence[str]) -> str:
    """Name the first of many: `a`, `a and b`, `a and 4 more`."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def accusation(fpr: float, unit: Unit = "example") -> str:
    """Say a false-positive rate as a price: `1 false accusation per 100 non-members`."""
    whom = "non-members" if unit == "example" else "users who are no members"
    return f"1 false accusation per {number(1 / fpr, digits=0 if fpr <= 0.1 else 1)} {whom}"


def share(rate: float) -> str:
    """Write a rate as whole people: `20 of 100`, `3 of 1,000`."""
    rate = min(max(rate, 0.0), 1.0)
    for whole in (100, 1000, 10_000, 1_000_000):
        if rate == 0 or abs(rate * whole - round(rate * whole)) < 0.05 or rate * whole >= 10:
            return f"{rate * whole:.0f} of {whole:,}"
    return "fewer than 1 of 1,000,000"


def not_kept(limit: Limit, why: str) -> str:
    """Say that no attack which ran keeps a limit by finding less, and why."""
    return f"{limit.name} is not settled: {why}"


def only_described(limit: Limit, ids: Sequence[str]) -> str:
    """Say that numbers are there to which no error was given, so that none of them may prove anything."""
    described = f"{limit.name}: {some(ids)} {'was' if len(ids) == 1 else 'were'} described only"
    return f"{described}, since the policy of the audit had no such limit: audit again with this policy"


def lacking(needed: tuple[int, int], have: tuple[int, int], unit: Unit) -> str:
    """Write how many it takes, of one side only where the other has enough."""
    short = [side for side in (0, 1) if have[side] < needed[side]]
    if len(short) != 1:
        return f"at least {of_either(*needed, unit)}"
    (side,) = short
    names = ("members", "non-members") if unit == "example" else ("users who are members", "users who are not")
    return f"at least {needed[side]:,} {names[side]}"


def too_small(
    limit: Limit, evidence: Sequence[Evidence], way_out: Callable[[Limit, Evidence], str], of: str | None = None
) -> tuple[str, ...]:
    """Say once per sample size, of members or what `of` names, that it could never break the limit, and what could."""
    alike: dict[tuple[int, int, float, float, Unit], list[Evidence]] = {}
    for e in evidence:
        alike.setdefault((e.members, e.nonmembers, e.attainable, e.interval.alpha, e.unit), []).append(e)
    said = []
    for (members, nonmembers, attainable, _, unit), same in alike.items():
        sample = of_either(members, nonmembers, unit) if of is None else plural(members, of, f"{of[:-1]}ies")
        most = f"a perfect attack would prove no more than {number(attainable)}"
        if limit.sense == "max" and not attainable > 0:
            most = "not even a perfect attack would prove anything"
        ids = some([e.id for e in same])
        said.append(f"{limit.name} cannot be judged on {sample}: {most} ({ids}); {way_out(limit, same[0])}")
    return tuple(said)


def unasked(limit: Limit, symbol: str, report: AuditReport) -> tuple[str, ...]:
    """Say that no attack applied to some of the canaries: what the others show is nothing about them."""
    asked: dict[str, int] = {}
    for evidence in report.evidence:
        if evidence.metric == limit.metric:
            asked[evidence.attack] = asked.get(evidence.attack, 0) + evidence.members
    held, most = report.data.canaries, max(asked.values())
    if most >= held:
        return ()
    return (f"{limit.name}: no attack gave an {symbol} for {held - most} of {held} canaries",)


def nothing_there(limit: Limit, symbol: str, given_by: str, report: AuditReport, *, of_canaries: bool) -> str:
    """Say that a report has nothing to hold against a limit, and which audit would."""
    none = f"{limit.name}: the report has no {symbol}"
    if of_canaries and report.data.canaries:
        held = plural(report.data.canaries, "canary", "canaries")
        return f"{limit.name}: the data holds {held}, but no attack gave an {symbol}: audit with {given_by}"
    if of_canaries:
        return f"{none}: audit a model with canaries, or drop the limit"
    if report.target.access == "labels":
        needs = "an attack that needs no more than labels, which is all that the target shows"
        return f"{none}: audit again without --attack, or with {needs}"
    return f"{none}: audit again with {given_by}"


def nothing_proven(limit: Limit, evidence: Sequence[Evidence], shown: str) -> str:
    """Say of a limit of 0 on canaries that nothing breaks it, and nothing ever settles it."""
    ids = some([e.id for e in evidence])
    return (
        f"{limit.name}: nothing is proven to be extracted by {ids} ({shown}), and no attack can prove that nothing is"
    )


def of_members(limit: Limit, most: float | None, needed: Callable[[], tuple[int, int] | None]) -> str:
    """Say before an audit whether its members could break a limit, where `most` is attainable, and how many could."""
    if most is None:
        return "whether this sample could break it is known after the audit"
    if limit.limit < most if limit.sense == "max" else limit.limit > most:
        return "can be proven broken by this sample"
    sizes = needed()
    more = f"needs {sizes[0]:,} members and {sizes[1]:,} non-members" if sizes else "no sample would do"
    return f"CANNOT be judged by this sample ({more}): exit 2"


def of_planted(limit: Limit, sample: Sample) -> str:
    """Say before an audit whether its canaries could break a limit."""
    if sample.planted is None:
        return "only canaries can settle it, and the training data holds none"
    can = "can" if limit.limit < sample.planted.get(limit.metric, 0.0) else "CANNOT"
    return f"{can} be proven broken by these canaries"


def speaks_of(evidence: Evidence, delta: float | None) -> bool:
    """Tell whether a measured epsilon bounds that at `delta` too."""
    return evidence.delta is not None and delta is not None and evidence.delta >= delta


def at_delta(evidence: Evidence) -> str:
    """Write the delta at which an epsilon was measured, where there is one."""
    return "" if evidence.delta is None else f" at delta {evidence.delta:g}"
