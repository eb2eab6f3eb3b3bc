"""What the drill found, as plain data with a versioned JSON form: per cell, and per row over its seeds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redteam.canary.found import Found
from redteam.canary.measures import CanaryMeasure, HeldoutComparison, Signal, compare_all, fewest_to_prove, measure
from redteam.experiments.drill.grid import DrillCell, row_words
from redteam.experiments.report import ExperimentReport
from redteam.report.values import Failure
from redteam.statistics import has_learned
from redteam.statistics.binomial import clopper_pearson_high
from redteam.statistics.exposure import chance
from redteam.training.recipes import NONE


@dataclass(frozen=True)
class DrillResult:
    """One training and what each attack got out of it; no secret is in here.

    `sizes` are those of the alphabet at each place of the secret; `left` secrets are still possible for a canary once
    all others in the data are known, `fewest_left` for one guess where several secrets share a question. `exact` names
    the attacks all of whose guesses were the best of all candidates. `right` of `tested` texts that nobody trained on
    were classified correctly, and `right_own` of `own` rows of users that were trained on, of which always answering
    their commonest label would get the share `commonest`. `kept` of `passes` is the pass whose model early stopping
    kept, None without.
    """

    cell: DrillCell
    canaries: int
    crowded: int
    sizes: tuple[int, ...]
    left: int
    fewest_left: int
    found: tuple[Found, ...]
    exact: tuple[str, ...]
    failures: tuple[Failure, ...]
    right: int
    tested: int
    right_own: int
    own: int
    commonest: float
    notes: tuple[str, ...] = ()
    kept: int | None = None
    passes: int | None = None

    @property
    def untrained(self) -> bool:
        """Whether the model is not shown to have learned anything."""
        return not has_learned(self.right_own, self.own, self.commonest)


@dataclass(frozen=True)
class Extracted:
    """What one attack got over all canaries of a row; measures each with an interval of their own.

    `exact`: every guess is the best of all candidates, so that no attack by this loss does better.
    """

    attack: str
    exact: bool
    measures: tuple[CanaryMeasure, ...]
    comparisons: tuple[HeldoutComparison, ...]

    @property
    def proven(self) -> bool:
        """Whether more of the planted secrets was extracted than of held-out ones, at the level of the whole drill."""
        return any(each.proven for each in self.comparisons)

    def measure(self, name: str) -> CanaryMeasure | None:
        """Return one measure, None where this attack does not give it."""
        return next((m for m in self.measures if m.name == name), None)


@dataclass(frozen=True)
class DrillRow:
    """One sentence, number of repetitions, label and defence over its seeds: a line of the table.

    `left` secrets are still possible for one guess once all others are known. `accuracy` is the mean over the seeds,
    all on the same texts. `kept` are the passes that early stopping kept, of `passes`. Of the seeds `untrained` no
    accuracy shows that they learned anything. `collapsed`: the upper end of the accuracy's one-sided exact 95 %
    interval is below half of what the same sentence, number of repetitions and label has without a defence.
    """

    pattern: str
    template: str
    repetitions: int
    label: str
    defense: str
    seeds: tuple[int, ...]
    canaries: int
    crowded: int
    left: int
    accuracy: float
    attacks: tuple[Extracted, ...]
    kept: tuple[int, ...] = ()
    passes: int | None = None
    untrained: tuple[int, ...] = ()
    collapsed: bool = False

    @property
    def words(self) -> str:
        """The row as messages name it."""
        return row_words(self.template, self.repetitions, self.label, self.defense)

    @property
    def flagged(self) -> bool:
        """Whether that nothing is extracted may be for the reason that nothing was learned."""
        return self.collapsed or bool(self.untrained)

    @property
    def proven(self) -> tuple[str, ...]:
        """The attacks that prove that something is extracted."""
        return tuple(each.attack for each in self.attacks if each.proven)

    def by(self, attack: str | None) -> Extracted | None:
        """Return what one attack got."""
        return next((each for each in self.attacks if each.attack == attack), None)


@dataclass(frozen=True, kw_only=True)
class DrillReport(ExperimentReport):
    """The whole drill: its table, and what went wrong.

    `tests`, as many as the grid can make, share the error `alpha`, `each` of them so much. `broken` says which attacks
    broke, or were asked for and do not apply, `skipped` which others do not apply.
    """

    alpha: float
    tests: int
    each: float
    rows: tuple[DrillRow, ...]
    broken: tuple[str, ...]
    skipped: tuple[str, ...]
    format: str = "redteam.drill/3"

    def contradictions(self) -> Iterator[str]:
        """Yield which comparisons say that they prove what their chance does not allow, or the other way round."""
        if self.tests < 1 or not math.isclose(self.each * self.tests, self.alpha, rel_tol=1e-6):
            yield f"{self.tests} tests at {self.each:g} do not share {self.alpha:g}"
        for row in self.rows:
            if row.canaries < 1 or row.repetitions < 1:
                yield f"{row.words} has no canaries, or they stand nowhere"
            shares = [each for attack in row.attacks for each in attack.measures if each.name == "success"]
            if not all(0 <= share <= 1 for each in shares for share in (each.planted.value, each.heldout)):
                yield f"a share of the secrets of {row.words} is not between 0 and 1"
            tests = [test for attack in row.attacks for test in attack.comparisons]
            if any(test.proven != (test.p_value <= test.level) or test.level != self.each for test in tests):
                yield f"a comparison of {row.words} is not proven at its level, or at another one than the drill's"
            if any(test.wins + test.losses + test.ties != row.canaries for test in tests):
                yield f"a comparison of {row.words} is of another number than its {row.canaries} canaries"

    @property
    def headline(self) -> str | None:
        """The one attack that table and picture show: the most whole secrets over all rows, then the lowest id.

        One for all rows, or each would show whichever was luckiest there.
        """
        whole: dict[str, list[float]] = {}
        for row in self.rows:
            for each in row.attacks:
                success = each.measure("success")
                if success is not None:
                    whole.setdefault(each.attack, []).append(success.planted.value)
        everywhere = {attack: values for attack, values in whole.items() if len(values) == len(self.rows)}
        return min(everywhere, key=lambda attack: (-sum(everywhere[attack]), attack), default=None)


def drill_rows(cells: Sequence[DrillResult], *, alpha: float, each: float) -> tuple[DrillRow, ...]:
    """Return a row for each sentence, number of repetitions, label and defence, in the order in which they first come.

    Intervals are at `alpha` on their own; each comparison with held-out canaries is at the level `each`.
    """
    together: dict[tuple[str, int, str, str], list[DrillResult]] = {}
    for one in cells:
        together.setdefault(one.cell.row, []).append(one)
    plain = {row[:-1]: _accuracy(some) for row, some in together.items() if row[-1] == NONE}
    return tuple(_row(some, alpha, each, plain.get(row[:-1])) for row, some in together.items())


def _accuracy(cells: Sequence[DrillResult]) -> float:
    return sum(cell.right for cell in cells) / sum(cell.tested for cell in cells)


def _collapsed(cells: Sequence[DrillResult], plain: float | None) -> bool:
    if plain is None:
        return False
    right, tested = sum(cell.right for cell in cells), sum(cell.tested for cell in cells)
    return float(clopper_pearson_high(right, tested, 0.05)) < plain / 2


def too_few(rows: Sequence[DrillRow], each: float) -> Iterator[str]:
    """Yield one line where rows have so few canaries that not even all of them together would prove anything."""
    short = []
    for row in rows:
        tests = [test for attack in row.attacks for test in attack.comparisons]
        fewest = fewest_to_prove(tests, left=row.left, level=each)
        if row.canaries < fewest:
            short.append((row.canaries, fewest))
    if short:
        canaries, fewest = max(short, key=lambda pair: pair[1])
        yield (
            f"{canaries} canaries a row can prove nothing at the level {each:.2g}, however many are extracted: "
            f"at least {fewest} can; raise --canaries or, before the first look, --seeds, or run fewer attacks "
            "or a smaller grid"
        )


def _row(cells: list[DrillResult], alpha: float, each: float, plain: float | None) -> DrillRow:
    first, attacks = cells[0].cell, dict.fromkeys(found.attack for cell in cells for found in cell.found)
    return DrillRow(
        first.pattern,
        *first.row,
        tuple(one.cell.seed for one in cells),
        sum(cell.canaries for cell in cells),
        sum(cell.crowded for cell in cells),
        min(cell.fewest_left for cell in cells),
        _accuracy(cells),
        tuple(_extracted(attack, cells, alpha, each) for attack in attacks if _everywhere(attack, cells)),
        tuple(cell.kept for cell in cells if cell.kept is not None),
        cells[0].passes,
        tuple(one.cell.seed for one in cells if one.untrained),
        _collapsed(cells, plain),
    )


def _everywhere(attack: str, cells: Sequence[DrillResult]) -> bool:
    """Leave an attack out that broke on one of the seeds: the rest would be a choice."""
    return all(any(found.attack == attack for found in cell.found) for cell in cells)


def _extracted(attack: str, cells: Sequence[DrillResult], alpha: float, each: float) -> Extracted:
    found = [one for cell in cells for one in cell.found if one.attack == attack]
    guessing = [chance(cell.sizes) for cell in cells for one in cell.found if one.attack == attack]
    signals: list[Signal] = ["guess", "whole"] if all(one.right is not None for one in found) else []
    signals += ["rank"] if all(one.ahead is not None for one in found) else []
    comparisons = compare_all(found, signals, left=min(cell.left for cell in cells), level=each)
    exact = all(attack in cell.exact for cell in cells)
    return Extracted(attack, exact, measure(found, guessing, alpha=alpha), comparisons)
