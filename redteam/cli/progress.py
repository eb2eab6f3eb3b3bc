"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
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

    def __call__(self, done: float, total: int, *measure: float, **named: str) -> None:
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


@dataclass
class _Pace:
    """How fast work comes on: by what was done since it was first heard of, which is not where a resumed one began."""

    since: float = 0.0  # when it was first heard of, and last
    heard: float = 0.0
    first: float = -1  # how much was done then; less than 0 before
    done: float = 0
    total: int = 0

    def hear(self, done: float, total: int) -> "_Pace":
        """Take how far it is now."""
        self.heard = time.monotonic()
        again = done < self.done and done <= self.first  # a step back alone, as jobs at once make, is no new beginning
        if self.first < 0 or total != self.total or again:
            self.since, self.first, self.total = self.heard, done, total
        self.done = done
        return self

    def left(self) -> float | None:
        """Return the seconds that are left of it by now; None where nothing was done yet, or nothing is left."""
        rest = _rest(*self.so_far)
        return None if rest is None else rest - (time.monotonic() - self.heard)

    @property
    def so_far(self) -> tuple[float, float, float]:
        """What it took until it was last heard of, in seconds, how much was done in them, and how much is left."""
        return self.heard - self.since, self.done - self.first, self.total - self.done


@contextmanager
def _bar(what: str) -> Iterator[ProgressShow]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.text import Text

    class Left(ProgressColumn):
        """The time that is left, by the second, also while one long step says nothing."""

        def render(self, task: Task) -> Text:
            left = task.fields["pace"].left()
            said = "-:--:--" if left is None else str(timedelta(seconds=max(1, round(left))))
            return Text(said, "progress.remaining")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed(), TextColumn("left"))
    with Progress(*columns, Left(), console=Console(stderr=True), transient=True) as bars:
        pace, shown = _Pace(), what
        task = bars.add_task(what, total=None, pace=pace)

        def begin(what: str) -> None:
            nonlocal task, shown, pace
            if what != shown:  # its pace is another, and so is the time that is left
                bars.refresh()  # how far the other came
                bars.remove_task(task)
                pace, shown = _Pace(), what
                task = bars.add_task(what, total=None, pace=pace)
                bars.refresh()

        def show(done: int, total: int, *measure: float, what: str = what) -> None:
            begin(what)
            pace.hear(done, total)
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
    pace, shown = _Pace(), what

    def show(done: int, total: int, *measure: float, what: str = what) -> None:
        nonlocal last, pace, shown
        if what != shown:
            pace, shown = _Pace(), what
        now = pace.hear(done, total).heard
        if now - last > _LINE_EVERY:
            last = now
            said = f", loss {measure[0]:.3f}" if measure else ""
            say(f"{what}: {int(done)} of {total}{said}{time_left(*pace.so_far)}")

    return show


def time_left(seconds: float, done: float, left: float) -> str:
    """Return how long the rest takes at the pace so far; nothing where nothing was done yet, or nothing is left."""
    rest = _rest(seconds, done, left)
    if rest is None:
        return ""
    return f" (about {rest:.0f} s left)" if rest < 90 else f" (about {rest / 60:.0f} min left)"


def _rest(seconds: float, done: float, left: float) -> float | None:
    return None if done <= 0 or left <= 0 else seconds / done * left
