"""Reference models over the processes of this machine, or of a cluster: the same function, the same numbers.

A model whose worker is lost is trained again elsewhere; one that fails of itself is not.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any

from redteam.core import UsageError, one_line
from redteam.core.parallel import Failed, attempt, run_jobs
from redteam.references.training import Reference, ReferenceJob, train_reference

ENGINES = ("processes", "ray", "dask")
_TRIES = 3  # of a model whose worker is lost
_CONNECT = 5.0  # seconds until a cluster that does not answer is given up
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}

Outcomes = Generator[tuple[int, Reference | Failed], None, None]


def train_references(
    jobs: Sequence[ReferenceJob],
    *,
    workers: int = 1,
    engine: str = "processes",
    watch: Callable[[float], None] | None = None,
) -> Outcomes:
    """Yield (position, what came of it) for every job, in the order in which they are done.

    With one worker of the engine "processes" the jobs run in this process; `watch` hears how far processes are, as in
    `run_jobs`. Engines "ray" and "dask" take `workers` of the cluster that RAY_ADDRESS or DASK_SCHEDULER_ADDRESS names,
    else of one that is started on this machine. Close what is returned (`contextlib.closing`). Raises UsageError where
    an engine is not there.
    """
    if engine == "processes":
        yield from _with_retries(jobs, lambda left: run_jobs(train_reference, left, workers=workers, watch=watch))
        return
    check_engine(engine)
    with _cluster(engine, workers):
        yield from _with_retries(jobs, lambda left: _by_joblib(engine, left, workers))


def check_engine(engine: str) -> None:
    """Raise UsageError for an engine that is unknown or not installed, or whose cluster does not answer."""
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: must be one of {', '.join(ENGINES)}")
    if engine == "processes":
        return
    package = {"ray": "ray", "dask": "distributed"}[engine]
    if find_spec(package) is None:
        raise UsageError(f"--engine {engine}: {package} is not installed; run: pip install '.[{engine}]'")
    address = _address(engine)
    if address is None or address in ("auto", "local"):
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--engine {engine}: no cluster answers at {address} ({_variable(engine)}): {one_line(error)}"
        ) from None


def _with_retries(jobs: Sequence[ReferenceJob], run: Any) -> Outcomes:
    left, lost = list(range(len(jobs))), dict[int, Failed]()
    for _ in range(_TRIES):
        with closing(run([jobs[i] for i in left])) as outcomes:
            done = set()
            for position, outcome in outcomes:
                if isinstance(outcome, Failed) and outcome.lost:
                    lost[left[position]] = outcome
                    continue
                done.add(left[position])
                yield left[position], outcome
        left = [i for i in left if i not in done]
        if not left:
            return
    yield from ((i, lost[i]) for i in left)


def _by_joblib(engine: str, jobs: Sequence[ReferenceJob], workers: int) -> Outcomes:
    """Yield what the cluster sends back; where it loses a worker, all that it was asked for and did not send is `lost`.

    Ray sends nothing back before all is done that it was asked for, so it is asked for as many as there are workers.
    """
    rounds = workers if engine == "ray" else len(jobs)
    for first in range(0, len(jobs), rounds):
        asked = dict(list(enumerate(jobs))[first : first + rounds])
        try:
            for position, outcome in _requested(engine, asked, workers):
                del asked[position]
                yield position, outcome
        except Exception as error:  # each engine has its own for a worker that is gone
            reason = Failed(f"{engine} lost it: {one_line(error)}", lost=True)
            yield from ((position, reason) for position in asked)


def _requested(
    engine: str, asked: Mapping[int, ReferenceJob], workers: int
) -> Iterator[tuple[int, Reference | Failed]]:
    from joblib import Parallel, delayed, parallel_config

    how = "list" if engine == "ray" else "generator_unordered"
    with parallel_config(backend=engine):
        parallel = Parallel(n_jobs=workers, batch_size=1, pre_dispatch="all", return_as=how)
        yield from parallel(delayed(_numbered)(i, job) for i, job in asked.items())


def _numbered(position: int, job: ReferenceJob) -> tuple[int, Reference | Failed]:
    return position, attempt(train_reference, job)


@contextlib.contextmanager
def _cluster(engine: str, workers: int) -> Iterator[None]:
    """Connect to the cluster that is named, or start one on this machine and end it afterwards."""
    address = _address(engine)
    try:
        with contextlib.ExitStack() as stack:
            (_ray if engine == "ray" else _dask)(stack, address, workers)
            yield
    except ConnectionError as error:
        raise UsageError(f"--engine {engine}: cannot be reached: {one_line(error)}") from None


def _ray(stack: contextlib.ExitStack, address: str | None, workers: int) -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.util.joblib import register_ray

    if not ray.is_initialized():
        alone: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **alone)
        stack.callback(ray.shutdown)
    register_ray()


def _dask(stack: contextlib.ExitStack, address: str | None, workers: int) -> None:
    from distributed import Client, LocalCluster

    if address is None:
        here = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        address = stack.enter_context(here).scheduler_address
    stack.enter_context(Client(address))


def _variable(engine: str) -> str:
    return {"ray": "RAY_ADDRESS", "dask": "DASK_SCHEDULER_ADDRESS"}[engine]


def _address(engine: str) -> str | None:
    return os.environ.get(_variable(engine)) or None
