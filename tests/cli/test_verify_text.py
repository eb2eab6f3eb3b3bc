"""`redteam verify --text` as a command: verdicts are exit codes, and what makes no sense is one line."""

import json

import pytest
from forks import fast
from materials import error_line

VECTORS = "".join(f"word{i} {i % 5} {i // 5} {i % 3}\n" for i in range(25))
MODULE = """
import random
random.seed(3)
WORDS = [line.split()[0] for line in open("v.txt")]
def fixed(text): return " ".join(random.choice(WORDS) for _ in text.split())
def uniform(text): return " ".join(random.SystemRandom().choice(WORDS) for _ in text.split())
def passing(text): print("hello"); return text
def number(text): return 3
def broken(text): raise ValueError("no such\\n" + text)
nothing = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "v.txt").write_text(VECTORS)
    (folder / "mine.py").write_text(MODULE)
    return folder


def run(folder, *arguments):
    return fast("verify", "--embeddings", "v.txt", "--draws", "300", *arguments, cwd=folder)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("santext", 0, "its channel accounts for epsilon"),
        ("RD302", 0, "its channel accounts for epsilon"),
        ("mine:uniform", 0, "show no more than it claims"),
        ("mine:fixed", 1, "the noise follows from a fixed seed"),
        ("mine:passing", 1, "numbers go out as they came"),
    ],
)
def test_verdicts(folder, name, code, said):
    result = run(folder, "--text", name, "--epsilon", "2")
    assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
    assert said in result.stderr
    assert "hello" not in result.stdout


def test_the_result_as_json(folder):
    result = run(folder, "--text", "santext", "--epsilon", "2", "--format", "json", "--words", "20")
    document = json.loads(result.stdout)
    assert document["format"] == "redteam.text-verification/1"
    assert (document["verdict"], document["claimed"], document["words"]) == ("consistent", 2.0, 20)
    assert document["accounted"] <= 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name one thing to verify"),
        (("RD102", "--text", "santext"), "name one thing to verify"),
        (("RD102",), "go with --text; a trainer has --set"),
        (("--text", "santext"), "--epsilon: say at which epsilon santext is verified"),
        (("--text", "mine:uniform"), "--epsilon: say what mine:uniform claims"),
        (("--text", "santext", "--epsilon", "0"), "--epsilon 0: give a finite number above 0"),
        (("--text", "mine:uniform", "--epsilon", "inf"), "--epsilon inf: give a finite number above 0"),
        (("--text", "santext", "--epsilon", "1", "--canaries", "4"), "--canaries 4: is for trainers"),
        (("--text", "mine:number", "--epsilon", "1"), "answered int where a text was asked for"),
        (("--text", "mine:broken", "--epsilon", "1"), "process of its own (raised ValueError for a text of one word)"),
        (("--text", "mine:nothing", "--epsilon", "1"), "not callable"),
        (("--text", "none:f", "--epsilon", "1"), "none:f"),
        (("--text", "mine:uniform", "--epsilon", "1", "--set", "beta=1"), "mine:uniform is a function"),
    ],
)
def test_what_makes_no_sense_is_one_line(folder, arguments, said):
    result = run(folder, *arguments)
    lines = [line for line in result.stderr.splitlines() if "runs the module's code" not in line]
    assert said in error_line(type(result)(result.args, result.returncode, result.stdout, "\n".join(lines)))
