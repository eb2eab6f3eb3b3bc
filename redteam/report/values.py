"""What an audit found, as plain data with a versioned JSON form; nothing else passes to the policy and the formats."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from redteam import core
from redteam.core import ReportError
from redteam.statistics import Interval, has_learned, users_show

FORMAT, SCHEMA_ID = "redteam.report/2", "urn:redteam:report:2"
Grade = Literal["A", "B", "C"]
Unit = Literal["example", "user", "client"]


def rule_of(attack: str, metric: str, fpr: float | None = None, unit: Unit = "example") -> str:
    """Return the stable name of a metric of an attack: `RT101.auc`, or `RT102.user.tpr@0.01` with unit and FPR."""
    return f"{attack}.{'' if unit == 'example' else f'{unit}.'}{metric}" + ("" if fpr is None else f"@{fpr:g}")


@dataclass(frozen=True)
class Evidence:
    """One judged metric of one signal of one attack.

    `attainable` is the largest bound that so many could show. An epsilon holds at `delta`; its value is the low end,
    its high end attainable. Of an exposure (median, in bits) and an extraction rate both sides are canaries; of unit
    "user" users, each scored by the mean of her rows; of what needs no members `members` are rows, pairs or templates.
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
class Taxonomy:
    """What an attack is called in MITRE ATLAS, of a version, in NIST AI 100-2 and in OWASP's list for ML."""

    atlas: tuple[str, ...]
    nist_aml: tuple[str, ...]
    owasp_ml: tuple[str, ...]
    atlas_version: str = "5.6.1"


@dataclass(frozen=True)
class Failure:
    """An attack that gave no evidence: it lacked what it needs, would have measured the data instead, or broke."""

    attack: str
    kind: Literal["not_applicable", "refused", "failed"]
    reason: str


@dataclass(frozen=True)
class ControlResult:
    """What a control saw without the target; where none that `reads_texts` ran, the split is taken on trust."""

    control: str
    auc: Interval
    may_be_below_chance: bool = False
    reads_texts: bool = False


@dataclass(frozen=True)
class ClassLeak:
    """The AUC of one attack among the examples, or users who have some, of one label or group; None of too few."""

    label: str
    members: int
    nonmembers: int
    auc: Interval | None


@dataclass(frozen=True)
class ExposedRow:
    """A member that is told best, by row id and keyed hash, and its risk; `text` only when asked for."""

    id: str
    label: str | None
    hash: str | None
    text: str | None = None
    risk: Interval | None = None


@dataclass(frozen=True)
class Budget:
    """An (epsilon, delta) guarantee, and what it protects against."""

    epsilon: float
    delta: float
    unit: Literal["example", "user", "client"]
    neighbouring: str
    accountant: str

    def covers(self, unit: Unit) -> bool:
        """Tell whether it is about such units: one for examples says nothing about users; a client is a user."""
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
    """How many examples were audited or left out for cause, canaries planted, and texts that the target refused."""

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
    """Users on either side alone and on both, the rows of the one with most, the AUC row by row, of texts refused."""

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
    """How often the target is right, and the members' commonest label would be; `by_user` counts each user once."""

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
class ErrorShare:
    """How much of the error of a report one judged number, named by its id, may spend."""

    id: str
    error: float


@dataclass(frozen=True)
class Multiplicity:
    """How the error `alpha` of a report is shared over its judged numbers; without `shares` all are judged, alike."""

    alpha: float
    intervals: int
    each: float
    method: str
    primary: str | None = None
    shares: tuple[ErrorShare, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What a report must hold: ids of attacks and controls `asked`, `intervals` of numbers; whether it has the rest."""

    asked: tuple[str, ...]
    intervals: tuple[str, ...]
    guarantee: bool
    accuracy: bool


@dataclass(frozen=True)
class FairnessNumber:
    """What is said of groups and never judged: a `measure` of a `subject`, on `count` rows or words."""

    attack: str
    subject: str
    measure: str
    value: float
    count: int
    interval: Interval | None = None


@dataclass(frozen=True)
class AuditReport:
    """All that an audit found out about a target; `classes` is the breakdown of `classes_signal`, `not_kept` says why
    an attack keeps no limit on a metric by finding less (None in older reports)."""

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
    references: int = 0
    attack_notes: tuple[str, ...] = ()
    taxonomy: Mapping[str, Taxonomy] = field(default_factory=dict)
    not_kept: Mapping[str, str] | None = None
    pictures: Mapping[str, Any] = field(default_factory=dict)
    fairness: tuple[FairnessNumber, ...] = ()
    format: str = FORMAT

    @property
    def judged(self) -> tuple[Evidence, ...]:
        """The numbers that limits are held against; the others are described only."""
        shared, ids = self.multiplicity, {share.id for share in self.multiplicity.shares}
        return tuple(each for each in self.evidence if each.id in ids or (shared.primary is None and not ids))

    def settles(self, evidence: Evidence) -> bool:
        """Tell whether the limit of `evidence` is kept where it is below: the primary attack gave it, or gives none."""
        shared = self.multiplicity
        first = rule_of(shared.primary or evidence.attack, evidence.metric, evidence.fpr, evidence.unit)
        return evidence.rule == first or not any(share.id.startswith(f"{first}:") for share in shared.shares)

    @property
    def unit(self) -> Unit:
        """What members and non-members of the membership metrics are."""
        return next((each.unit for each in self.evidence if each.unit != "example"), "example")

    def sizes_of(self, unit: Unit) -> tuple[int, int]:
        """Return how many members and non-members there are of a unit; none of users where none are known."""
        held = self.data if unit == "example" else self.users
        return (0, 0) if held is None else (held.members, held.nonmembers)

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


_OLDER = {"redteam.report/1": lambda old: importlib.import_module("redteam.report.older").report_of_format_1(old)}
