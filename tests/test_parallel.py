"""Jobs over processes: the same results however many run at once, and one that breaks breaks nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from redteam.core.errors import UsageError
from redteam.core.parallel import Failed, run_jobs


def cube(job, check):
    check()
    return job**3


def pid_and_threads(job, check):
    time.sleep(0.05)
    return os.getpid(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def moody(job, check):
    if job == "raises":
        raise ValueError("two\nlines")
    if job == "leaves":
        sys.exit(0)
    if job == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return job


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not to be sent")


def outcomes(work, jobs, **options):
    return dict(run_jobs(work, jobs, **options))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_gives_its_result_once(workers):
    found = list(run_jobs(cube, range(7), workers=workers))
    assert sorted(found) == [(i, i**3) for i in range(7)]


def waiting(job, check):
    while job and not Path(job).exists():
        time.sleep(0.02)
    return job


def test_results_come_as_they_are_done(tmp_path):
    sign = tmp_path / "go"
    found = run_jobs(waiting, [str(sign), "", ""], workers=2)
    assert {next(found)[0], next(found)[0]} == {1, 2}
    sign.touch()
    assert list(found) == [(0, str(sign))]


def test_who_stops_listening_hears_no_warning():
    found = run_jobs(cube, range(9), workers=2)
    next(found)
    found.close()


def test_one_worker_is_this_process_and_gives_its_threads_back():
    before = torch.get_num_threads()
    assert outcomes(pid_and_threads, [0])[0][:2] == (os.getpid(), 1)
    assert torch.get_num_threads() == before


def test_workers_are_other_processes_with_one_thread_each():
    found = outcomes(pid_and_threads, range(4), workers=2).values()
    assert os.getpid() not in {pid for pid, _, _ in found}
    assert {(torch_threads, variable) for _, torch_threads, variable in found} == {(1, "1")}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_raises_is_a_value(workers):
    found = outcomes(moody, ["raises", "well", "leaves"], workers=workers)
    assert found == {0: Failed("ValueError: two lines"), 1: "well", 2: Failed("SystemExit: 0")}


def test_a_process_that_dies_costs_its_own_job_only():
    found = outcomes(moody, ["a", "dies", "b", "c"], workers=2)
    assert [found[i] for i in (0, 2, 3)] == ["a", "b", "c"]
    assert "its process died" in found[1].reason


def test_what_cannot_be_sent_between_processes_is_that_jobs_failure():
    found = outcomes(cube, [1, Unpicklable(), 3], workers=2)
    assert (found[0], found[2]) == (1, 27)
    assert isinstance(found[1], Failed)


def test_no_jobs_no_results():
    assert outcomes(cube, [], workers=2) == {}


def test_bad_use_is_refused():
    with pytest.raises(UsageError, match="--jobs 0: must be at least 1"):
        run_jobs(cube, [1], workers=0)
    with pytest.raises(UsageError, match=r"backend 'cluster': joblib knows .*loky"):
        list(run_jobs(cube, [1], workers=2, backend="cluster"))


def test_another_backend_of_joblib_can_run_them():
    assert outcomes(cube, range(3), workers=2, backend="threading") == {0: 0, 1: 1, 2: 8}


STOPPED = """
import pathlib, sys, time
sys.path.insert(0, "tests")
import test_parallel
from redteam.core import parallel
from redteam.core.parallel import run_jobs
parallel.GRACE = float(sys.argv[3])
work, jobs = getattr(test_parallel, sys.argv[2]), [sys.argv[1] + "/" + name for name in "abcd"]
try:
    for outcome in run_jobs(work, jobs, workers=2):
        print(outcome, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def patient(job, check):
    """Note its process, then wait to be stopped, and put its things away first."""
    path = Path(job)
    path.write_text(str(os.getpid()))
    try:
        while True:
            check()
            time.sleep(0.02)
    finally:
        path.with_suffix(".away").touch()


def stubborn(job, check):
    """Note its process, and hear of nothing."""
    Path(job).write_text(str(os.getpid()))
    while True:
        time.sleep(0.02)


@pytest.fixture
def patients(tmp_path, request):
    which, grace = getattr(request, "param", ("patient", "1000"))
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path), which, grace], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        assert process.poll() is None
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_running_jobs_end_cleanly_and_starts_no_more(patients, tmp_path, number):
    patients.send_signal(number)
    assert patients.communicate(timeout=300)[0] == "interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.away", "b", "b.away"]


@pytest.mark.parametrize("patients", [("stubborn", "0.1")], indirect=True)
def test_a_job_that_does_not_come_to_a_safe_place_is_killed(patients, tmp_path):
    patients.send_signal(signal.SIGINT)
    assert patients.communicate(timeout=300)[0] == "interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    for job in "ab":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / job).read_text()), 0)


def test_workers_whose_parent_was_killed_stop_too(patients, tmp_path):
    patients.kill()
    deadline = time.monotonic() + 300
    while not ((tmp_path / "a.away").exists() and (tmp_path / "b.away").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
