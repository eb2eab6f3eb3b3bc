"""What an attack is given besides its target and the rows to look at; nothing in it tells who was a member."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from redteam.core.arrays import FloatArray
from redteam.core.progress import Progress, unwatched
from redteam.data import Examples
from redteam.plugins.reference_scores import ReferenceScores
from redteam.targets.target import Target


def unread(line: str) -> None:
    """Keep no remark."""


class Encoder(Protocol):
    """A public model of language, from which nothing of the target's training data can be learned."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    def embed(self, texts: Sequence[str], progress: Progress = unwatched) -> FloatArray:
        """Return one vector of length 1 per text, shape [n, d]; deterministic."""


@dataclass(frozen=True)
class AttackContext:
    """What an adversary has besides the target: one value, so that a new attack needs no new argument.

    `seed` decides all that is random. `progress` is called as work is done. `references` are models that answer as the
    target does and were trained apart from it, on none of the canaries; `base` is the directory of the public encoder
    that training started from, `encoder` a public encoder of texts. `reference_scores` are what reference models say of
    the rows of the pool, `nonmembers` rows beside it that the target was surely not trained on. `requests` is how many
    more requests the target takes, `seconds` how long the attack may run; None is no limit. `remark` takes a line for
    the report: what the attack used. In `kept` attacks leave for each other what is dear to compute again, under a key
    that says all that it depends on.
    """

    seed: int
    progress: Progress = unwatched
    references: tuple[Target, ...] = ()
    base: Path | None = None
    encoder: Encoder | None = None
    reference_scores: ReferenceScores | None = None
    nonmembers: Examples | None = None
    requests: int | None = None
    seconds: float | None = None
    remark: Callable[[str], None] = unread
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def reference(self) -> Target | None:
        """The first reference model, for attacks that compare with one; None where there is none."""
        return self.references[0] if self.references else None
