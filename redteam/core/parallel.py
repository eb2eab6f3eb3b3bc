"""Independent jobs over processes: one thread each, results as they come, a job that breaks is a value.

The only place where the project asks `joblib` for processes. `backend` is joblib's name of who runs the jobs: "loky",
or one that was registered with `joblib.register_parallel_backend`, such as a cluster's. A job that raises, and one
whose process dies, are `Failed`; the others go on. Jobs must be safe to run twice: where a process died, those that
ran beside it are run again, each alone, until it is known whose fault it was.

Ctrl-C and SIGTERM let every running job come to a safe place, then raise KeyboardInterrupt; a second one ends
everything at once. A job hears of it where it calls its `check`: as a signal of its own, or as KeyboardInterrupt. One
that has not come to a safe place within `GRACE` seconds is killed with its process, as by a power cut.
"""

import atexit
import contextlib
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self, TypeVar

from redteam.core.errors import UsageError

Job = TypeVar("Job")
Result = TypeVar("Result")
Check = Callable[[], None]
Work = Callable[[Job, Check], Result]

GRACE = 1.5  # seconds
_HANDLED = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Failed:
    """What became of a job that gave no result, in one line."""

    reason: str


Outcomes = Generator[tuple[int, Result | Failed], None, tuple[int, ...]]


def run_jobs(
    work: Work[Job, Result], jobs: Sequence[Job], *, workers: int = 1, backend: str = "loky"
) -> Iterator[tuple[int, Result | Failed]]:
    """Yield (position, result) of `work(job, check)` for every job, in the order in which they are done.

    With one worker the jobs run in this process, one after the other. Otherwise `work` and the jobs must be picklable,
    and `work` should call `check()` every second or so. Raises UsageError for less than one worker or an unknown
    backend, KeyboardInterrupt where interrupted.
    """
    if workers < 1:
        raise UsageError(f"--jobs {workers}: must be at least 1")
    return _in_this_process(work, jobs) if workers == 1 else _over_processes(work, jobs, workers, backend)


def _in_this_process(work: Work[Job, Result], jobs: Sequence[Job]) -> Iterator[tuple[int, Result | Failed]]:
    for position, job in enumerate(jobs):
        yield position, _attempt(work, job, lambda: None)


def _over_processes(
    work: Work[Job, Result], jobs: Sequence[Job], workers: int, backend: str
) -> Iterator[tuple[int, Result | Failed]]:
    left = dict(enumerate(jobs))
    with tempfile.TemporaryDirectory(prefix="redteam-") as folder, _Stop(Path(folder) / "stop", backend) as stop:
        run = partial(_in_a_worker, work, str(stop.path), os.getpid())
        try:
            while left and not stop.asked:
                suspects = yield from _until_broken(run, left, tuple(left), workers, backend)
                for position in suspects:
                    # two workers for one job: with one, joblib would run it in this process
                    if not stop.asked and (yield from _until_broken(run, left, (position,), 2, backend)):
                        del left[position]
                        yield position, Failed("its process died (out of memory, or killed): fewer --jobs may do")
        finally:
            _end_workers(backend)
        stop.raise_if_asked()


def _until_broken(
    run: Callable[..., Any], left: dict[int, Job], positions: tuple[int, ...], workers: int, backend: str
) -> Outcomes[Any]:
    """Yield results, crossing them off `left`; return the jobs that were running when the pool of workers broke."""
    import joblib

    started: list[int] = []

    def tasks() -> Iterator[Any]:
        for position in positions:
            started.append(position)
            yield joblib.delayed(run)(position, left[position])

    try:
        for position, value in _outputs(tasks(), workers, backend):
            if value is not None:  # else it was stopped
                del left[position]
                yield position, value
    except Exception:
        if not started:
            raise
        return tuple(position for position in started if position in left)
    return ()


def _outputs(tasks: Iterator[Any], workers: int, backend: str) -> Iterator[tuple[int, Any]]:
    """The one `joblib.Parallel`: no more tasks out than workers, so what is out when one dies was running."""
    import joblib

    known = joblib.parallel.BACKENDS.keys() | joblib.parallel.EXTERNAL_BACKENDS.keys()
    if backend not in known:
        raise UsageError(f"backend {backend!r}: joblib knows {', '.join(sorted(known))}; register others with it")
    one_thread = {"inner_max_num_threads": 1} if backend == "loky" else {}
    with joblib.parallel_config(backend=backend, n_jobs=workers, **one_thread):
        found = joblib.Parallel(return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)(tasks)
    try:
        for outcome in found:  # noqa: UP028 - not `yield from`, which would close it where joblib's warning is heard
            yield outcome
    finally:
        with warnings.catch_warnings(action="ignore"):  # who stops listening knows that results are lost
            found.close()


def _end_workers(backend: str) -> None:
    """End idle workers now, and do what joblib would at exit: an interrupted command leaves by `os._exit`.

    Otherwise workers would wait minutes for more, and loky's tracker warn of a folder that nobody took back.
    """
    if backend != "loky":
        return
    from joblib.externals.loky import get_reusable_executor

    executor = get_reusable_executor(reuse=True)
    executor.shutdown(wait=True, kill_workers=True)
    for finalize in list(getattr(getattr(executor, "_temp_folder_manager", None), "_finalizers", {}).values()):
        atexit.unregister(finalize)
        finalize()


def _kill_workers(backend: str) -> None:
    """Kill the workers that run, without waiting for it: who waits for their results hears of it."""
    if backend == "loky":
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)


def _in_a_worker(
    work: Work[Job, Result], stop: str, parent: int, position: int, job: Job
) -> tuple[int, Result | Failed | None]:
    """Run one job; None where it was stopped. A terminal's Ctrl-C reaches workers too: they hear of it by `stop`."""
    own = os.getpid() != parent and threading.current_thread() is threading.main_thread()
    if own:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _interrupt)
    check = partial(_check, Path(stop), os.getppid(), own)
    try:
        check()
        return position, _attempt(work, job, check)
    except KeyboardInterrupt:
        return position, None


def _check(stop: Path, parent: int, own: bool) -> None:
    """Interrupt this job if all are to stop, or if the process that waits for it is gone."""
    if not stop.exists() and os.getppid() == parent:
        return
    if own:
        signal.raise_signal(signal.SIGTERM)  # a training holds it back until it has kept where it is
    else:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _attempt(work: Work[Job, Result], job: Job, check: Check) -> Result | Failed:
    from redteam.core.errors import one_line

    try:
        with _one_thread():
            return work(job, check)
    except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end the others
        return Failed(one_line(error))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: workers would fight for cores, and how many add up a sum decides its last digits."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


class _Stop:
    """Turns the first interrupt into a file, which jobs look for in every process; the second strikes at once."""

    def __init__(self, path: Path, backend: str) -> None:
        """Nothing is caught until the context is entered."""
        self.path, self.asked = path, False
        self._patience = threading.Timer(GRACE, _kill_workers, (backend,))
        self._patience.daemon = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take the handlers over; outside the main thread, where that is impossible, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._catch) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the handlers back."""
        self._patience.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_if_asked(self) -> None:
        """Raise KeyboardInterrupt if there was an interrupt."""
        if self.asked:
            raise KeyboardInterrupt

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.path.touch()
        self._patience.start()
