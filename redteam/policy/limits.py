"""The limits of a policy as plain values: what `judge` holds evidence against."""

from dataclasses import dataclass, field
from datetime import date

from redteam.report.values import Evidence, Metric

BUILT_IN = "built-in limits"
MAX_DELTA = 1e-5
SAME_FPR = 1e-12  # two false-positive rates this close are one, whatever their decimals went through


@dataclass(frozen=True)
class TprLimit:
    """The largest true-positive rate allowed at one false-positive rate."""

    fpr: float
    limit: float


@dataclass(frozen=True)
class Waiver:
    """A finding somebody answers for, until the end of the day `expires`."""

    id: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Limit:
    """One limit of a policy in the form that evidence is held against, and the key that sets it.

    `required`: a report without evidence for it is not passed.
    """

    metric: Metric
    limit: float
    fpr: float | None = None
    delta: float | None = None
    required: bool = True

    @property
    def key(self) -> str:
        """The policy key that sets this limit."""
        return f"max_{self.metric}"

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
class Policy:
    """What a report is judged by; `max_delta` belongs to `max_epsilon`, `lines` say where in `source` a key stands.

    A limit on canaries that is not set is 0 where there are canaries: nothing may be proven to come out.
    `allow_untrained`: a target passes that is not right on its members more often than their commonest label.
    """

    max_auc: float | None = None
    max_tpr: tuple[TprLimit, ...] = ()
    max_epsilon: float | None = None
    max_exposure: float | None = None
    max_extraction_rate: float | None = None
    require: tuple[str, ...] = ()
    strict: bool = False
    waivers: tuple[Waiver, ...] = ()
    source: str = BUILT_IN
    lines: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    max_delta: float = MAX_DELTA
    allow_untrained: bool = False

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Every limit that is set, in the order of the fields."""
        single: list[tuple[Metric, float | None]] = [
            ("exposure", self.max_exposure),
            ("extraction_rate", self.max_extraction_rate),
        ]
        auc = [] if self.max_auc is None else [Limit("auc", self.max_auc)]
        tpr = [Limit("tpr", each.limit, each.fpr) for each in self.max_tpr]
        epsilon = [] if self.max_epsilon is None else [Limit("epsilon", self.max_epsilon, delta=self.max_delta)]
        canaries = [Limit(metric, limit or 0.0, required=limit is not None) for metric, limit in single]
        return (*auc, *tpr, *epsilon, *canaries)

    def line_of(self, key: str) -> int:
        """Return the line of `source` that sets `key`, 1 where it is not known."""
        return dict(self.lines).get(key, 1)


DEFAULT = Policy(max_auc=0.55, max_tpr=(TprLimit(fpr=0.01, limit=0.05),))
