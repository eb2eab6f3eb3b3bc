"""What an audit found, as plain data with a versioned JSON form: no numpy, no model, no decision.

`AuditReport` is the only thing that passes from the audit to the policy and the formats. Judging a saved report
therefore needs nothing but the standard library.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from redteam import core
from redteam.core import ReportError
from redteam.statistics import Interval, has_learned, users_show

FORMAT = "redteam.report/2"
SCHEMA_ID = "urn:redteam:report:2"

Grade = Literal["A", "B", "C"]
Unit = Literal["example", "user"]


def rule_of(attack: str, metric: str, fpr: float | None = None, unit: Unit = "example") -> str:
    """Return the stable name of a metric of an attack: `RT101.auc`, or `RT102.user.tpr@0.01` with unit and FPR."""
    of = "" if unit == "example" else f"{unit}."
    return f"{attack}.{of}{metric}" + ("" if fpr is None else f"@{fpr:g}")


@dataclass(frozen=True)
class Evidence:
    """One judged metric of one signal of one attack.

    `attainable` is the largest lower bound that a perfect attack could have shown on this many examples: a limit at or
    above it cannot be tested by this sample. An epsilon holds at `delta`; its low end is one-sided, and as no attack
    bounds epsilon from above, its high end is the largest attainable bound and its value the low end. Of an exposure
    (the median, in bits) and of an extraction rate `members` are planted secrets and `nonmembers` as many held-out
    canaries. Where `unit` is "user", they are users, and each has one score, the mean of her rows' scores.
    """

    attack: str
    signal: str
    metric: str
    interval: Interval
    members: int
    nonmembers: int
    attainable: float
    fpr: float | None = None
    delta: float | None = None
    unit: Unit = "example"

    @property
    def rule(self) -> str:
        """The stable name of what is judged, such as `RT101.auc`, `RT102.tpr@0.01` or, of users, `RT102.user.auc`."""
        return rule_of(self.attack, self.metric, self.fpr, self.unit)

    @property
    def id(self) -> str:
        """The rule and the signal it was measured on, such as `RT102.tpr@0.01:entropy`."""
        return f"{self.rule}:{self.signal}"


@dataclass(frozen=True)
class Failure:
    """An attack that gave no evidence, and why; it never turns into a pass.

    `not_applicable`: the target or the data does not offer what the attack needs. `refused`: the numbers would
    have measured something else than the model. `failed`: it broke.
    """

    attack: str
    kind: Literal["not_applicable", "refused", "failed"]
    reason: str


@dataclass(frozen=True)
class ControlResult:
    """What a control saw: how well members are told from non-members without the target.

    Where none that `reads_texts` ran, the split is taken on trust.
    """

    control: str
    auc: Interval
    may_be_below_chance: bool = False
    reads_texts: bool = False


@dataclass(frozen=True)
class ClassLeak:
    """The AUC of one attack among the examples of one label or group; `auc` is None where it has too few.

    Where users are measured, `members` and `nonmembers` are users with such examples.
    """

    label: str
    members: int
    nonmembers: int
    auc: Interval | None


@dataclass(frozen=True)
class ExposedRow:
    """A member that `classes_signal` ranks highest, by row id and keyed hash; `text` only when asked for."""

    id: str
    label: str | None
    hash: str | None
    text: str | None = None


@dataclass(frozen=True)
class Budget:
    """An (epsilon, delta) guarantee, and what it protects against."""

    epsilon: float
    delta: float
    unit: Literal["example", "user", "client"]
    neighbouring: str
    accountant: str

    def covers(self, unit: Unit) -> bool:
        """Tell whether the guarantee is about such units: one for examples says nothing about users, nor the reverse.

        A client is whose device it is: a user.
        """
        return (self.unit == "example") == (unit == "example")


@dataclass(frozen=True)
class Guarantee:
    """What the mechanism's nominal noise would give, and what the training really accounts for."""

    nominal: Budget
    accounted: Budget


@dataclass(frozen=True)
class TargetSummary:
    """What was attacked, how much of it the attacker sees, and what was made of answers that had another form."""

    name: str
    kind: str
    access: str
    classes: int
    digest: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSummary:
    """How many examples were audited, how many were left out of it for cause, and how many canaries were planted.

    `skipped_members` and `skipped_nonmembers` are texts that the target refused, which are in no other number.
    """

    members: int
    nonmembers: int
    reference: int
    moved_out: int
    duplicates: int
    canaries: int = 0
    skipped_members: int = 0
    skipped_nonmembers: int = 0


