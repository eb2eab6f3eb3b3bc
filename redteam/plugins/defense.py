"""What a defence is: a way of training that returns the model together with its guarantee."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Examples
from redteam.report.values import Guarantee

if TYPE_CHECKING:
    import torch

    from redteam.models.bundle import Bundle
    from redteam.models.initial import InitialModel
    from redteam.models.label_rows import CanaryRun
    from redteam.targets.target import WhiteBox

Progress = Callable[[int, int, float], None]

# Whether a trainer may ask for losses again to see that rows stay apart. Who counts the rows that a step reads, as
# `redteam verify` does, sets it to False.
MAY_ASK_AGAIN: ContextVar[bool] = ContextVar("may_ask_again", default=True)

# Whether trainings with one public seed draw the same Poisson batches whatever their noise and trainer, so that they
# are compared like with like. For measurements alone: two releases that share their batches hide less than each says.
SHARE_BATCHES: ContextVar[bool] = ContextVar("share_batches", default=False)


@dataclass(frozen=True)
class Checkpoint:
    """Where a broken-off training is kept, and the fingerprint of all that its numbers depend on."""

    path: Path
    key: str

    @property
    def clients(self) -> Path:
        """The folder for what only single clients know of the training."""
        return self.path.with_name(f"{self.path.name}.clients")


@dataclass(frozen=True)
class Trained:
    """A trained model, what its training guarantees (None: nothing), and what whoever trained must know of it.

    `kept_pass` is the pass whose model early stopping kept, None without. Where clients trained on rows of their own,
    `clients` are the numbers in the file of each one's rows, by its name, and `rounds` what is written down of each.
    `canaries` is what it did with label canaries.
    """

    bundle: "Bundle"
    guarantee: Guarantee | None = None
    notes: tuple[str, ...] = ()
    kept_pass: int | None = None
    clients: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rounds: tuple[Mapping[str, Any], ...] = ()
    canaries: "CanaryRun | None" = None

    @property
    def target(self) -> "WhiteBox":
        """The model as attacks see it."""
        from redteam.targets.model import ModelTarget

        return ModelTarget(self.bundle, name="trained")


class StepWatch(Protocol):
    """What watches the updates of a training, and is kept with its checkpoint."""

    def begin(
        self,
        optimizer: "torch.optim.Optimizer",
        mechanism: "Mechanism",
        guarantee: Guarantee | None,
        *,
        divisor: float,
    ) -> None:
        """Hear what the steps will be, gradients being sums over `divisor`, and watch `optimizer` from now on."""

    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""

    def take(self, kept: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint kept."""

    def close(self) -> None:
        """Watch no longer."""


@dataclass(frozen=True)
class Problem:
    """What a private trainer minimises: rows of data, and the loss of each under a model.

    `losses(rows)` runs `model` on `rows`, int64 [b], and returns their losses, float [b], one a row and none mixed with
    another. There are `size` rows. `population` is the number of rows that is public: sampling rate and divisor come
    from it and never from the realised data. `lengths` are the rows' lengths in tokens, to batch like with like.
    `data` names the data, by a digest of them: trainings on other data draw other numbers though their seed is one.
    `watch` sees each update.
    """

    model: "torch.nn.Module"
    optimizer: "torch.optim.Optimizer"
    losses: "Callable[[torch.Tensor], torch.Tensor]"
    size: int
    population: int
    lengths: tuple[int, ...] | None = None
    data: str = ""
    watch: StepWatch | None = None


@dataclass(frozen=True)
class Mechanism:
    """What a private training says that each of its steps does; an adversary is told all of it.

    Each of `steps` steps takes rows by `sampling` at rate `sample_rate`, clips to L2 norm `clip`, adds Gaussian noise
    of standard deviation `noise_multiplier * clip` (at the start, where it decays) and divides by
    `sample_rate * population`.
    """

    clip: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    sampling: Literal["poisson", "shuffled", "fixed"] = "poisson"


@dataclass(frozen=True)
class PrivateRun:
    """What a private training did, and what it guarantees (None: nothing, as without noise)."""

    mechanism: Mechanism
    guarantee: Guarantee | None


@runtime_checkable
class PrivateTraining(Protocol):
    """A defence whose inner loop also runs on a problem that is no text classifier, so that it can be verified."""

    def train_on(
        self,
        problem: Problem,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> PrivateRun:
        """Train `problem.model` in place with `problem.optimizer`, whose `step` sees each noisy gradient."""


@runtime_checkable
class TogetherTraining(Protocol):
    """A defence that trains the last layers of many models at once, where nothing else of them is trained."""

    def fit_together(
        self, initial: "InitialModel", examples: Examples, halves: BoolArray, *, seeds: Sequence[int]
    ) -> FloatArray:
        """Train a model on each of `halves`, [k, n] of the examples; return its logits for all of them, [k, n, c]."""


@runtime_checkable
class SoftTraining(Protocol):
    """A defence that trains to probabilities, as a student learns from a teacher."""

    def fit_to(
        self,
        initial: "InitialModel",
        versions: Sequence[Sequence[str]],
        targets: FloatArray,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train on `targets`, [n, k] in the order of the model's labels, of n texts in one or more versions."""


class Defense(ABC):
    """A trainer: settings in the constructor (a frozen dataclass), work in `fit`.

    `canaries`: on how many `redteam verify` trains it; on fewer where its time grows with the square of a step's rows.
    `divides`: it trains over clients, and tells who held what.
    `plants_labels`: it trains the label canaries that an initial model asks for.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    canaries: ClassVar[int] = 100_000
    divides: ClassVar[bool] = False
    plants_labels: ClassVar[bool] = False

    @abstractmethod
    def fit(
        self,
        initial: "InitialModel",
        examples: Examples,
        *,
        seed: int,
        population: int | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train `initial` on `examples`; `progress(step, steps, loss)` is called after each step.

        Rows that `examples.planted` marks are canaries, which no user wrote: they are trained on like others, but must
        decide nothing, such as when to stop.

        `population` is how many examples were to be expected before membership was drawn: a public number, for defences
        whose guarantee must not depend on the realised one (None: as many as there are).
        With a checkpoint, a training that was broken off goes on where it was and ends with the same numbers.
        """

    def settled(self, initial: "InitialModel", rows: int) -> Self:
        """Return the defence with settings left open (None) chosen for a model and the public number of rows."""
        return self

    def parameters(self) -> dict[str, Any]:
        """Return the settings, for the ledger."""
        return asdict(self) if is_dataclass(self) else {}
