"""What an attack is given besides its target and the rows to look at; nothing in it tells who was a member."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redteam.targets.target import Target

Progress = Callable[[int, int], None]  # done, of how many; may raise to break the work off


def unwatched(done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class AttackContext:
    """What an adversary has besides the target: one value, so that a new attack needs no new argument.

    `seed` decides all that is random. `progress` is called as work is done. `references` are models that answer as the
    target does and were trained apart from it, on none of the canaries; `base` is the directory of the public encoder
    that training started from. `requests` is how many more requests the target takes, `seconds` how long the attack may
    run; None is no limit.
    """

    seed: int
    progress: Progress = unwatched
    references: tuple[Target, ...] = ()
    base: Path | None = None
    requests: int | None = None
    seconds: float | None = None

    @property
    def reference(self) -> Target | None:
        """The first reference model, for attacks that compare with one; None where there is none."""
        return self.references[0] if self.references else None
