"""How work tells how far it has come: a function that is called as work is done."""

from collections.abc import Callable

Progress = Callable[[int, int], None]  # done, of how many; may raise to break the work off


def unwatched(done: float, total: int) -> None:
    """Show no progress."""


def phase(progress: Progress, what: str) -> Progress:
    """Return a progress that says what is being done now, where whoever listens shows that; else the same."""
    named = getattr(progress, "named", None)
    found: Progress = progress if named is None else named(what)
    return found
