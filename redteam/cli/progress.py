"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from redteam.cli.present import is_quiet, say
from redteam.cli.waiting import held

_LINE_EVERY = 15.0  # seconds between lines where there is no terminal


Show = Callable[..., None]


class ProgressShow:
    """What shows how far something has come: called with what is done, of how much, and what is measured of it."""

    def __init__(self, show: Show, begin: Callable[[str], None], before: str = "") -> None:
        """Take what shows a state, what shows that something else has begun, and what stands before each name."""
        self._show, self._begin, self._before = show, begin, before

    def __call__(self, done: int, total: int, *measure: float, **named: str) -> None:
        """Show it; `what` is something else than was said at first."""
        self._show(done, total, *measure, **named)

    def named(self, what: str) -> "ProgressShow":
        """Show that something else has begun, of which nobody knows yet how long it takes, and return what shows it."""
        self._begin(f"{self._before}{what}")
        return ProgressShow(partial(self._show, what=f"{self._before}{what}"), self._begin, self._before)

    def under(self, before: str) -> "ProgressShow":
        """Return the same, with something before the names of all that is done."""
        return ProgressShow(self._show, self._begin, before)


@contextmanager
def progress(what: str) -> Iterator[ProgressShow]:
    """Yield a function `(done, total, *measure)` that shows how far `what` has come, or another `what` in between."""
    if is_quiet():
        yield SILENT
    elif sys.stderr.isatty():
        with held(), _bar(what) as show:
            yield show
    else:
        yield ProgressShow(_lines(what), _unnamed)


@contextmanager
def _bar(what: str) -> Iterator[ProgressShow]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as bars:
        task, shown = bars.add_task(what, total=None), what

        def begin(what: str) -> None:
            nonlocal task, shown
            if what != shown:  # its pace is another, and so is the time that is left
                bars.refresh()  # how far the other came
                bars.remove_task(task)
                task, shown = bars.add_task(what, total=None), what
                bars.refresh()

        def show(done: int, total: int, *measure: float, what: str = what) -> None:
            begin(what)
            said = f"{what} (loss {measure[0]:.3f})" if measure else what
            bars.update(task, completed=done, total=total, description=said)

        yield ProgressShow(show, begin)


def _nothing(done: int, total: int, *measure: float, what: str = "") -> None:
    """Show nothing."""


def _unnamed(what: str) -> None:
    """Say nothing of what begins: a line comes when it has taken a while."""


SILENT = ProgressShow(_nothing, _unnamed)


def _lines(what: str) -> Show:
    last = time.monotonic()
    start: tuple[str, int, float, int] = ("", 0, last, 0)  # what, of how many, since when, and how many were done then

    def show(done: int, total: int, *measure: float, what: str = what) -> None:
        nonlocal last, start
        now = time.monotonic()
        if start[:2] != (what, total) or done < start[3]:
            start = what, total, now, done
        if now - last > _LINE_EVERY:
            last = now
            said = f", loss {measure[0]:.3f}" if measure else ""
            say(f"{what}: {done} of {total}{said}{time_left(now - start[2], done - start[3], total - done)}")

    return show


def time_left(seconds: float, done: int, left: int) -> str:
    """Return how long the rest takes at the pace so far; nothing where nothing was done yet, or nothing is left."""
    if done <= 0 or left <= 0:
        return ""
    rest = seconds / done * left
    return f" (about {rest:.0f} s left)" if rest < 90 else f" (about {rest / 60:.0f} min left)"
