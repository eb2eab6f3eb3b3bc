"""Ctrl-C and SIGTERM between two steps instead of in the middle of one."""

import signal
import threading
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
