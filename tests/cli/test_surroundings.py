"""Streams that are closed, full or ASCII only, folders that cannot be read or written, a user without a home."""

import ctypes
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT, sentences
from forks import fast
from materials import LEAKY, POLICY, SIDES, error_line, furnish, leftovers, write

GOLDEN = ROOT / "tests" / "formats" / "golden"
HOSTILE = (
    "two\nlines",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)</script>]]>",
    "[bold]x[/bold] | `code` | ![x](http://e)",
    "😀🏳️‍🌈",
    "\u202ebackwards",
    "é" * 300,
    "@team",
    "None",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return furnish(tmp_path_factory.mktemp("surroundings"))


def shell(command, cwd, **environment):
    """Run a line of shell in which `redteam` is the command."""
    line = f'redteam() {{ "{sys.executable}" -m redteam "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("redirect", "codes", "lines"),
    [
        (">&-", (1, 2), 2),
        ("2>&-", (1, 0), 0),
        (">/dev/full", (1, 2), 2),
        ("2>/dev/full >/dev/null", (1, 0), 0),
        (">/dev/full 2>/dev/full", (1, 2), 0),
        ("<&- >&- 2>&-", (1, 2), 0),
        ("| true", (1, 0), 1),
    ],
)
def test_the_exit_code_does_not_depend_on_who_listens(bench, redirect, codes, lines):
    for name, code in zip(("leaky", "safe"), codes, strict=True):
        report = GOLDEN / f"{name}.json"
        result = shell(f'redteam gate "{report}" {POLICY[0]} "lenient.toml" {redirect}; exit ${{PIPESTATUS[0]}}', bench)
        assert result.returncode == code, result.stderr
        assert result.stderr.count("\n") <= lines
        assert "Exception" not in result.stderr
        assert "Traceback" not in result.stderr
        assert not (result.stderr and code == 2 and "PASS" in result.stderr)


@pytest.fixture(scope="module", autouse=True)
def lenient(bench):
    """Limits that tell the golden reports apart, whatever the built-in ones are."""
    (bench / "lenient.toml").write_text("max_auc = 0.6\nmax_tpr = { fpr = 0.01, limit = 0.05 }\n")


def test_a_reader_that_has_seen_enough(bench):
    for command in ("audit answers:leaky --members members.csv --nonmembers others.csv", "attacks"):
        result = shell(f"redteam {command} | head -1; exit ${{PIPESTATUS[0]}}", bench, XDG_CACHE_HOME=f"{bench}/cache")
        assert result.returncode == (0 if command == "attacks" else 1)
        assert result.stdout.count("\n") == 1
        assert "Broken" not in result.stderr


def test_labels_of_every_kind_in_every_format(bench):
    examples = sentences(500, seed=5, labels=HOSTILE)
    texts = ("word " * 100_000, *examples.texts[1:])
    write(bench / "hostile.csv", type(examples)(np.arange(500), texts, examples.labels))
    trained = fast("train", "hostile.csv", "--set", "epochs=1", "-o", "hostile.pt", cwd=bench)
    assert trained.returncode == 0, trained.stderr
    for format in ("text", "json", "markdown", "sarif", "junit"):
        result = fast("audit", "hostile.pt", "-f", format, "--show-text", cwd=bench)
        assert result.returncode in (0, 1, 2)
        for stream in (result.stdout, result.stderr):
            assert all(character == "\n" or character.isprintable() for character in stream)
        if format == "json":
            assert {leak["label"] for leak in json.loads(result.stdout)["classes"]} == set(HOSTILE)
        if format == "junit":
            ElementTree.fromstring(result.stdout)
    assert "<script>" not in fast("audit", "hostile.pt", "-f", "markdown", cwd=bench).stdout


def test_a_terminal_that_knows_only_ascii(bench):
    """In a process of its own: the encoding is settled when Python starts."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    result = shell("redteam audit hostile.pt -v", bench, XDG_CACHE_HOME=f"{bench}/cache", **ascii_only)
    assert result.returncode in (0, 1, 2)
    assert result.stdout.isascii()
    assert "\\U0001f600" in result.stdout
    assert result.stderr.isascii()
    assert "Error" not in result.stderr
    result = shell("redteam audit hostile.pt --dry-run", bench, **ascii_only)
    assert result.returncode == 0


def test_colour_is_for_terminals_only(bench):
    for environment in ({"NO_COLOR": ""}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "NO_COLOR": ""}):
        result = fast("audit", LEAKY, *POLICY, "-a", "RT101", cwd=bench, env=environment)
        assert result.returncode == 1
        assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize("cache", ["a file", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_costs_nothing(bench, cache):
    (bench / "a file").write_text("")
    result = fast("audit", "answers:leaky", *SIDES, cwd=bench, env={"XDG_CACHE_HOME": cache})
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_a_user_without_a_home(bench):
    homeless = "os.environ.pop('HOME', None), os.environ.pop('XDG_CACHE_HOME', None)\n"
    homeless += "import pwd; pwd.getpwuid = lambda uid: {}[uid]"
    result = fast("audit", "answers:leaky", *SIDES, cwd=bench, before=homeless)
    assert result.returncode == 1, result.stderr


def unprivileged():
    """Give up what lets root read and write where it may not."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # DAC_OVERRIDE, DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="uses prctl")
def test_files_that_may_not_be_read(bench):
    def run(*arguments):
        environment = os.environ | {"XDG_CACHE_HOME": f"{bench}/cache"}
        command = [sys.executable, "-m", "redteam", *arguments]
        return subprocess.run(
            command, cwd=bench, env=environment, capture_output=True, text=True, preexec_fn=unprivileged, check=False
        )

    for name in ("secret.toml", "secret.json", "secret.pt"):
        (bench / name).write_text("secret")
        (bench / name).chmod(0)
    (bench / "closed").mkdir(mode=0o500)
    golden = GOLDEN / "safe.json"
    for arguments in (
        ("gate", golden, "--policy", "secret.toml"),
        ("gate", "secret.json"),
        ("audit", "secret.pt", *SIDES),
    ):
        line = error_line(run(*arguments))
        assert str(arguments[1 if arguments[1] != golden else 3]) in line
        assert "read" in line
    written = run("gate", golden, "--policy", "lenient.toml", "-o", "closed/report")
    assert written.returncode == 2
    assert "cannot write closed/report: Permission denied" in written.stderr
    (bench / "redteam.toml").chmod(0)
    try:
        assert "redteam.toml: cannot be read" in error_line(run("gate", golden))
    finally:
        (bench / "redteam.toml").chmod(0o644)


def test_a_working_directory_that_is_gone(bench):
    result = shell(f'mkdir gone && cd gone && rmdir ../gone && redteam gate "{GOLDEN / "leaky.json"}"', bench)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr


def test_nothing_was_left_behind(bench):
    assert leftovers(bench) == []
