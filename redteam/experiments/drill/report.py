"""What the drill found, as plain data with a versioned JSON form: per cell, and per row over its seeds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam.canary.found import Found
from redteam.canary.measures import Comparison, Measure, Signal, compare_all, fewest_to_prove, measure
from redteam.core import codec
from redteam.core.errors import ReportError
from redteam.core.files import read_text
from redteam.report.values import Failure
from redteam.statistics.binomial import clopper_pearson_high
from redteam.statistics.exposure import chance
from redteam.statistics.learned import has_learned
from redteam.training.recipes import NONE

FORMAT = "redteam.drill/2"


@dataclass(frozen=True)
class CellResult:
    """One training and what each attack got out of it; no secret is in here.

    `sizes` are those of the alphabet at each place of the secret; `left` secrets are still possible for a canary once
    all others in the data are known, `fewest_left` for one guess where several secrets share a question. `exact` names
    the attacks all of whose guesses were the best of all candidates. `right` of `tested` texts that nobody trained on
    were classified correctly, and `right_own` of `own` rows of users that were trained on, of which always answering
    their commonest label would get the share `commonest`. `kept` of `passes` is the pass whose model early stopping
    kept, None without.
    """

    pattern: str
    template: str
    repetitions: int
    defense: str
    seed: int
    label: str
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
    notes: tuple[str, ...] = ()
    right_own: int | None = None
    own: int | None = None
    commonest: float | None = None
    kept: int | None = None
    passes: int | None = None

    @property
    def words(self) -> str:
        """The cell as messages name it."""
        return f"{self.template}, R {self.repetitions}, label {self.label}, {self.defense}, seed {self.seed}"

    @property
    def untrained(self) -> bool:
        """Whether the model is not shown to have learned anything; False where an older cell does not say."""
        if self.right_own is None or self.own is None or self.commonest is None:
            return False
        return not has_learned(self.right_own, self.own, self.commonest)


@dataclass(frozen=True)
class FailedCell:
    """A cell without numbers, and why."""

    template: str
    repetitions: int
    label: str
    defense: str
    seed: int
    reason: str

    @property
    def words(self) -> str:
        """The cell as messages name it."""
        return f"{self.template}, R {self.repetitions}, label {self.label}, {self.defense}, seed {self.seed}"


@dataclass(frozen=True)
class Extracted:
    """What one attack got over all canaries of a row; measures each with an interval of their own.

    `exact`: every guess is the best of all candidates, so that no attack by this loss does better.
    """

    attack: str
    exact: bool
    measures: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def proven(self) -> bool:
        """Whether more came out of planted secrets than of their twins, at the level of the whole drill."""
        return any(each.proven for each in self.comparisons)

    def measure(self, name: str) -> Measure | None:
        """Return one measure, None where this attack does not give it."""
        return next((m for m in self.measures if m.name == name), None)


@dataclass(frozen=True)
class Row:
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
    def flagged(self) -> bool:
        """Whether that nothing comes out may be for the reason that nothing was learned."""
        return self.collapsed or bool(self.untrained)

    @property
    def proven(self) -> tuple[str, ...]:
        """The attacks that prove that something comes out."""
        return tuple(each.attack for each in self.attacks if each.proven)

    def by(self, attack: str | None) -> Extracted | None:
        """Return what one attack got."""
        return next((each for each in self.attacks if each.attack == attack), None)


@dataclass(frozen=True)
class DrillReport:
    """The whole drill: its settings, its table, and what went wrong.

    `tests`, as many as the grid can make, share the error `alpha`, `each` of them so much. `broken` says which attacks
    broke, or were asked for and do not apply, `skipped` which others do not apply.
    """

    settings: dict[str, Any]
    alpha: float
    tests: int
    each: float
    rows: tuple[Row, ...]
    failures: tuple[FailedCell, ...]
    broken: tuple[str, ...]
    skipped: tuple[str, ...]
    created: str
    tool_version: str
    format: str = FORMAT

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

    def to_json(self) -> str:
        """Return the report as indented JSON text ending in a newline."""
        return json.dumps(codec.encode(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> "DrillReport":
        """Read a file that `to_json` wrote; raise ReportError where it is anything else."""
        try:
            return codec.parse(cls, read_text(path), "drill", format=FORMAT, advice="run it again")
        except (OSError, ValueError) as error:
            raise ReportError(f"{path}: cannot be read as a drill's report ({error})") from None


def rows_of(cells: Sequence[CellResult], *, alpha: float, each: float) -> tuple[Row, ...]:
    """Return a row for each sentence, number of repetitions, label and defence, in the order in which they first come.

    Intervals are at `alpha` on their own; each comparison with the twins is at the level `each`.
    """
    together: dict[tuple[str, int, str, str], list[CellResult]] = {}
    for cell in cells:
        together.setdefault((cell.template, cell.repetitions, cell.label, cell.defense), []).append(cell)
    plain = {key[:-1]: _accuracy(some) for key, some in together.items() if key[-1] == NONE}
    return tuple(_row(some, alpha, each, plain.get(key[:-1])) for key, some in together.items())


def _accuracy(cells: Sequence[CellResult]) -> float:
    return sum(cell.right for cell in cells) / sum(cell.tested for cell in cells)


def _collapsed(cells: Sequence[CellResult], plain: float | None) -> bool:
    if plain is None:
        return False
    right, tested = sum(cell.right for cell in cells), sum(cell.tested for cell in cells)
    return float(clopper_pearson_high(right, tested, 0.05)) < plain / 2


def too_few(rows: Sequence[Row], each: float) -> Iterator[str]:
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
            f"{canaries} canaries a row can prove nothing at the level {each:.2g}, however many come out: at least "
            f"{fewest} can; raise --canaries or, before the first look, --seeds, or run fewer attacks or a smaller grid"
        )


def _row(cells: list[CellResult], alpha: float, each: float, plain: float | None) -> Row:
    first = cells[0]
    attacks = dict.fromkeys(found.attack for cell in cells for found in cell.found)
    return Row(
        first.pattern,
        first.template,
        first.repetitions,
        first.label,
        first.defense,
        tuple(cell.seed for cell in cells),
        sum(cell.canaries for cell in cells),
        sum(cell.crowded for cell in cells),
        min(cell.fewest_left for cell in cells),
        _accuracy(cells),
        tuple(_extracted(attack, cells, alpha, each) for attack in attacks if _everywhere(attack, cells)),
        tuple(cell.kept for cell in cells if cell.kept is not None),
        first.passes,
        tuple(cell.seed for cell in cells if cell.untrained),
        _collapsed(cells, plain),
    )


def _everywhere(attack: str, cells: Sequence[CellResult]) -> bool:
    """Leave an attack out that broke on one of the seeds: the rest would be a choice."""
    return all(any(found.attack == attack for found in cell.found) for cell in cells)


def _extracted(attack: str, cells: Sequence[CellResult], alpha: float, each: float) -> Extracted:
    found = [one for cell in cells for one in cell.found if one.attack == attack]
    guessing = [chance(cell.sizes) for cell in cells for one in cell.found if one.attack == attack]
    signals: list[Signal] = ["guess", "whole"] if all(one.right is not None for one in found) else []
    signals += ["rank"] if all(one.ahead is not None for one in found) else []
    comparisons = compare_all(found, signals, left=min(cell.left for cell in cells), level=each)
    exact = all(attack in cell.exact for cell in cells)
    return Extracted(attack, exact, measure(found, guessing, alpha=alpha), comparisons)
