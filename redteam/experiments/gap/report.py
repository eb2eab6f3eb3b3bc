"""What the gap experiment found, as plain data with a versioned JSON form: per cell, and per row over its seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redteam.experiments.gap.grid import GapCell, row_words
from redteam.experiments.report import ExperimentReport
from redteam.report import speaks_of
from redteam.report.metrics import metric
from redteam.report.values import Accuracy, Budget, Evidence, Failure, Guarantee, UserAccuracy
from redteam.statistics import Interval


@dataclass(frozen=True)
class GapResult:
    """One trained and attacked model.

    `accuracy` is on held-out texts. `seconds` is the processor time of the training loop on one thread, None where too
    few steps were seen to say; `passes` how often it went over its members. `evidence` holds together at `alpha`,
    that of groups each by itself.
    Always answering the members' commonest label would be right on the share `commonest` of them; `accuracy_by_user`
    stands for both where members are users with several rows. `plain` is the epsilon of one word, whatever it is
    exchanged for, where words were exchanged before.
    """

    cell: GapCell
    defense: str
    members: int
    nonmembers: int
    accuracy: Interval
    accuracy_members: float
    seconds: float | None
    passes: int | None
    guarantee: Guarantee | None
    alpha: float
    evidence: tuple[Evidence, ...]
    failures: tuple[Failure, ...]
    commonest: float
    accuracy_by_user: UserAccuracy | None = None
    plain: float | None = None

    @property
    def untrained(self) -> bool:
        """Whether the model is not shown to have learned anything."""
        seen = Accuracy(self.accuracy_members, self.accuracy.value, self.commonest, self.accuracy_by_user)
        return not seen.shows_learning(self.members)

    @property
    def strongest(self) -> Evidence | None:
        """The highest lower bound on epsilon that any signal gave."""
        return strongest_bound(self.evidence)

    @property
    def exceeds(self) -> bool:
        """Whether the bound lies above what training accounts for, at a delta that is no smaller; NaN does."""
        found, guarantee = self.strongest, self.guarantee
        if found is None or guarantee is None or not speaks_of(found, guarantee.accounted.delta):
            return False
        if not guarantee.accounted.covers(
            found.unit
        ):  # what users lose together, a guarantee for examples does not bound
            return False
        return not found.interval.low <= guarantee.accounted.epsilon


@dataclass(frozen=True)
class BrokenClaim:
    """A cell whose measured bound exceeds what it accounts for; `proven` at the level of all cells together."""

    cell: GapCell
    accounted: float
    measured: float
    proven: bool


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, from the lowest to the highest end of the seeds' own intervals."""

    mean: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what is upside down; written so that NaN fails too."""
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"not a spread: {self.low} <= {self.mean} <= {self.high}")


@dataclass(frozen=True)
class SeedsMeasure:
    """One metric of one signal over the seeds; of epsilon, `spread` is over the lower bounds alone.

    `attainable` is the largest bound that every seed's sample could have shown.
    """

    attack: str
    signal: str
    metric: str
    fpr: float | None
    spread: Spread
    attainable: float


@dataclass(frozen=True)
class GapRow:
    """One trainer at one epsilon over its seeds: a line of the table.

    `time_ratio` is the time of a pass over the members in units of plain's of the same seed. Of the seeds `untrained`
    no accuracy shows that they learned anything: that nothing leaks there says nothing.
    """

    trainer: str
    epsilon: float | None
    seeds: tuple[int, ...]
    accuracy: Spread
    time_ratio: Spread | None
    nominal: Budget | None
    accounted: Budget | None
    measures: tuple[SeedsMeasure, ...]
    untrained: tuple[int, ...] = ()
    plain: float | None = None

    @property
    def words(self) -> str:
        """The row as messages name it."""
        return row_words(self.trainer, self.epsilon)

    def best(self, metric: str, fpr: float | None = None) -> SeedsMeasure | None:
        """Return the signal with the highest mean of a metric."""
        some = [m for m in self.measures if m.metric == metric and m.fpr == fpr]
        return max(some, key=lambda m: m.spread.mean, default=None)

    def of_groups(self, metric_name: str) -> SeedsMeasure | None:
        """The number on groups that is worst: the lowest of what is bounded from below, else the highest."""
        own, worse = [one for one in self.measures if one.metric == metric_name], metric(metric_name).worse
        return max(own, key=lambda one: worse(one.spread.mean), default=None)

    def by_canaries(self, adversary: str) -> SeedsMeasure | None:
        """Return the epsilon that label canaries show to an adversary, None where none were planted."""
        some = (m for m in self.measures if m.metric == "canary_epsilon" and m.signal == adversary)
        return next(some, None)


@dataclass(frozen=True, kw_only=True)
class GapReport(ExperimentReport):
    """The whole experiment: its table, its cells, and the claims that were broken."""

    rows: tuple[GapRow, ...]
    cells: tuple[GapResult, ...]
    broken: tuple[BrokenClaim, ...]
    format: str = "redteam.gap/2"

    def contradictions(self) -> Iterator[str]:
        """Yield where rows and broken claims are not those of the cells."""
        if self.rows != gap_rows(self.cells):
            yield "its rows are not those of its cells"
        told = {each.cell: (each.accounted, each.measured) for each in self.broken}
        shown = {each.cell: (each.guarantee, each.strongest) for each in self.cells if each.exceeds}
        bounds = {cell: (g.accounted.epsilon, e.interval.low) for cell, (g, e) in shown.items() if g and e}
        if told != bounds or len(told) != len(self.broken):
            yield "the claims that it calls broken are not those that its cells break"


def strongest_bound(evidence: Sequence[Evidence]) -> Evidence | None:
    """Return the evidence with the highest lower bound on epsilon."""
    return max((e for e in evidence if metric(e.metric).guaranteed), key=lambda e: e.interval.low, default=None)


def gap_rows(cells: Sequence[GapResult]) -> tuple[GapRow, ...]:
    """Return a row for each trainer and epsilon, in the order in which they first come."""
    together: dict[tuple[str, float | None], list[GapResult]] = {}
    for one in cells:
        together.setdefault((one.cell.trainer, one.cell.epsilon), []).append(one)
    plain = {one.cell.seed: _pass_seconds(one) for one in cells if one.cell.trainer == "plain"}
    return tuple(_row(some, plain) for some in together.values())


def _row(cells: list[GapResult], plain: dict[int, float | None]) -> GapRow:
    ratios = [_ratio(_pass_seconds(one), plain.get(one.cell.seed)) for one in cells]
    known = [ratio for ratio in ratios if ratio is not None]
    guarantees = [one.guarantee for one in cells if one.guarantee is not None]
    whole = len(guarantees) == len(cells)  # a seed without a guarantee leaves the row without one
    return GapRow(
        cells[0].cell.trainer,
        cells[0].cell.epsilon,
        tuple(one.cell.seed for one in cells),
        accuracy=_over([one.accuracy for one in cells]),
        time_ratio=Spread(_mean(known), min(known), max(known)) if known else None,
        nominal=max((g.nominal for g in guarantees), key=lambda b: b.epsilon) if whole else None,
        accounted=max((g.accounted for g in guarantees), key=lambda b: b.epsilon) if whole else None,
        measures=_measures(cells),
        untrained=tuple(one.cell.seed for one in cells if one.untrained),
        plain=cells[0].plain,
    )


def _measures(cells: list[GapResult]) -> tuple[SeedsMeasure, ...]:
    """Join the evidence of the seeds, signal by signal; one that a seed lacks is left out."""
    joined: dict[str, list[Evidence]] = {}
    for cell in cells:
        for evidence in cell.evidence:
            joined.setdefault(evidence.id, []).append(evidence)
    return tuple(
        SeedsMeasure(e.attack, e.signal, e.metric, e.fpr, _spread(some), min(one.attainable for one in some))
        for some in joined.values()
        for e in some[:1]
        if len(some) == len(cells)
    )


def _spread(evidence: list[Evidence]) -> Spread:
    if metric(evidence[0].metric).guaranteed:  # from below alone: the upper end says nothing
        lows = [e.interval.low for e in evidence]
        return Spread(_mean(lows), min(lows), max(lows))
    return _over([e.interval for e in evidence])


def _over(intervals: list[Interval]) -> Spread:
    return Spread(_mean([i.value for i in intervals]), min(i.low for i in intervals), max(i.high for i in intervals))


def _mean(values: list[float]) -> float:
    return min(max(sum(values) / len(values), min(values)), max(values))  # rounding must not carry it outside


def _pass_seconds(cell: GapResult) -> float | None:
    return None if cell.seconds is None or not cell.passes else cell.seconds / cell.passes


def _ratio(seconds: float | None, plain: float | None) -> float | None:
    return None if seconds is None or not plain else seconds / plain