@dataclass(frozen=True)
class Users:
    """How the users of the data stand: so many on either side alone, on both, and the rows of the one with most.

    `rows_auc` is the AUC of the first signal row by row where users are measured: described and not judged, since the
    rows of one user are no independent draws. `refusals` is there where the target refused some of their texts: the AUC
    of the share of texts that it refuses of a user.
    """

    members: int
    nonmembers: int
    both: int
    most: int
    rows_auc: float | None = None
    refusals: Interval | None = None


@dataclass(frozen=True)
class UserAccuracy:
    """The same of members' users, each counted once; `evidence` that `right` lies above `commonest` is an e-value."""

    users: int
    right: float
    commonest: float
    evidence: float


@dataclass(frozen=True)
class Accuracy:
    """How often the target is right on either side, and how often the members' commonest label would be on members.

    The first and the last are counts of `DataSummary.members` texts, as shares. `by_user` stands for them where the
    members' rows are of users who have several, since those are no independent draws.
    """

    members: float
    nonmembers: float
    commonest: float
    by_user: UserAccuracy | None = None

    def shows_learning(self, members: int) -> bool:
        """Tell whether the target learned anything that shows, on so many members."""
        if self.by_user is not None:
            return users_show(self.by_user.evidence)
        return has_learned(self.members * members, members, self.commonest)


@dataclass(frozen=True)
class Multiplicity:
    """How the allowed error `alpha` of the whole report is shared: each of `intervals` misses at most `each`."""

    alpha: float
    intervals: int
    each: float
    method: str


@dataclass(frozen=True)
class Scope:
    """What an audit set out to give, by which it shows what is missing from its report.

    `asked` are the ids of all attacks and controls that were run, `intervals` those of the numbers that share the
    error; `guarantee` and `accuracy` say whether the report was written with one.
    """

    asked: tuple[str, ...]
    intervals: tuple[str, ...]
    guarantee: bool
    accuracy: bool


@dataclass(frozen=True)
class AuditReport:
    """Everything one audit found out about one target.

    `classes` is the breakdown by label of the signal `classes_signal`, corrected over the labels on its own, and
    `groups` that by group. `scope` is None in reports of older versions only.
    """

    target: TargetSummary
    data: DataSummary
    grade: Grade
    grade_reason: str
    multiplicity: Multiplicity
    evidence: tuple[Evidence, ...]
    failures: tuple[Failure, ...]
    controls: tuple[ControlResult, ...]
    classes: tuple[ClassLeak, ...]
    classes_signal: str | None
    exposed: tuple[ExposedRow, ...]
    guarantee: Guarantee | None
    seed: int
    created: str
    tool_version: str
    accuracy: Accuracy | None = None
    scope: Scope | None = None
    users: Users | None = None
    groups: tuple[ClassLeak, ...] = ()
    format: str = FORMAT

    @property
    def unit(self) -> Unit:
        """What members and non-members of the membership metrics are."""
        return "user" if any(each.unit == "user" for each in self.evidence) else "example"

    def sizes_of(self, unit: Unit) -> tuple[int, int]:
        """Return how many members and non-members there are of a unit; none of users where none are known."""
        if unit == "example":
            return self.data.members, self.data.nonmembers
        return (0, 0) if self.users is None else (self.users.members, self.users.nonmembers)

    def to_json(self) -> str:
        """Return the report as indented JSON text ending in a newline."""
        return json.dumps(core.encode(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "report") -> "AuditReport":
        """Read the text that `to_json` wrote; raise ReportError, which names `source`, where it is anything else."""
        try:
            return core.parse(cls, text, "report", format=FORMAT, advice="audit again", older=_OLDER)
        except ValueError as error:
            raise ReportError(f"{source}: {error}") from None


def _of_format_1(document: dict[str, Any]) -> dict[str, Any]:
    from redteam.report.older import report_of_format_1

    return report_of_format_1(document)


_OLDER: core.Older = {"redteam.report/1": _of_format_1}
