"""What a defence is: a way of training that returns the model together with the guarantee it earned."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from redteam.data import Examples
from redteam.report import Guarantee

if TYPE_CHECKING:
    from redteam.bundle import Bundle
    from redteam.models.starting import Start
    from redteam.target import Target

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Checkpoint:
    """Where a broken-off training is kept, and the fingerprint of all that its numbers depend on."""

    path: Path
    key: str


@dataclass(frozen=True)
class Trained:
    """A trained model and what its training guarantees (None: nothing)."""

    bundle: "Bundle"
    guarantee: Guarantee | None = None

    @property
    def target(self) -> "Target":
        """The model as attacks see it."""
        from redteam.targets.model import ModelTarget

        return ModelTarget(self.bundle, name="trained")


class Defense(ABC):
    """A trainer: settings in the constructor (a frozen dataclass), work in `fit`."""

    id: ClassVar[str]
    name: ClassVar[str]

    @abstractmethod
    def fit(
        self,
        start: "Start",
        examples: Examples,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train `start` on `examples`; `progress(step, steps, loss)` is called after each step.

        With a checkpoint, a training that was broken off goes on where it was and ends with the same numbers.
        """

    def parameters(self) -> dict[str, Any]:
        """Return the settings, for the ledger."""
        return asdict(self) if is_dataclass(self) else {}
