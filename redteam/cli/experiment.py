"""What the commands of experiments share: options, their folder, a line for each model, and what they write."""

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import typer

from redteam.cli.options import ModelOptions
from redteam.cli.present import deliver, say, terminal
from redteam.cli.progress import SILENT, ProgressShow, progress, time_left
from redteam.core import UsageError
from redteam.plugins.settings import Setting

if TYPE_CHECKING:
    from redteam.experiments.cells import Named, Result, Shared, Task
    from redteam.experiments.page import Outcome
    from redteam.experiments.report import ExperimentReport, FailedCell
    from redteam.training.train import ModelChoice

Opt = typer.Option
Folder = Annotated[Path, Opt("--output", "-o", help="Folder for the models, the table and the picture.")]
Rows = Annotated[int | None, Opt("--rows", min=1, help="Use only so many random rows of DATA.")]
Seeds = Annotated[int | None, Opt("--seeds", min=1, help="Models in each place of the grid [default: gap 5, drill 1].")]
Quick = Annotated[bool, Opt("--quick", help="A small grid, done in minutes; other options still count.")]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The size of an experiment; of each trainer only what is not None is set."""

    model: str = "tiny"
    layers: int | None = None
    freeze_embeddings: bool = False
    rows: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None

    @property
    def choice(self) -> "ModelChoice":
        """The model of every cell."""
        from redteam.training.train import ModelChoice

        return ModelChoice(self.model, self.layers, self.freeze_embeddings)

    @property
    def recipe(self) -> dict[str, float | None]:
        """What is set of every trainer."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}


@dataclass(frozen=True)
class TrainingSettings:
    """What `--set` says of the training of every model."""

    id: ClassVar[str] = "training"
    epochs: int | None = Setting("Passes over the texts.", "passes", least=1).default(None)
    batch_size: int | None = Setting("Examples in one step.", least=1).default(None)
    learning_rate: float | None = Setting("Peak learning rate.", least=1e-9, most=10).default(None)


Size = TypeVar("Size", bound=Grid)


def sized(size: Size, model: ModelOptions, training: TrainingSettings, **given: Any) -> Size:
    """Return a grid with what was given in it, None and an empty list left as it is."""
    given |= dataclasses.asdict(model) | dataclasses.asdict(training)
    given["freeze_embeddings"] |= size.freeze_embeddings
    return replace(size, **{name: value for name, value in given.items() if value not in (None, ())})


def names(text: str) -> list[str]:
    """Read a list with commas between."""
    return [name for name in map(str.strip, text.split(",")) if name]


def check_means(jobs: int) -> None:
    """Raise UsageError for less than one job, and where nothing could draw the picture: before any training."""
    from redteam.experiments.picture import require_matplotlib

    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: must be at least 1")
    require_matplotlib()


def make_folder(output: Path) -> None:
    """Make the folder of an experiment; UsageError where that cannot be."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: is a file; name a folder")
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.resolve().parent} does not exist")
    output.mkdir(exist_ok=True)


def run(
    tasks: "Sequence[Task[Shared, Named, Result]]", outcome: "Callable[[Result], str]", *, jobs: int, restart: bool
) -> "list[tuple[Task[Shared, Named, Result], Result | FailedCell]]":
    """Do all cells, `jobs` at a time, and return them in the order of `tasks`.

    Says what became of each as it is done, by `outcome` where it did not fail, with the time left. With `restart`, what
    an earlier run has done of them is forgotten first.
    """
    from redteam.experiments.cells import run_cells
    from redteam.experiments.report import FailedCell

    for task in tasks if restart else ():
        task.forget()
    found: dict[Path, Any] = {}
    taken = sum((task.folder / "cell.json").exists() for task in tasks)
    started = time.monotonic()
    bar = progress("models") if sys.stderr.isatty() else nullcontext(SILENT)  # else the lines say enough
    with bar as show, closing(run_cells(tasks, workers=jobs, watch=_ModelWatch(show, found, len(tasks)))) as done:
        show(0, len(tasks))
        for task, result in done:
            found[task.folder] = task, result
            show(len(found), len(tasks))
            left = time_left(time.monotonic() - started, len(found) - taken, len(tasks) - len(found))
            said = f"failed: {result.reason}" if isinstance(result, FailedCell) else outcome(result)
            say(f"{len(found)} of {len(tasks)}: {task.cell.words}: {said}{left}")
    return [found[task.folder] for task in tasks]


@dataclass(frozen=True)
class _ModelWatch:
    """Shows how far the model is that is trained and attacked now, as the next after those `found`."""

    show: ProgressShow
    found: Mapping[Path, Any]
    total: int

    def __call__(self, done: float, total: int) -> None:
        """Show so many models more, of several at once that are done in part."""
        self.show(len(self.found) + done, self.total)

    def named(self, what: str) -> ProgressShow:
        """Return what shows how far `what` is."""
        return self.show.under(f"model {len(self.found) + 1} of {self.total}, ").named(what)


def code(outcome: "Outcome") -> int:
    """Return the exit code of what an experiment comes to."""
    from redteam.experiments.page import CODES

    return CODES[outcome]


def write(
    report: "ExperimentReport",
    output: Path,
    written: Mapping[str, str],
    text: Callable[..., str],
    draw: Callable[..., None],
) -> bool:
    """Write a report as JSON, as texts by their suffix and a picture, and print it; return whether all was written."""
    name = report.format.removeprefix("redteam.").partition("/")[0]
    texts = {"json": report.to_json(), **written}
    delivered = not [kind for kind, each in texts.items() if not deliver(each, output / f"{name}.{kind}")]
    try:
        draw(report, output / f"{name}.png", output / f"{name}.svg")
    except OSError as error:
        say(f"redteam: cannot write the picture in {output}: {error.strerror or error}", logging.ERROR)
        delivered = False
    look = terminal(None)
    delivered &= deliver(text(report, width=look["width"], color=bool(look["color"])), None)
    if delivered:
        files = ", ".join(f"{name}.{kind}" for kind in (*texts, "png")) + f" and {name}.svg"
        say(f"wrote {files} in {output}; the models are measurements, not for release")
    return delivered
