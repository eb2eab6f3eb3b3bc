"""`redteam gap` as a command: what it writes, its exit codes, its one-line errors, and how it goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, learnable
from forks import fast
from materials import error_line, leftovers, write

from redteam.experiments.gap.report import GapReport

# Two trainers that are there only for these tests; `before` is run in the process of the command.
DOUBLES = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import gap_doubles, redteam.plugins.registry
known = redteam.plugins.registry.discover_defenses()
redteam.plugins.registry.discover_defenses = lambda: (*known, gap_doubles.Boaster(), gap_doubles.Clumsy())
"""
# Every attack on a model says that it shows an epsilon of 9.
LOUD = """
import dataclasses, redteam.experiments.gap, redteam.experiments.gap.cells
GapTask = redteam.experiments.gap.cells.GapTask
quiet = GapTask.attack

def loud(task, alpha, *watch):
    report = quiet(task, alpha)
    others = tuple(e for e in report.evidence if e.metric != "epsilon")
    return dataclasses.replace(report, evidence=(*others, gap_doubles.evidence("epsilon", 9, 9, 9, attainable=9.5)))

GapTask.attack = loud
"""
EAGER = """
import redteam.training.checkpoint
redteam.training.checkpoint.CHECKPOINT_EVERY = 0
"""
GRID = ("gap", "data.csv", "--trainer", "plain,boaster", "--epsilon", "inf,8", "--seeds", "1", "--layers", "1")


def run(*arguments, cwd, before="", **options):
    return fast(*arguments, cwd=cwd, before=DOUBLES + before, **options)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gap")
    write(folder / "data.csv", learnable(240, seed=1))
    return folder


@pytest.fixture(scope="module")
def unbroken(bench):
    """What an experiment prints and writes that nobody stopped."""
    result = run(*GRID, "-o", "unbroken", cwd=bench)
    assert result.returncode == 0, result.stderr
    return result, bench / "unbroken"


def numbers(folder):
    """A saved report without what differs from run to run."""
    report = json.loads((folder / "gap.json").read_text(encoding="utf-8"))
    for row in report["rows"]:
        del row["time_ratio"]
    for cell in report["cells"]:
        del cell["seconds"]
    return {key: value for key, value in report.items() if key != "created"}


