"""`redteam verify` from the command line: exit codes, formats, and functions that go wrong."""

import json

import pytest
from conftest import ROOT
from forks import fast

FUNCTIONS = f"""
import sys
sys.path.append({str(ROOT / "tests" / "verify")!r})
import doubles
from redteam.plugins.defense import Mechanism, PrivateRun

honest = doubles.Honest()
half = doubles.HalfTheNoise()
print("noise on standard output")


def nothing(problem, settings):
    doubles.Honest()(problem, settings)


def crashes(problem, settings):
    raise ValueError("no such\\nthing")


def exits(problem, settings):
    raise SystemExit(0)


def still(problem, settings):
    problem.optimizer.step = lambda: None
    return honest(problem, settings)


def grows(problem, settings):
    run = honest(problem, settings)
    problem.model.extra = type(problem.model.first)(2, 2)
    return run


def promises_nothing(problem, settings):
    return PrivateRun(honest(problem, settings).mechanism, None)


def odd(problem, settings):
    run = honest(problem, settings)
    return PrivateRun(Mechanism(1.0, float("nan"), 0.1, 10), run.guarantee)


class Broken(doubles.Honest):
    def std(self, step, layer):
        return float("nan")


broken = Broken()
number = 5
"""
SMALL = ("--canaries", "1000", "--set", "epochs=2")


@pytest.fixture
def here(tmp_path):
    (tmp_path / "trainers.py").write_text(FUNCTIONS, encoding="utf-8")
    return lambda *arguments: fast("verify", *arguments, cwd=tmp_path)


def test_an_honest_function_is_consistent(here):
    result = here("trainers:honest", *SMALL)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(" CONSISTENT ")
    assert "A low bound is not evidence of privacy" in result.stdout
    assert "noise on standard output" not in result.stdout
    assert "runs the module's code" in result.stderr


def test_half_the_noise_is_a_violation(here, tmp_path):
    result = here(
        "trainers:half",
        "--canaries",
        "40000",
        "--set",
        "epochs=4",
        "--alpha",
        "0.05",
        "--format",
        "json",
        "-o",
        "found.json",
    )
    assert result.returncode == 1, result.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (found["format"], found["verdict"]) == ("redteam.verification/2", "violated")
    assert found["clopper_pearson"]["low"] > found["accounted"]["epsilon"]
    assert "A low bound is not evidence of privacy" in found["note"]
    assert result.stdout == ""
    assert "violated: trainers:half: epsilon is at least" in result.stderr


WRONG = {
    "nothing": "returned NoneType without .mechanism",
    "crashes": "raised ValueError: no such thing",
    "exits": "raised SystemExit: 0",
    "still": "never called problem.optimizer.step()",
    "grows": "changed the model's parameters",
    "promises_nothing": "guarantees nothing",
    "odd": "its mechanism is",
    "broken": "NaN or infinity",
    "number": "not callable",
    "missing": "has no 'missing'",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_function_that_goes_wrong_ends_with_2_and_says_why(here, name):
    result = here(f"trainers:{name}", *SMALL)
    assert result.returncode == 2
    assert WRONG[name] in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("RD100",), "nothing to verify"),
        (("RD999",), "unknown id"),
        (("RD101", "--set", "sampling=shuffled"), "has a setting 'sampling'"),
        (("RD102", "--set", "sampling=lottery", *SMALL), "lottery"),
        (("RD102", "--set", "RD102.epsilon=1"), "epsilon is part of what is verified"),
        (("trainers:honest", "--set", "clipping=example"), "verify has no setting 'clipping'"),
        (("nowhere:honest",), "no module"),
        (("RD102", "--canaries", "10"), "--canaries 10"),
        (("RD102", "--canaries", "1000", "--set", "batch_size=2000"), "--set batch_size=2000"),
        (("RD102", "--set", "delta=0", *SMALL), "delta"),
        (("RD102", "--set", "epsilon=nan", *SMALL), "epsilon"),
        (("RD102", "--alpha", "1", *SMALL), "--alpha"),
        (("RD102", "-o", "no/where.json", *SMALL), "does not exist"),
    ],
)
def test_bad_use_is_one_line_and_2(here, arguments, says):
    result = here(*arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_our_trainer_is_verified_by_its_id(here):
    result = here("RD102", "--canaries", "2000", "--set", "epochs=2", "--set", "batch_size=500", "--seed", "3")
    assert result.returncode == 0, result.stderr
    assert "poisson sampling at rate 0.25" in result.stdout
