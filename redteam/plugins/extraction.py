"""What extracts canaries: an attack that knows a sentence but for its secret, and asks the model for the rest.

Attacks are blind. They get questions, in which nothing depends on the secrets, and suspects: for each question two
secrets drawn alike, of which a fair coin put one into the training data, in alphabetical order. Who compares the two
without knowing the coin is right half of the time unless the model depends on it: every finding rests on that.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from redteam.core.errors import RedteamError, UsageError
from redteam.data import Examples
from redteam.data.pattern import Pattern
from redteam.targets.target import Access, Target

if TYPE_CHECKING:
    from redteam.statistics.exposure import Exposure
    from redteam.statistics.interval import Interval

ENUMERABLE = 10**6  # candidates that are all looked at; beyond, a sample

Secret = tuple[str, ...]  # one symbol for each place of the pattern
Progress = Callable[[int, int], None]  # done, of how many; may raise to break the work off


def unwatched(done: int, total: int) -> None:
    """Show no progress."""


class NotApplicable(RedteamError):
    """What the target or the attacker lacks for an attack, such as an embedding table that was trained."""


@dataclass(frozen=True)
class ExtractionQuery:
    """What an attacker knows of a canary: the pattern, the label, and the candidate symbols of each place.

    `alphabets` has one tuple of symbols for each symbol of the secret.
    """

    id: str
    pattern: Pattern
    label: str
    alphabets: tuple[tuple[str, ...], ...]

    @property
    def size(self) -> int:
        """The number of candidate secrets, exact however large."""
        return math.prod(len(symbols) for symbols in self.alphabets)

    def candidates(self, *, most: int = ENUMERABLE) -> Iterator[Secret]:
        """Yield every candidate, the last place changing fastest; UsageError where there are more than `most`."""
        if self.size > most:
            raise UsageError(
                f"{self.id}: {self.size:,} candidates are more than the {most:,} that are looked at singly"
            )
        return itertools.product(*self.alphabets)

    def sample(self, count: int, *, seed: int) -> list[Secret]:
        """Return `count` candidates, each drawn uniformly and independently of the others."""
        rng = np.random.default_rng([seed, 0xCA17])
        drawn = [rng.integers(len(symbols), size=count) for symbols in self.alphabets]
        rows = zip(*(column.tolist() for column in drawn), strict=True)
        return [tuple(symbols[i] for symbols, i in zip(self.alphabets, row, strict=True)) for row in rows]

    def examples(self, secrets: Sequence[Secret]) -> Examples:
        """Return the sentences with these secrets, each with the canary's label."""
        texts = tuple(self.pattern.fill(secret) for secret in secrets)
        return Examples(np.arange(len(texts)), texts, (self.label,) * len(texts))


@dataclass(frozen=True)
class CandidateSecret:
    """A secret to be ranked: one of the two of a question, planted or never seen."""

    question: str
    secret: Secret


@dataclass(frozen=True)
class Ranked:
    """What an attack thinks of one suspect: the lower `loss`, the more likely it was trained on; finite.

    `exposure` is None where the attack does not compare with other candidates.
    """

    secret: Secret
    loss: float
    exposure: "Exposure | None" = None


@dataclass(frozen=True)
class Answer:
    """What an attack found for one question.

    `guess` is its best secret and `loss` that secret's loss; None of an attack that only ranks. `exact`: no candidate
    has a lower loss, since all were looked at. `ranked` has one entry for each suspect, of an attack that ranks.
    `details` are numbers for whoever calls the attack, such as steps done.
    """

    question: str
    guess: Secret | None = None
    loss: float | None = None
    exact: bool = False
    ranked: tuple[Ranked, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)


class ExtractionAttack(ABC):
    """An adversary after secrets: settings in the constructor, work in `extract`.

    `id` is stable and never re-used, `needs` is the least access it works with. `guesses` and `ranks` say which answers
    it gives; both are judged, so they are declared and not found out. `compares`: whether a reference makes a
    difference. `scores_tokens`: whether there is a `token_auc`. `searches`: whether it looks for what an attack that
    `enumerates` finds in any case. A guess must not depend on the suspects: how unlikely a whole secret is by luck is
    counted over all candidates, and not over two.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access]
    guesses: ClassVar[bool] = True
    ranks: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    scores_tokens: ClassVar[bool] = False
    searches: ClassVar[bool] = False

    def enumerates(self, question: ExtractionQuery) -> bool:
        """Return whether it looks at every candidate of a question, so that a search finds nothing better."""
        return False

    def token_auc(self, target: Target, texts: Sequence[str], *, base: Path | None, alpha: float) -> "Interval":
        """Return how well it tells the tokens of the training `texts` from those of no text; raise NotApplicable."""
        raise NotApplicable(f"{self.id} scores no tokens")

    @abstractmethod
    def extract(
        self,
        target: Target,
        questions: Sequence[ExtractionQuery],
        suspects: Sequence[CandidateSecret],
        *,
        reference: Target | None = None,
        base: Path | None = None,
        seed: int,
        progress: Progress = unwatched,
    ) -> Sequence[Answer]:
        """Return one answer for each question, in that order; the target is left as it was.

        `reference` is a classifier with the same labels that never saw the canaries: log-odds are then compared with
        its. `base` is the directory of the public encoder that training started from. `progress` is called every second
        or so. Raises NotApplicable; who asked then asks about each pattern by itself.
        """