def test_it_prints_a_table_and_writes_it_with_a_picture(unbroken):
    result, folder = unbroken
    rows = [line.split()[:2] for line in result.stdout.splitlines()[2:5]]
    assert rows == [["plain", "inf"], ["boaster", "inf"], ["boaster", "8"]]
    assert "A low bound is not evidence of privacy." in result.stdout
    assert "3 of 3: boaster at epsilon 8, seed 0" in result.stderr
    assert len(GapReport.load(folder / "gap.json").rows) == 3
    assert "| boaster | 8 |" in (folder / "gap.md").read_text(encoding="utf-8")
    assert (folder / "gap.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "gap.svg").read_text(encoding="utf-8")
    assert leftovers(folder) == []


def test_run_again_it_takes_what_is_there(bench, unbroken):
    before = numbers(unbroken[1])
    broken = "import redteam.experiments.cells as e\n"
    broken += "e.run_jobs = lambda work, jobs, **_: (1 / 0 for _ in jobs)"
    assert run(*GRID, "-o", "unbroken", cwd=bench, before=broken).returncode == 0
    assert numbers(unbroken[1]) == before


def test_two_jobs_give_the_same_numbers(bench, unbroken, tmp_path):
    """In processes that know nothing of the doubles but where to import them from."""
    result = run(*GRID, "-o", str(tmp_path), "--jobs", "2", cwd=bench)
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path) == numbers(unbroken[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_broken_off_in_a_training_it_goes_on_with_the_same_numbers(bench, unbroken, number):
    folder = bench / f"broken{number.value}"
    command = (*GRID, "-o", folder.name)
    sign = folder / "boaster-inf-seed0" / "model.pt.checkpoint"
    stopped = run(*command, cwd=bench, before=EAGER, kill=(number, sign))
    assert stopped.returncode == (130 if number == signal.SIGINT else -9)
    assert stopped.stdout == ""
    assert (folder / "plain-inf-seed0" / "cell.json").exists()
    assert not (folder / "boaster-inf-seed0" / "cell.json").exists()
    assert not (folder / "gap.json").exists()
    assert run(*command, cwd=bench).returncode == 0
    assert numbers(folder) == numbers(unbroken[1])
    assert [name for name in leftovers(folder) if not name.endswith(".tmp")] == []


def test_a_measured_bound_above_what_is_accounted_for_exits_1(bench):
    result = run(*GRID, "-o", "loud", cwd=bench, before=LOUD)
    assert result.returncode == 1
    assert "CLAIM BROKEN: boaster at epsilon 8, seed 0: accounted 8.00, measured at least 9.00" in result.stdout
    assert "0 (nothing" not in result.stdout


def test_a_failed_cell_is_listed_and_exits_2(bench):
    grid = ("gap", "data.csv", "--trainer", "clumsy", "--epsilon", "1,2", "--seeds", "1", "--layers", "1")
    result = run(*grid, "-o", "clumsy", cwd=bench)
    assert result.returncode == 2
    assert "FAILED: clumsy at epsilon 1, seed 0: ValueError: fell over" in result.stdout
    assert [line.split()[:2] for line in result.stdout.splitlines()[2:3]] == [["clumsy", "2"]]
    again = run(*grid, "-o", "clumsy", cwd=bench, before="gap_doubles.Clumsy.fit = gap_doubles.Boaster.fit")
    assert again.returncode == 0


def test_a_broken_claim_counts_for_more_than_a_failed_cell(bench):
    grid = ("gap", "data.csv", "--trainer", "clumsy", "--epsilon", "1,2", "--seeds", "1", "--layers", "1")
    assert run(*grid, "-o", "both", cwd=bench, before=LOUD).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data.csv", "-o", "x", "--epsilon", ""), "--epsilon: an empty list"),
        (("data.csv", "-o", "x", "--epsilon", "0"), "--epsilon 0: must be above 0"),
        (("data.csv", "-o", "x", "--epsilon", "nan"), "--epsilon nan: must be above 0"),
        (("data.csv", "-o", "x", "--trainer", "magic"), "--trainer 'magic': known are plain, dpsgd"),
        (("data.csv", "-o", "x", "--trainer", ","), "--trainer: an empty list"),
        (("data.csv", "-o", "x", "--jobs", "0"), "--jobs 0: must be at least 1"),
        (("data.csv", "-o", "x", "--seeds", "0"), "--seeds"),
        (("data.csv", "-o", "x", "--set", "delta=nan"), "--set delta=nan: must be a number, or none"),
        (("data.csv", "-o", "x", "--set", "delta=0", "--trainer", "edpsgd"), "delta 0"),
        (("data.csv", "-o", "data.csv"), "--output data.csv: is a file; name a folder"),
        (("data.csv", "-o", "no/where"), "no does not exist"),
        (("absent.csv", "-o", "x"), "absent.csv"),
        (("data.csv", "-o", "x", "--model", "nowhere"), "--model nowhere: neither a directory"),
        (("data.csv", "-o", "x", "--text-column", "none"), "no column 'none'"),
        (("data.csv",), "--output"),
    ],
)
def test_bad_use_is_one_line(bench, arguments, said):
    assert said in error_line(run("gap", *arguments, cwd=bench))
    assert not list((bench / "x").glob("*/*"))


def test_other_settings_in_the_same_folder_are_one_line(bench, unbroken):
    line = error_line(run(*GRID, "-o", "unbroken", "--set", "epochs=2", cwd=bench))
    assert "was done with epochs" in line
    assert "--restart" in line
    assert run(*GRID, "-o", "unbroken", cwd=bench).returncode == 0


def test_without_matplotlib_nothing_is_trained(bench):
    hidden = "import importlib.util\nfind = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda n, *a: None if n == 'matplotlib' else find(n, *a)"
    assert "pip install '.[plot]'" in error_line(run(*GRID, "-o", "y", cwd=bench, before=hidden))
    assert not (bench / "y").exists()


def test_ctrl_c_of_a_terminal_ends_workers_cleanly(bench, tmp_path):
    """A terminal sends the signal to every process of the command."""
    command = ["gap", "data.csv", "--trainer", "plain", "--seeds", "3", "--set", "epochs=2000", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "redteam", *command, "-o", str(tmp_path)],
        cwd=bench,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)  # they train by now, or are about to
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, ""), said
    assert said.endswith("redteam: interrupted; the same command goes on where it was\n")
    assert "Traceback" not in said
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"canaries.pt.checkpoint", "canaries.pt.checkpoint.canaries"}  # the training that comes first
