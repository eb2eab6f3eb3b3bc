"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redteam.cli.present import is_quiet, say

_LINE_EVERY = 15.0  # seconds between lines where there is no terminal


@contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """Yield a function `(done, total, *measure)` that shows how far `what` has come, or another `what` in between."""
    if is_quiet():
        yield _nothing
    elif sys.stderr.isatty():
        with _bar(what) as show:
            yield show
    else:
        yield _lines(what)


@contextmanager
def _bar(what: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)

        def show(done: int, total: int, *measure: float, what: str = what) -> None:
            said = f"{what} (loss {measure[0]:.3f})" if measure else what
            bars.update(task, completed=done, total=total, description=said)

        yield show


def _nothing(done: int, total: int, *measure: float, what: str = "") -> None:
    """Show nothing."""


def _lines(what: str) -> Callable[..., None]:
    last = time.monotonic()

    def show(done: int, total: int, *measure: float, what: str = what) -> None:
        nonlocal last
        if time.monotonic() - last > _LINE_EVERY:
            last = time.monotonic()
            said = f", loss {measure[0]:.3f}" if measure else ""
            say(f"{what}: {done} of {total}{said}")

    return show
