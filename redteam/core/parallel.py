"""Independent jobs over processes: one thread each, results as they come, a job that breaks is a value.

Workers are processes that the standard library spawns; a script that asks for several has to do so under
`if __name__ == "__main__":`, since each of them imports it. A job that raises, and one whose process dies, are
`Failed`; the others go on.

Whoever stops listening, by an interrupt or by closing what `run_jobs` returned, ends all workers within `GRACE`
seconds: they get SIGTERM, which is KeyboardInterrupt to a job (a training holds it back until it has kept where it is),
and are killed where that was not enough. They do the same to themselves when the process that started them is gone.
A terminal's Ctrl-C does not reach them.
"""

import contextlib
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, NoReturn, TypeVar

from redteam.core import UsageError, one_line
from redteam.core.interrupts import insist

Job = TypeVar("Job")
Result = TypeVar("Result")

_LOOK = 0.5  # seconds between looks at how far workers are
GRACE = 1.0  # seconds: with what it takes to kill and to go, 1.5
_HANDLED = (signal.SIGINT, signal.SIGTERM)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Failed:
    """What became of a job that gave no result, in one line; `lost`: its process is gone, and another may do it."""

    reason: str
    lost: bool = False


def run_jobs(
    work: Callable[..., Result], jobs: Sequence[Job], *, workers: int = 1, watch: Callable[[float], None] | None = None
) -> Generator[tuple[int, Result | Failed], None, None]:
    """Yield (position, result) of `work(job)` for every job, in the order in which they are done.

    With one worker the jobs run in this process, one after the other. Otherwise `work` and the jobs must be picklable.
    With a `watch` work is called as `work(job, progress)`, and tells by `progress(done, total)` how far the job is;
    `watch` hears how many jobs that under way are worth together, as 1.5 where one is done by half and another wholly.
    Close what is returned (`contextlib.closing`) where it may not be read to its end. Raises UsageError for less than
    one worker.
    """
    if workers < 1:
        raise UsageError(f"--jobs {workers}: must be at least 1")
    if workers > 1:
        return _over_processes(work, jobs, workers, watch)
    if watch is not None:
        work = partial(_told, work, watch)
    return ((position, attempt(work, job)) for position, job in enumerate(jobs))


def _told(work: Callable[..., Result], tell: Callable[[float], None], job: Job) -> Result:
    """Do a job, and tell the share of it that is done."""
    return work(job, lambda done, total, *measure: tell(min(1.0, done / max(total, 1))))


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    share: Any  # of its job that is done: a number in memory of both processes

    def outcome(self) -> Any:
        """Return what it made of its job; `Failed` where it died of it."""
        try:
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join(GRACE)
            code = self.process.exitcode
            self.process.kill()  # where it lives on without its pipe
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                return Failed(f"its process was killed by {name} (memory?): fewer --jobs may do", lost=True)
            return Failed(f"its process ended with exit code {code} instead of a result", lost=True)
        except Exception as error:  # a result that can be written and not be read
            return Failed(one_line(error))


def _over_processes(
    work: Callable[..., Result], jobs: Sequence[Job], workers: int, watch: Callable[[float], None] | None
) -> Generator[tuple[int, Result | Failed], None, None]:
    waiting, started = deque(enumerate(jobs)), list[_Worker]()
    idle, busy = list[_Worker](), dict[Connection, tuple[_Worker, int]]()
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                position, job = waiting.popleft()
                try:
                    message = pickle.dumps((work, job, watch is not None))
                except Exception as error:
                    yield position, Failed(one_line(error))
                    continue
                worker = idle.pop() if idle else _start(started)
                worker.share.value = 0.0
                busy[worker.pipe] = worker, position
                with contextlib.suppress(OSError):  # it is dead, which `outcome` tells
                    worker.pipe.send_bytes(message)
            ready = wait(list(busy), None if watch is None else _LOOK)
            if watch is not None:
                watch(sum(1.0 if pipe in ready else worker.share.value for pipe, (worker, _) in busy.items()))
            for pipe in ready:
                assert isinstance(pipe, Connection)
                worker, position = busy.pop(pipe)
                outcome = worker.outcome()
                idle += [worker] if worker.process.is_alive() else []
                yield position, outcome
    finally:
        _end(started)


def _start(started: list[_Worker]) -> _Worker:
    """Start one more worker; signals wait until it stands here and can be ended, and there until it can hear them."""
    context = get_context("spawn")
    resource_tracker.ensure_running()  # which lets signals through as it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        here, there = context.Pipe()
        share = context.Value("d", 0.0, lock=False)
        process = context.Process(target=_serve, args=(there, share))
        process.start()
        started.append(_Worker(process, here, share))
        there.close()  # the worker has the other end: without it a pipe ends
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return started[-1]


def _end(started: list[_Worker]) -> None:
    """End all workers: those that come to a safe place in time by themselves; a second interrupt kills them at once."""
    deadline = time.monotonic() + GRACE
    try:
        for worker in started:
            worker.process.terminate()
        for worker in started:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in started:
            worker.process.kill()
        for worker in started:
            worker.process.join()
            worker.pipe.close()


def _serve(pipe: Connection, share: Any) -> None:
    """Do the jobs that come by a pipe, as a worker, until it ends."""
    signal.signal(signal.SIGTERM, _interrupt)
    insist()
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # before torch is imported
    threading.Thread(target=_follow_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), partial(setattr, share, "value")))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing is left to stop


def _answer(message: bytes, tell: Callable[[float], None]) -> bytes:
    try:
        work, job, watched = pickle.loads(message)
        if watched:
            work = partial(_told, work, tell)
        return pickle.dumps(attempt(work, job))
    except Exception as error:  # what cannot be sent between processes
        return pickle.dumps(Failed(one_line(error)))


def _follow_parent() -> None:
    """End this process as its parent would, once that is gone."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def attempt(work: Callable[[Job], Result], job: Job) -> Result | Failed:
    """Do one job as a worker does: on one thread, and `Failed` where it raises."""
    try:
        with one_thread():
            return work(job)
    except (Exception, SystemExit) as error:  # a plug-in's sys.exit(0) must not end the others
        return Failed(one_line(error))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
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
