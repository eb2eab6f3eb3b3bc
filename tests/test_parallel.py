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

from redteam.core import UsageError
from redteam.core.parallel import Failed, run_jobs


def cube(job):
    return job**3


def pid_and_threads(job):
    time.sleep(0.05)
    return os.getpid(), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def moody(job):
    if job == "raises":
        raise ValueError("two\nlines")
    if job == "leaves":
        sys.exit(0)
    if job == "exits":
        os._exit(3)
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


def halved(job, progress):
    progress(1, 2)
    time.sleep(0.7)  # longer than between two looks
    return job


@pytest.mark.parametrize("workers", [1, 2])
def test_a_watch_hears_of_jobs_that_are_half_done(workers):
    heard = []
    found = outcomes(halved, [1, 2], workers=workers, watch=heard.append)
    assert found == {0: 1, 1: 2}
    assert {0.5, 1.0} & set(heard)  # of one job, or of two at once


def waiting(job):
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
    found = outcomes(moody, ["a", "dies", "b", "exits", "c"], workers=2)
    assert [found[i] for i in (0, 2, 4)] == ["a", "b", "c"]
    assert found[1] == Failed("its process was killed by SIGKILL (memory?): fewer --jobs may do", lost=True)
    assert found[3] == Failed("its process ended with exit code 3 instead of a result", lost=True)


def test_what_cannot_be_sent_between_processes_is_that_jobs_failure():
    found = outcomes(cube, [1, Unpicklable(), 3], workers=2)
    assert (found[0], found[2]) == (1, 27)
    assert isinstance(found[1], Failed)


def test_no_jobs_no_results():
    assert outcomes(cube, [], workers=2) == {}


def test_bad_use_is_refused():
    with pytest.raises(UsageError, match="--jobs 0: must be at least 1"):
        run_jobs(cube, [1], workers=0)


STOPPED = """
import contextlib, signal, sys
sys.path.insert(0, "tests")
import test_parallel
from redteam.core import parallel
parallel.GRACE = float(sys.argv[3])
signal.signal(signal.SIGTERM, signal.default_int_handler)
work, jobs = getattr(test_parallel, sys.argv[2]), [sys.argv[1] + "/" + name for name in "abcd"]
try:
    with contextlib.closing(parallel.run_jobs(work, jobs, workers=2)) as outcomes:
        print(*outcomes, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def patient(job):
    """Note its process, then wait to be stopped, and put its things away first."""
    path = Path(job)
    path.write_text(str(os.getpid()))
    try:
        while True:
            time.sleep(0.02)
    finally:
        path.with_suffix(".away").touch()


class PutAway:
    """Something that notes its process and waits as it is put away: what is raised in there, Python drops."""

    def __init__(self, path):
        self.path = path

    def __del__(self):
        self.path.write_text(str(os.getpid()))
        while True:
            time.sleep(0.02)


def dropping(job):
    """Be stopped where it comes to nothing, and then, if asked once more, somewhere else."""
    thing = PutAway(Path(job))
    del thing
    try:
        while True:
            time.sleep(0.02)
    finally:
        Path(job).with_suffix(".away").touch()


def stubborn(job):
    """Note its process, and hear of nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(job).write_text(str(os.getpid()))
    while True:
        time.sleep(0.02)


@pytest.fixture
def patients(tmp_path, request):
    which, grace = getattr(request, "param", ("patient", "1000"))
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path), which, grace],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"):
        assert process.poll() is None
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def gone(folder):
    """Wait until neither worker is there any more, whoever has to take notice of its end."""
    deadline = time.monotonic() + 300
    for pid in (int((folder / job).read_text()) for job in "ab"):
        state = Path(f"/proc/{pid}/stat")
        while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)])
def test_an_interrupt_lets_running_jobs_end_cleanly_and_starts_no_more(patients, tmp_path, send, number):
    """Whether the one process hears of it or, as from a terminal, all of them."""
    send(patients.pid, number)
    assert patients.communicate(timeout=300)[0] == "interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.away", "b", "b.away"]
    gone(tmp_path)


@pytest.mark.parametrize("patients", [("dropping", "20")], indirect=True)
def test_an_interrupt_that_python_drops_strikes_again_without_a_word(patients, tmp_path):
    """In a __del__, as torch's import runs some, an exception is a line on stderr and nothing else."""
    os.killpg(patients.pid, signal.SIGINT)
    assert patients.communicate(timeout=300)[0] == "interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.away", "b", "b.away"]
    gone(tmp_path)


@pytest.mark.parametrize("patients", [("stubborn", "0.1")], indirect=True)
def test_a_job_that_does_not_come_to_a_safe_place_is_killed(patients, tmp_path):
    patients.send_signal(signal.SIGINT)
    assert patients.communicate(timeout=300)[0] == "interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    gone(tmp_path)


@pytest.mark.parametrize("patients", [("stubborn", "1000")], indirect=True)
def test_a_second_interrupt_waits_for_nobody(patients, tmp_path):
    patients.send_signal(signal.SIGINT)
    time.sleep(0.2)
    patients.send_signal(signal.SIGINT)
    assert patients.communicate(timeout=300)[0] == "interrupted\n"
    gone(tmp_path)


def test_workers_whose_parent_was_killed_stop_too(patients, tmp_path):
    patients.kill()
    gone(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a.away", "b", "b.away"}
