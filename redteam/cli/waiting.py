"""A sign of life on a terminal: what has said nothing for two seconds says for how long it has worked.

Before the first bar there is reading, opening a model and importing what that takes, of which nobody knows the length.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SILENT, _EVERY = 2.0, 0.5  # seconds
_ERASE = "\r\x1b[K"


class _Sign(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.since = self.heard = time.monotonic()
        self.shown, self.held = False, 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Show the sign after silence, until the end."""
        while not self.ended.wait(_EVERY):
            now = time.monotonic()
            if not self.held and now - self.heard > _SILENT:
                self.shown = True
                _write(f"{_ERASE}working, {now - self.since:.0f} s")

    def erase(self) -> None:
        """Take the sign off the line that something else is written to."""
        self.heard = time.monotonic()
        if self.shown:
            self.shown = False
            _write(_ERASE)


_signs: list[_Sign] = []


@contextmanager
def watched(before_a_line: list[Callable[[], None]]) -> Iterator[None]:
    """Show a sign wherever there is silence; `before_a_line` is called before anything else is written."""
    sign = _Sign()
    _signs.append(sign)
    before_a_line.append(sign.erase)
    sign.start()
    try:
        yield
    finally:
        sign.ended.set()
        sign.erase()
        before_a_line.remove(sign.erase)
        _signs.remove(sign)


@contextmanager
def held() -> Iterator[None]:
    """Show no sign while something else shows how far it is."""
    for sign in _signs:
        sign.held += 1
        sign.erase()
    try:
        yield
    finally:
        for sign in _signs:
            sign.held -= 1
            sign.erase()


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):  # a terminal that is gone: nobody waits any more
        pass
