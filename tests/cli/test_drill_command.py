"""`redteam drill` as a command: its files, its exit codes, its one-line errors, and how it goes on after a kill."""

import json
import signal

import pytest
from conftest import ROOT, learnable
from forks import fast
from materials import error_line, leftovers, write

from redteam.cli.drill import _attacks, _DrillGrid, _tasks
from redteam.cli.options import TextOptions
from redteam.experiments.drill.report import DrillReport

# One attack, which tries every candidate; `before` is run in the process of the command.
DOUBLES = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import enumeration, redteam.plugins.registry
redteam.plugins.registry.discover_extractions = lambda: (enumeration.Enumeration(),)
"""
BROKEN = """
def extract(self, *_, **__):
    raise ValueError("fell over")
enumeration.Enumeration.extract = extract
"""
EAGER = """
import redteam.training.checkpoint
redteam.training.checkpoint.CHECKPOINT_EVERY = 0
"""
HIDDEN = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n == "matplotlib" else find(n, *a)
"""
GRID = (
    "drill",
    "data.csv",
    "--pattern",
    "my pin is {digit:n}",
    "--length",
    "2",
    "--repetitions",
    "1,40",
    "--layers",
    "1",
)
SMALL = ("--canaries", "12", "--set", "epochs=4", "--defense", "none,dedup")


def run(*arguments, cwd, before="", **options):
    return fast(*arguments, cwd=cwd, before=DOUBLES + before, **options)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drill")
    write(folder / "data.csv", learnable(160, seed=1))
    return folder


@pytest.fixture(scope="module")
def unbroken(bench):
    """What a drill prints and writes that nobody stopped."""
    return run(*GRID, *SMALL, "-o", "unbroken", cwd=bench), bench / "unbroken"


def numbers(folder):
    """A saved report without what differs from run to run."""
    report = json.loads((folder / "drill.json").read_text(encoding="utf-8"))
    return {key: value for key, value in report.items() if key != "created"}


def test_it_prints_a_table_and_writes_it_with_a_picture(unbroken):
    result, folder = unbroken
    assert result.returncode == 1, result.stderr  # forty copies are extracted
    rows = [line.split()[4:7] for line in result.stdout.splitlines()[2:6]]
    assert rows == [[str(r), "existing", name] for r in (1, 40) for name in ("none", "deduplication")]
    assert "4 of 4: my pin is {digit:2}, R 40, label existing, deduplication, seed 0: " in result.stderr
    report = DrillReport.load(folder / "drill.json")
    proven = {(row.repetitions, row.defense): row.proven for row in report.rows}
    assert proven[40, "none"] == ("RT299",)
    assert "| 40 | existing | deduplication |" in (folder / "drill.md").read_text(encoding="utf-8")
    assert (folder / "drill.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "drill.svg").read_text(encoding="utf-8")
    assert leftovers(folder) == []


def test_run_again_it_takes_what_is_there_and_can_be_let_off(bench, unbroken):
    before = numbers(unbroken[1])
    broken = "import redteam.experiments.cells as e\n"
    broken += "e.run_jobs = lambda work, jobs, **_: (1 / 0 for _ in jobs)"
    again = run(*GRID, *SMALL, "-o", "unbroken", "--exit-zero", cwd=bench, before=broken)
    assert again.returncode == 0, again.stderr
    assert numbers(unbroken[1]) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_broken_off_in_a_training_it_goes_on_with_the_same_numbers(bench, unbroken, number):
    folder = bench / f"broken{number.value}"
    command = (*GRID, *SMALL, "-o", folder.name)
    sign = folder / "my-pin-is-digit-2-r40-existing-none-seed0" / "model.pt.checkpoint"
    stopped = run(*command, cwd=bench, before=EAGER, kill=(number, sign))
    assert stopped.returncode == (130 if number == signal.SIGINT else -9)
    assert stopped.stdout == ""
    assert not (sign.parent / "cell.json").exists()
    assert not (folder / "drill.json").exists()
    assert run(*command, cwd=bench).returncode == 1
    assert numbers(folder) == numbers(unbroken[1])
    assert [name for name in leftovers(folder) if not name.endswith(".tmp")] == []


def test_what_is_not_proven_with_enough_canaries_exits_0_and_with_too_few_2(bench):
    once = (*GRID[:-4], "--repetitions", "1", "--layers", "1", "--set", "epochs=30", "--defense", "none")
    assert run(*once, "--canaries", "12", "-o", "kept", cwd=bench).returncode == 0
    untaught = run(
        *once[:-4], "--set", "epochs=1", "--defense", "none", "--canaries", "12", "-o", "untaught", cwd=bench
    )
    assert untaught.returncode == 2
    assert "UNTRAINED!" in untaught.stdout
    short = ["1" if before == "--length" else word for before, word in zip(("", *once), once, strict=False)]
    few = run(*short, "--canaries", "1", "-o", "few", cwd=bench)  # one of ten is soon guessed
    assert few.returncode == 2
    assert "1 canaries a row can prove nothing" in few.stdout


def test_an_attack_that_breaks_exits_2(bench):
    once = (*GRID[:-4], "--repetitions", "1", "--layers", "1", "--set", "epochs=30", "--defense", "none")
    result = run(*once, "-o", "fell", cwd=bench, before=BROKEN)
    assert result.returncode == 2
    assert "FAILED: attack RT299" in result.stdout
    assert "fell over" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data.csv", "-o", "x", "--repetitions", ""), "--repetitions: an empty list"),
        (("data.csv", "-o", "x", "--repetitions", "0"), "--repetitions '0'"),
        (("data.csv", "-o", "x", "--length", "four"), "--length 'four'"),
        (("data.csv", "-o", "x", "--pattern", "no slot"), "no slot"),
        (("data.csv", "-o", "x", "--pattern", "my {city:n}"), "unknown alphabet 'city'"),
        (("data.csv", "-o", "x", "--defense", "magic"), "--defense 'magic': known are none, all"),
        (("data.csv", "-o", "x", "--defense", ","), "--defense: an empty list"),
        (("data.csv", "-o", "x", "--label", "nobody"), "--label 'nobody': unknown"),
        (("data.csv", "-o", "x", "--length", "1"), "has 10 secrets"),
        (("data.csv", "-o", "x", "--attack", "RT999"), "unknown id 'RT999'"),
        (("data.csv", "-o", "x", "--jobs", "0"), "--jobs 0: must be at least 1"),
        (("data.csv", "-o", "x", "--set", "training.learning_rate=nan"), "learning_rate=nan: must be a number"),
        (("data.csv", "-o", "x", "--quick", "--preset", "parikh2022"), "--quick and --preset"),
        (("data.csv", "-o", "x", "--preset", "other"), "--preset"),
        (("data.csv", "-o", "data.csv"), "--output data.csv: is a file; name a folder"),
        (("absent.csv", "-o", "x"), "absent.csv"),
        (("data.csv", "-o", "x", "--model", "nowhere"), "--model nowhere: neither a directory"),
        (("data.csv",), "--output"),
    ],
)
def test_bad_use_is_one_line(bench, arguments, said):
    assert said in error_line(run("drill", *arguments, cwd=bench))
    assert not list((bench / "x").glob("*/*"))


