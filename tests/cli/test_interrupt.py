"""Ctrl-C, SIGTERM and SIGKILL, in the middle of the work and then again: the same numbers as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import sentences
from forks import fast
from materials import SIDES, error_line, furnish, leftovers, numbers, write

TRAIN = ("train", "data.csv", "--set", "epochs=12", "--set", "batch_size=8")
LINE = "redteam: interrupted; the same command goes on where it was\n"
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGKILL: -9}
# What a kill may cost is seconds; a test has none to spare.
EAGER = """
import redteam.auditing.scoring, redteam.training.checkpoint
redteam.training.checkpoint.CHECKPOINT_EVERY = redteam.auditing.scoring._KEEP_EVERY = 0
"""
# It waits in the middle of the second chunk, until it is told to go on.
SLOW = """
import pathlib, time
from answers import labels, leaky

def slow(texts):
    with open("asked.txt", "a", encoding="utf-8") as file:
        file.writelines(f"{text}\\n" for text in texts)
    if pathlib.Path("asked.txt").read_text().count("\\n") > 1100:
        pathlib.Path("reached").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
    return leaky(texts)
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = furnish(tmp_path_factory.mktemp("interrupt"))
    write(folder / "data.csv", sentences(400, seed=1))
    (folder / "service.py").write_text(SLOW)
    return folder


@pytest.fixture(scope="module")
def unbroken(bench):
    """The weights of a training and the report of an audit that nobody stopped."""
    assert fast(*TRAIN, "-o", "unbroken.pt", cwd=bench).returncode == 0
    audited = fast("audit", "answers:leaky", *SIDES, "-f", "json", cwd=bench)
    assert audited.returncode == 1
    return json.loads((bench / "unbroken.ledger.json").read_text())["model"], numbers(audited.stdout)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_training_goes_on_where_it_was(bench, unbroken, number):
    kept = bench / "broken.pt.checkpoint"
    train = (*TRAIN, "-o", "broken.pt")
    stopped = fast(*train, cwd=bench, before=EAGER, kill=(number, kept))
    assert (stopped.returncode, stopped.stdout) == (SIGNALS[number], "")
    assert stopped.stderr == ("" if number == signal.SIGKILL else LINE)
    assert not (bench / "broken.pt").exists()
    assert not (bench / "broken.ledger.json").exists()
    assert kept.stat().st_mode & 0o777 == 0o600  # it tells as much of the data as the model does
    other = error_line(fast(*train, "--set", "learning_rate=0.5", cwd=bench))
    assert "other data or settings; repeat those or say --restart" in other
    again = fast(*train, cwd=bench)
    assert again.returncode == 0, again.stderr
    assert json.loads((bench / "broken.ledger.json").read_text())["model"] == unbroken[0]
    for name in ("broken.pt", "broken.ledger.json"):
        (bench / name).unlink()
    assert [name for name in leftovers(bench) if not name.endswith(".tmp")] == []


def test_a_training_can_start_anew(bench, unbroken):
    kept = bench / "anew.pt.checkpoint"
    kept.write_bytes(b"not a checkpoint")
    train = (*TRAIN, "-o", "anew.pt")
    assert "unfinished training cannot be read" in error_line(fast(*train, cwd=bench))
    assert fast(*train, "--restart", cwd=bench).returncode == 0
    assert json.loads((bench / "anew.ledger.json").read_text())["model"] == unbroken[0]
    assert not kept.exists()


@pytest.mark.parametrize("number", SIGNALS)
def test_an_audit_goes_on_where_it_was(bench, unbroken, number):
    asked, reached, go = (bench / name for name in ("asked.txt", "reached", "go"))
    for file in (asked, reached, go):
        file.unlink(missing_ok=True)
    command = ("audit", "service:slow", *SIDES, "-f", "json")
    stopped = fast(*command, cwd=bench, before=EAGER, kill=(number, reached))
    assert (stopped.returncode, stopped.stdout) == (SIGNALS[number], "")
    assert stopped.stderr.endswith("" if number == signal.SIGKILL else LINE)
    assert "Traceback" not in stopped.stderr
    (kept,) = (bench / "cache" / "redteam").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    go.touch()
    before = asked.read_text().count("\n")
    again = fast(*command, cwd=bench)
    assert again.returncode == 1
    found = {key: value for key, value in numbers(again.stdout).items() if key != "target"}
    assert found == {key: value for key, value in unbroken[1].items() if key != "target"}
    assert "re-using 1,024 of 1,400 answers, kept on " in again.stderr
    # what was left, a sample, the probe, and a batch again in another order
    assert asked.read_text().count("\n") - before == 1400 - 1024 + 20 + 1 + 256
    assert list((bench / "cache" / "redteam").iterdir()) == []


def test_a_command_that_is_stopped_while_it_starts_gives_no_verdict(bench):
    """In a process of its own, with its imports; what it asks does not answer, so it cannot be done before."""
    for name in ("asked.txt", "go"):
        (bench / name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "redteam", "audit", "service:slow", *SIDES]
    environment = os.environ | {"XDG_CACHE_HOME": f"{bench}/cache"}
    process = subprocess.Popen(
        command, cwd=bench, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=300)
    assert process.returncode in (130, -signal.SIGTERM)  # after its handler stood, or before
    assert out == ""
    assert "Traceback" not in said


def test_an_interrupt_is_heard_where_python_drops_it(bench):
    """In a __del__, or in a function that C called: a Ctrl-C there must not have to be typed twice."""
    deaf = """
import os, signal, time, redteam.cli.gate

class PutAway:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

def gate():
    thing = PutAway()
    del thing
    time.sleep(60)
    print("never stopped")

redteam.cli.gate.gate = gate
"""
    stopped = fast("gate", cwd=bench, before=deaf)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", LINE)
