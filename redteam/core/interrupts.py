"""Ctrl-C and SIGTERM between two steps instead of in the middle of one."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """Hold the first interrupt back until the caller is at a safe place; a second one strikes at once."""

    def __init__(self) -> None:
        """Nothing is caught until the context is entered."""
        self.caught = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take the handlers over; outside the main thread, where that is impossible, do nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Give the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_if_caught(self) -> None:
        """Raise KeyboardInterrupt if an interrupt is being held back."""
        if self.caught:
            raise KeyboardInterrupt

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = True


_AGAIN = 0.05  # seconds, after which a __del__ or a function that C called is over
_Unraisable = Callable[["sys.UnraisableHookArgs"], object]


def insist(otherwise: _Unraisable | None = None) -> None:
    """Let an interrupt strike again where Python drops it: in a __del__, or in a function that C called.

    Without this such a Ctrl-C is lost, and a line on stderr is all that comes of it. What else Python has to drop goes
    to `otherwise`, by default to whoever had it before.
    """
    usual: _Unraisable = otherwise or sys.unraisablehook

    def dropped(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            usual(unraisable)
            return
        again = threading.Timer(_AGAIN, os.kill, (os.getpid(), signal.SIGTERM))  # at once would be dropped once more
        again.daemon = True
        again.start()

    sys.unraisablehook = dropped