def test_a_setting_of_training_and_attack_alike_has_to_say_which(bench):
    result = fast("drill", "data.csv", "-o", "x", "--set", "learning_rate=1", cwd=bench)  # with all attacks there are
    assert "say training.learning_rate or RT202.learning_rate" in error_line(result)


def test_searches_run_where_they_are_named_set_or_needed(bench, tmp_path):
    def attacks(names=(), settings=(), lengths="4"):
        size = _DrillGrid(layers=1, lengths=lengths, repetitions="1", defenses="none", canaries=3)
        _, chosen, kept = _attacks(list(names), list(settings))
        some = _tasks(bench / "data.csv", tmp_path, TextOptions(), size, chosen, kept)
        return [attack.id for attack in some[0].setup.attacks]

    assert attacks() == ["RT201", "RT204"]
    assert attacks(settings=["RT203.restarts=2"]) == ["RT201", "RT203", "RT204"]
    assert attacks(["RT201", "RT202"]) == ["RT201", "RT202"]
    assert attacks(lengths="4,10") == ["RT201", "RT202", "RT203", "RT204"]


def test_other_settings_in_the_same_folder_are_one_line(bench, unbroken):
    line = error_line(run(*GRID, *SMALL[:3], "epochs=2", *SMALL[4:], "-o", "unbroken", cwd=bench))
    assert "was done with settings" in line or "was done with epochs" in line
    assert "--restart" in line


def test_without_matplotlib_nothing_is_trained(bench):
    assert "pip install '.[plot]'" in error_line(run(*GRID, "-o", "y", cwd=bench, before=HIDDEN))
    assert not (bench / "y").exists()


def test_a_preset_lays_the_papers_grid_out(bench):
    """Every cell fails at once, so that only the grid is seen."""
    quick = "import redteam.experiments.drill.cells\n"
    quick += "def none(*_): raise ValueError('not now')\nredteam.experiments.drill.cells._plant = none"
    fewer = ("--length", "10", "--repetitions", "30,100")
    result = run("drill", "data.csv", "-o", "paper", "--preset", "parikh2022", *fewer, cwd=bench, before=quick)
    assert result.returncode == 2
    last = "48 of 48: color {color:10}, R 100, label existing, all, seed 0: failed"  # 3 patterns, 2 R, 8 defences
    assert last in result.stderr
