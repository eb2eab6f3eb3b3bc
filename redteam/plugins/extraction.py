"""What extracts canaries: an attack that knows a sentence but for its secret, and asks the model for the rest.

Attacks are blind. They get queries, in which nothing depends on the secrets, and candidate secrets: for each query two
secrets drawn alike, in alphabetical order, of which one was put into the training data at random. Who compares the two
without knowing which is right half of the time unless the model depends on it: every finding rests on that.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from redteam.core import RedteamError, UsageError
from redteam.data import Examples
from redteam.data.pattern import Pattern
from redteam.plugins.context import AttackContext
from redteam.report.values import Taxonomy
from redteam.targets.target import Access, Target

if TYPE_CHECKING:
    from redteam.statistics import Interval
    from redteam.statistics.exposure import SecretExposure

ENUMERABLE = 10**6  # candidates that are all looked at; beyond, a sample

Secret = tuple[str, ...]  # one symbol for each place of the pattern


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
    """A secret to be ranked: one of the two of a query, planted or never seen."""

    query: str
    secret: Secret


@dataclass(frozen=True)
class Ranked:
    """What an attack thinks of one candidate secret: the lower `loss`, the more likely it was trained on; finite.

    `exposure` is None where the attack does not compare with other candidates.
    """

    secret: Secret
    loss: float
    exposure: "SecretExposure | None" = None


@dataclass(frozen=True)
class Answer:
    """What an attack found for one query.

    `guess` is its best secret and `loss` that secret's loss; None of an attack that only ranks. `exact`: no candidate
    has a lower loss, since all were looked at. `ranked` has one entry for each candidate secret, of an attack that
    ranks. `details` are numbers for whoever calls the attack, such as steps done.
    """

    query: str
    guess: Secret | None = None
    loss: float | None = None
    exact: bool = False
    ranked: tuple[Ranked, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)


class ExtractionAttack(ABC):
    """An adversary after secrets: settings in the constructor, work in `extract`.

    `id` is stable and never re-used, `needs` is the least access it works with, `taxonomy` what standards call it.
    `guesses` and `ranks` say which answers it gives; both are judged, so they are declared and not found out.
    `compares`: whether a reference makes a difference. `scores_tokens`: whether there is a `token_auc`. `searches`:
    whether it looks for what an attack that `enumerates` finds in any case. A guess must not depend on the candidate
    secrets: how unlikely a whole secret is by luck is counted over all candidates, and not over two.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[Access]
    taxonomy: ClassVar[Taxonomy | None] = None
    guesses: ClassVar[bool] = True
    ranks: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    scores_tokens: ClassVar[bool] = False
    searches: ClassVar[bool] = False

    def enumerates(self, query: ExtractionQuery) -> bool:
        """Return whether it looks at every candidate of a query, so that a search finds nothing better."""
        return False

    def token_auc(self, target: Target, texts: Sequence[str], context: AttackContext, *, alpha: float) -> "Interval":
        """Return how well it tells the tokens of the training `texts` from those of no text; raise NotApplicable."""
        raise NotApplicable(f"{self.id} scores no tokens")

    @abstractmethod
    def extract(
        self,
        target: Target,
        queries: Sequence[ExtractionQuery],
        candidates: Sequence[CandidateSecret],
        context: AttackContext,
    ) -> Sequence[Answer]:
        """Return one answer for each query, in that order; the target is left as it was.

        With a reference in `context`, a classifier with the same labels that never saw the canaries, log-odds are
        compared with its. Raises NotApplicable; who asked then asks about each pattern by itself.
        """
