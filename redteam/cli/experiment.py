"""What the commands of experiments share: their folder, and a line for each model as it is done."""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from redteam.cli.present import say
from redteam.cli.progress import progress
from redteam.core.errors import UsageError


def make_folder(output: Path) -> None:
    """Make the folder of an experiment; UsageError where that cannot be."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: is a file; name a folder")
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.resolve().parent} does not exist")
    output.mkdir(exist_ok=True)


def watch(
    tasks: Sequence[Any], done: Generator[tuple[Any, Any], None, None], outcome: Callable[[Any], str]
) -> list[tuple[Any, Any]]:
    """Say what became of each task as it is done, with the time left; return them all in the order of `tasks`."""
    found: dict[str, tuple[Any, Any]] = {}
    taken = sum((task.folder / "cell.json").exists() for task in tasks)
    started = time.monotonic()
    with closing(done), progress("models") if sys.stderr.isatty() else nullcontext(_nothing) as show:
        show(0, len(tasks))
        for task, result in done:
            found[task.cell.folder] = task, result
            show(len(found), len(tasks))
            left = _time_left(time.monotonic() - started, len(found) - taken, len(tasks) - len(found))
            say(f"{len(found)} of {len(tasks)}: {task.cell.words}: {outcome(result)}{left}")
    return [found[task.cell.folder] for task in tasks]


def _nothing(done: int, total: int) -> None:
    """Show no bar where there is no terminal: the lines say enough."""


def _time_left(seconds: float, done: int, left: int) -> str:
    """Return how long the rest takes at the pace so far; nothing where nothing was trained yet, or nothing is left."""
    return f" (about {max(1, round(seconds / done * left / 60))} min left)" if done > 0 and left else ""
