"""Options over all commands: one flag means one thing, and every command can be quiet, loud and completed."""

import inspect
import re
import subprocess
import sys
from collections import defaultdict

import pytest
import typer
from conftest import ROOT
from forks import fast
from materials import error_line

from redteam.cli import app

GOLDEN = ROOT / "tests" / "formats" / "golden"
LEAKY, SAFE = GOLDEN / "leaky.json", GOLDEN / "safe.json"


def leaves(command, path=()):
    """Yield every command with its name."""
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from leaves(command.get_command(None, name), (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


def meanings():
    """Return what each flag means: its type and its help, apart from the default, with the commands that say so."""
    found = defaultdict(lambda: defaultdict(list))
    for name, command in COMMANDS.items():
        for option in command.params:
            if option.param_type_name == "option":
                said = re.sub(r"\s*\[default: .*?\]", "", option.help or "").rstrip(".")
                meaning = (option.type.name, option.multiple, tuple(option.opts), said)
                for flag in option.opts:
                    found[flag][meaning].append(name)
    return found


def test_every_option_says_what_it_is_for_and_no_two_commands_are_too_long():
    for name, command in COMMANDS.items():
        options = [each for each in command.params if each.param_type_name == "option"]
        assert all(each.help for each in options)
        assert {"--quiet", "--verbose"} <= {flag for each in options for flag in each.opts}, name
    assert len([each for each in COMMANDS["train"].params if each.param_type_name == "option"]) < 20


# Wrong, doubled and forgotten options


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train x.csv --epochs 3", "No such option: --epochs; a setting is given as --set epochs=3; see"),
        ("train x.csv --noise-multiplier=1.5", "a setting is given as --set noise_multiplier=1.5"),
        ("train x.csv --secure-noise", "a setting is given as --set secure_noise=VALUE"),
        ("canary extract model.pt --narrow 4", "a setting is given as --set narrow=4"),
        ("verify RD102 --clipping microbatch", "a setting is given as --set clipping=microbatch"),
        ("gate x.json --epochs 3", "No such option: --epochs (Possible options: --policy); see: redteam gate --help"),
        ("train x.csv --seed 1 --seed 2", "--seed: is given twice"),
        ("gate a.json -o b -o b", "--output: is given twice"),
        ("train x.csv --set epochs=1 --set epochs=1", "--set epochs=1: epochs is given twice"),
        ("gate a.json -q -v", "--quiet and --verbose exclude each other"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, said):
    assert said in error_line(fast(*arguments.split(), cwd=tmp_path))


def test_a_switch_may_be_given_twice(tmp_path):
    assert fast("gate", SAFE, "-q", "-q", cwd=tmp_path).returncode == 0


# Quiet and verbose


def test_quiet_leaves_the_result_and_errors(tmp_path):
    usual, quiet = (fast("gate", LEAKY, *how, cwd=tmp_path) for how in ((), ("-q",)))
    assert (usual.returncode, usual.stdout) == (quiet.returncode, quiet.stdout) == (1, usual.stdout)
    assert usual.stderr.count("\n") == 1
    assert quiet.stderr == ""
    full = ("gate", LEAKY, "-q", "-o", "/dev/full")
    lost = fast(*full, cwd=tmp_path)
    assert lost.returncode == 1
    assert "cannot write /dev/full" in lost.stderr
    assert "LEAK" in lost.stderr.upper()
    assert error_line(fast("gate", "none.json", "-q", cwd=tmp_path))


def test_verbose_says_more(tmp_path):
    usual, verbose = (fast("gate", SAFE, *how, cwd=tmp_path) for how in ((), ("-v",)))
    assert verbose.stdout == usual.stdout
    assert set(usual.stderr.splitlines()) < set(verbose.stderr.splitlines())
    assert re.search(r"^redteam \S+, Python 3", verbose.stderr, re.MULTILINE)


def test_a_crash_is_traced_where_more_is_wanted(tmp_path):
    crash = "import redteam.report.reading\nredteam.report.reading.load_report = lambda path: 1 / 0"
    usual, verbose = (fast("gate", SAFE, *how, cwd=tmp_path, before=crash) for how in ((), ("-v",)))
    assert (usual.returncode, usual.stderr.count("\n")) == (2, 1)
    assert "internal error, nothing was decided: ZeroDivisionError" in usual.stderr
    assert verbose.returncode == 2
    assert "Traceback" in verbose.stderr


# Completion


def redteam(*arguments, **environment):
    import os

    command = [sys.executable, "-m", "redteam", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_shell_completes_commands_and_options():
    for words, wanted in (("redteam ga", {"gap", "gate"}), ("redteam train --hold", {"--holdout"})):
        asked = {"_REDTEAM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        result = redteam(**asked)
        assert (result.returncode, set(result.stdout.split()), result.stderr) == (0, wanted, "")


def test_completion_is_shown_and_installed(tmp_path):
    known = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = redteam("--show-completion", "bash", **known)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "_REDTEAM_COMPLETE=complete_bash" in shown.stdout
    installed = redteam("--install-completion", "bash", **known)
    assert (installed.returncode, installed.stderr) == (0, "")
    assert list(tmp_path.rglob("*redteam*"))
    assert redteam("--show-completion", "no-such-shell", **known).returncode == 2


def test_options_are_passed_explicitly():
    """A command's own function takes what its options are, spread or as dataclasses."""
    for name, command in COMMANDS.items():
        taken = inspect.signature(inspect.unwrap(command.callback)).parameters
        assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values()), name
