"""What is shown while one waits: on a terminal a bar and a sign of life, elsewhere lines, with -q nothing."""

import os
import pty
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from redteam.cli.progress import _Pace, time_left
from redteam.core.progress import phase
from redteam.experiments.cells import _Parts

WORK = """
import sys, time
from redteam.cli import present, progress, waiting
present.listen(quiet={quiet}, verbose=False)
progress._LINE_EVERY = 0.0
waiting._SILENT, waiting._EVERY = 0.05, 0.01
with present.at_work(True):
    time.sleep(0.3)
    with progress.progress("scoring") as show:
        for done in range(5):
            time.sleep(0.02)
            show(done, 4)
        counting = show.named("comparing")
        time.sleep(0.2)
        counting(0, 9)
        time.sleep(0.1)
        counting(1, 9)
        time.sleep(0.2)
    present.say("done")
"""


def piped(quiet):
    command = [sys.executable, "-c", WORK.format(quiet=quiet)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr


def on_a_terminal(quiet):
    leader, follower = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", WORK.format(quiet=quiet)], cwd=ROOT, stderr=follower) as running:
        os.close(follower)
        said = b""
        while True:
            try:
                more = os.read(leader, 4096)
            except OSError:  # Linux says so where the other end is closed
                break
            if not more:
                break
            said += more
    os.close(leader)
    assert running.returncode == 0
    return said.decode()


def test_lines_say_the_time_left_and_no_terminal_is_drawn_for():
    lines = piped(quiet=False).splitlines()
    assert lines[0] == "scoring: 0 of 4"
    assert lines[2].startswith("scoring: 2 of 4 (about ")
    assert lines[-4:-2] == ["scoring: 4 of 4", "comparing: 0 of 9"]
    assert lines[-2].startswith("comparing: 1 of 9 (about ")
    assert all(line.isprintable() for line in lines)


def test_a_terminal_shows_a_sign_in_silence_then_a_bar_with_the_time_left():
    said = on_a_terminal(quiet=False)
    assert "working, 0 s" in said.partition("scoring")[0]
    assert "4/4" in said
    assert "left" in said
    assert said.rstrip().endswith("done")
    assert "working" not in said.rpartition("\x1b[K")[2]


def test_the_first_step_tells_the_time_left():
    said = on_a_terminal(quiet=False)
    assert re.search(r"left\S* \S*\d:\d\d:\d\d", said.rpartition("1/9")[2])


def test_a_bar_that_is_full_gives_way_to_what_is_done_next():
    said = on_a_terminal(quiet=False)
    after = said.partition("4/4")[2]
    assert "comparing" in after
    assert "0/?" in after  # before the first of it is done nobody knows of how much
    assert "4/" not in after.partition("0/?")[2]
    assert "scoring" not in after.partition("0/?")[2]


@pytest.mark.parametrize("shown", [piped, on_a_terminal])
def test_quiet_is_silent(shown):
    assert shown(quiet=True) == ""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ((10.0, 0, 5), ""),
        ((10.0, 5, 0), ""),
        ((10.0, 1, 4), " (about 40 s left)"),
        ((60.0, 1, 3), " (about 3 min left)"),
    ],
)
def test_the_time_left_is_at_the_pace_so_far(how, said):
    assert time_left(*how) == said


@pytest.mark.parametrize(("heard", "kept"), [((0, 1.6, 1.0), True), ((0, 4, 0), False), ((3, 5, 2), False)])
def test_a_step_back_keeps_the_pace_and_a_new_beginning_does_not(heard, kept):
    pace = _Pace()
    for done in heard:
        pace.hear(done, 9)
    assert (pace.so_far[1] > 0) == kept


def test_phases_of_a_worker_are_parts_of_one_share():
    heard = []
    parts = _Parts(lambda done, total: heard.append(done / total), 2)
    training = phase(parts, "training")
    training(1, 4)
    training(4, 4)
    auditing = phase(parts, "auditing")
    phase(auditing, "RT101")(1, 2)
    auditing(0, 9)  # the next attack
    auditing(9, 9)
    assert heard == [0.125, 0.5, 0.75, 0.75, 1.0]
