"""Options over all commands: one flag means one thing, and every command can be quiet, loud and completed."""

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
import typer
from conftest import ROOT
from forks import fast
from materials import error_line

from redteam.cli import app
from redteam.plugins.registry import discover_defenses

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


# Where a flag differs from command to command, and what of it does; the rest is the same there too.
DIFFERS = {
    "--output": ({"help"}, "each command writes something else: a report, a model, a planted file, a folder"),
    "--format": ({"type"}, "each result has formats of its own"),
    "--defense": ({"help"}, "drill goes over a list of what train takes one of"),
    "--label": ({"help", "multiple"}, "drill goes over a list of what plant takes one of"),
    "--privatise": ({"help"}, "gap goes over a list of what train takes one of"),
    "--epsilon": ({"help", "type"}, "gap goes over a list of what privatise takes one of"),
}
# An axis of the grid of gap, which is a list; the words by which gap measures flips, whatever a defence trains on.
SAID = {"--epsilon", "--swaps"}
OWN_DEFAULT = {
    "--alpha",
    "--canaries",
    "--pattern",
    "--repetitions",
    "--seed",
}  # their help names it, or their type allows none
SHORT = {"-o": "--output", "-f": "--format"}


def meanings():
    """Return what each flag means, but for its default, with the commands that say so."""
    found = defaultdict(lambda: defaultdict(list))
    for name, command in COMMANDS.items():
        for option in command.params:
            if option.param_type_name == "option":
                said = {
                    "help": re.sub(r"\s*\[default: .*?\]", "", option.help or "").rstrip("."),
                    "type": (option.type.name, option.metavar, *getattr(option.type, "choices", ())),
                    "bounds": (getattr(option.type, "min", None), getattr(option.type, "max", None)),
                    "multiple": option.multiple,
                    "flags": tuple(option.opts),
                }
                for flag in option.opts:
                    but = DIFFERS.get(SHORT.get(flag, flag), ((), ""))[0]
                    found[flag][tuple((key, value) for key, value in said.items() if key not in but)].append(name)
    return found


def test_a_flag_means_one_thing_over_all_commands():
    assert not {flag: dict(means) for flag, means in meanings().items() if len(means) > 1}


def test_no_exception_is_left_that_nothing_needs():
    for flag, (parts, _) in DIFFERS.items():
        options = [each for command in COMMANDS.values() for each in command.params if flag in each.opts]
        said = {part: {str(getattr(each, part)) for each in options} for part in parts}
        assert all(len(different) > 1 for different in said.values()), flag


def test_training_is_set_the_same_way_everywhere():
    """What a defence has a setting for is no option: it is given as --set NAME=VALUE."""
    settings = {f"--{each.replace('_', '-')}" for defense in discover_defenses() for each in defense.parameters()}
    for name in ("train", "gap", "drill", "verify"):
        flags = {flag for each in COMMANDS[name].params for flag in each.opts}
        assert "--set" in flags
        assert not flags & (settings - SAID), name


def test_what_may_take_long_can_be_planned():
    assert "--dry-run" in {flag for each in COMMANDS["audit"].params for flag in each.opts}


def test_every_option_says_what_it_is_for_and_no_two_commands_are_too_long():
    for name, command in COMMANDS.items():
        options = [each for each in command.params if each.param_type_name == "option"]
        assert all(each.help for each in options)
        assert {"--quiet", "--verbose"} <= {flag for each in options for flag in each.opts}, name
    assert len([each for each in COMMANDS["train"].params if each.param_type_name == "option"]) <= 22


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
    assert len(verbose.stdout) > len(usual.stdout)
    assert verbose.stdout.splitlines()[0] == usual.stdout.splitlines()[0]
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
    """A command's own function takes what its options are, spread or as dataclasses; none is harvested."""
    for name, command in COMMANDS.items():
        taken = inspect.signature(inspect.unwrap(command.callback)).parameters
        assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values()), name
    for path in (ROOT / "redteam").rglob("*.py"):
        called = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if is_call_by_name(node)}
        assert "locals" not in called, path


def is_call_by_name(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_options_that_go_together_are_declared_once():
    """A flag of several commands is one declaration: the very same annotation, or a dataclass of them."""
    declared = Counter()
    for path in (ROOT / "redteam" / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if is_option(node):
                declared.update(arg.value for arg in node.args if str(getattr(arg, "value", "")).startswith("--"))
    assert {flag for flag, count in declared.items() if count > 1} <= {*DIFFERS, *OWN_DEFAULT}


def is_option(node):
    return isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("Option", "Opt")
