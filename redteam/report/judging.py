"""What passes between metrics and the judge: limits, what each piece of evidence says about one, samples to come."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from redteam.report.values import Evidence
from redteam.statistics import Interval

SAME_FPR = 1e-12  # two false-positive rates this close are one, whatever their decimals went through

Outcome = Literal["exceeded", "within", "inconclusive", "underpowered", "inadmissible", "reversed"]
NOT_JUDGED: tuple[Outcome, ...] = ("underpowered", "inadmissible")  # the sample, or what the evidence is, forbids it


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
        """Tell whether this limit is about `evidence`: the same metric, and for a TPR the same FPR."""
        if evidence.metric != self.metric or (evidence.fpr is None) != (self.fpr is None):
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

    `aside` is about parts of the report: it is said after everything about the limits themselves.
    """

    checks: tuple[Check, ...] = ()
    problems: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


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
