"""What the drill found, as plain data with a versioned JSON form: per cell, and per row over its seeds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redteam import codec
from redteam.canary.measures import Comparison, Found, Measure, Signal, compare_all, fewest_to_prove, measure
from redteam.errors import ReportError
from redteam.report import Failure
from redteam.statistics.exposure import chance

FORMAT = "redteam.drill/1"


@dataclass(frozen=True)
class CellResult:
    """One training and what each attack got out of it; no secret is in here.

    `sizes` are those of the alphabet at each place of the secret; `left` secrets are still possible for a canary once
    all others in the data are known. `exact` names the attacks all of whose guesses were the best of all candidates.
    `right` of `tested` texts that nobody trained on were classified correctly.
    """

    pattern: str
    template: str
    repetitions: int
    defense: str
    seed: int
    canaries: int
    crowded: int
    sizes: tuple[int, ...]
    left: int
    found: tuple[Found, ...]
    exact: tuple[str, ...]
    failures: tuple[Failure, ...]
    right: int
    tested: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedCell:
    """A cell without numbers, and why."""

    template: str
    repetitions: int
    defense: str
    seed: int
    reason: str

    @property
    def words(self) -> str:
        """The cell as messages name it."""
        return f"{self.template}, R {self.repetitions}, {self.defense}, seed {self.seed}"


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
    """One sentence, number of repetitions and defence over its seeds: a line of the table.

    `left` secrets are still possible for a canary once all others are known. `accuracy` is the mean over the seeds, all
    on the same texts.
    """

    pattern: str
    template: str
    repetitions: int
    defense: str
    seeds: tuple[int, ...]
    canaries: int
    crowded: int
    left: int
    accuracy: float
    attacks: tuple[Extracted, ...]

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
            return codec.parse(cls, path.read_text(encoding="utf-8"), "drill", format=FORMAT, advice="run it again")
        except (OSError, ValueError) as error:
            raise ReportError(f"{path}: cannot be read as a drill's report ({error})") from None


def rows_of(cells: Sequence[CellResult], *, alpha: float, each: float) -> tuple[Row, ...]:
    """Return a row for each sentence, number of repetitions and defence, in the order in which they first come.

    Intervals are at `alpha` on their own; each comparison with the twins is at the level `each`.
    """
    together: dict[tuple[str, int, str], list[CellResult]] = {}
    for cell in cells:
        together.setdefault((cell.template, cell.repetitions, cell.defense), []).append(cell)
    return tuple(_row(some, alpha, each) for some in together.values())


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


def _row(cells: list[CellResult], alpha: float, each: float) -> Row:
    first = cells[0]
    attacks = dict.fromkeys(found.attack for cell in cells for found in cell.found)
    return Row(
        first.pattern,
        first.template,
        first.repetitions,
        first.defense,
        tuple(cell.seed for cell in cells),
        sum(cell.canaries for cell in cells),
        sum(cell.crowded for cell in cells),
        min(cell.left for cell in cells),
        sum(cell.right for cell in cells) / sum(cell.tested for cell in cells),
        tuple(_extracted(attack, cells, alpha, each) for attack in attacks if _everywhere(attack, cells)),
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
