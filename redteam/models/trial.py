"""A stranger's model is opened in a process of its own first, which may take so much time and memory and no more.

What the checks of configs, tokenizers and weights do not foresee ends that process and not the audit. Needs Linux, on
which a copy of this process costs nothing and the limits hold; elsewhere nothing is tried, and it is said.
"""

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from redteam.core import BundleError, RedteamError, TargetError, UsageError

_GIB = 1 << 30
_WEIGHTS = (".safetensors", ".bin")
_KINDS = {kind.__name__: kind for kind in (BundleError, TargetError, UsageError)}
_NO_MEMORY = ("allocate memory", "not enough memory", "MemoryError", "bad_alloc", "out of memory")
# A model of many gigabytes is read in longer than an empty one, and its weights are in memory up to three times.
_COPIES = 3
_BYTES_A_SECOND = 50_000_000


@dataclass(frozen=True)
class Limits:
    """What opening a directory may take: `seconds`, of the clock and of the CPU, and `memory` in GiB.

    Both are beside what its weights take: a second for 50 MB of them, and three times their size.
    """

    seconds: float = 60.0
    memory: float = 4.0

    def __post_init__(self) -> None:
        """Raise UsageError for what is no limit."""
        for option, value in (("--open-seconds", self.seconds), ("--open-memory", self.memory)):
            if not 0 < value <= 1_000_000:
                raise UsageError(f"{option} {value:g}: must lie between 0 and 1,000,000")


def possible() -> bool:
    """Tell whether this system can try a model out in a process with limits."""
    return sys.platform == "linux" and Path("/proc/self/status").is_file()


def try_first(work: Callable[[], object], path: Path, limits: Limits, *others: Path | None) -> tuple[str, ...]:
    """Do `work`, which opens `path`, in a process of its own, and forget its result; return notes.

    `others` are directories that it opens too. Raises what `work` raises of ours, and BundleError where it takes more
    than the limits or dies.
    """
    if not possible():
        return (f"{path}: was opened without limits of time and memory, which only Linux keeps",)
    size = sum(_size(folder) for folder in (path, *others) if folder is not None)
    seconds = limits.seconds + size / _BYTES_A_SECOND
    reading, writing = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of forking beside idle threads
        child = os.fork()
    if child == 0:
        os.close(reading)
        _child(work, writing, int(seconds) + 1, int(limits.memory * _GIB) + _COPIES * size)
    os.close(writing)
    said, status = _outcome(child, reading, seconds)
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise BundleError(
            f"{path}: takes more than {seconds:.0f} s to be opened: refused; --open-seconds gives an honest one longer"
        )
    if said.get("kind") == "memory" or os.WIFSIGNALED(status):
        raise BundleError(
            f"{path}: takes more than {limits.memory:g} GiB beside its weights to be opened, or breaks what opens it: "
            "refused; --open-memory gives an honest one more"
        )
    if said.get("kind") != "fine":
        kind = _KINDS.get(said.get("kind", ""), BundleError)
        raise kind(said.get("message") or f"{path}: cannot be opened (it ended the process that tried)")
    return ()


def _size(folder: Path) -> int:
    if not folder.is_dir():
        return 0  # whoever opens it says what is wrong
    return sum(entry.stat().st_size for entry in folder.iterdir() if entry.suffix in _WEIGHTS and entry.is_file())


def _outcome(child: int, reading: int, seconds: float) -> tuple[dict[str, str], int | None]:
    """Return what the child said and how it ended, None where its time was over; it is gone in any case."""
    until, said, status, ended = time.monotonic() + seconds, b"", None, False
    try:
        while not ended and (left := until - time.monotonic()) > 0:
            if select.select([reading], [], [], left)[0]:
                part = os.read(reading, 65536)
                said, ended = said + part, not part
    finally:
        os.close(reading)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    try:
        document = json.loads(said) if said else {}
    except ValueError:
        document = {}
    return document, status if ended else None


def _child(work: Callable[[], object], writing: int, seconds: int, memory: int) -> NoReturn:
    """Do the work under the limits, say how it went, and end without a word elsewhere."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nothing, stream)
        _limit(seconds, memory)
        outcome = _attempt(work)
        os.write(writing, json.dumps(outcome).encode()[:60_000])
    finally:
        os._exit(0)  # no handlers, no flushing of what the parent has yet to print


def _limit(seconds: int, memory: int) -> None:
    import resource

    import torch

    torch.set_num_threads(1)  # those of the parent do not exist here
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024
    # Of the private pages alone: the address space holds gigabytes of libraries that nobody touches.
    limits = ((resource.RLIMIT_DATA, used + memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0))
    for kind, value in limits:
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _attempt(work: Callable[[], object]) -> dict[str, str]:
    try:
        work()
    except RedteamError as error:
        lacks = any(sign in str(error) for sign in _NO_MEMORY)
        return {"kind": "memory" if lacks else type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"kind": "memory"}
    except BaseException as error:
        lacks = any(sign in str(error) for sign in _NO_MEMORY)
        return {"kind": "memory" if lacks else "", "message": ""}
    return {"kind": "fine"}
