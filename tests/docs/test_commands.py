"""Commands and options that the README and docs/ name exist; the command reference is that of the command line."""

import re
import shlex
import sys
from dataclasses import fields

import pytest
import typer
from conftest import ROOT
from forks import fast
from pages import PAGES, commands

from redteam.cli import app, train

sys.path.append(str(ROOT / "docs" / "make"))
from commands import PAGE, leaves, reference

COMMANDS = dict(leaves(typer.main.get_command(app)))
OPTIONS = {option for command in COMMANDS.values() for each in command.params for option in each.opts}
OPTIONS |= {"--help", "-h", "--version"}
WRITTEN = list(commands())


def parse(arguments):
    """Parse a command line as `redteam` would, without running it; fail with what it would say."""
    words = 2 if f"redteam {' '.join(arguments[:2])}" in COMMANDS else 1
    name = f"redteam {' '.join(arguments[:words])}"
    if arguments[0].startswith("-"):
        assert arguments == ["--version"]
        return
    assert name in COMMANDS, f"no such command: {name}"
    try:
        COMMANDS[name].make_context(name, list(arguments[words:]))
    except Exception as error:
        if not hasattr(error, "format_message"):  # every error of usage has it
            raise
        pytest.fail(f"redteam {shlex.join(arguments)}: {error.format_message()}")


@pytest.mark.parametrize(("place", "arguments"), WRITTEN, ids=[f"{place} {words[0]}" for place, words in WRITTEN])
def test_commands_of_code_blocks_parse(place, arguments):
    parse(arguments)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("audit model.pt --no-such", "No such option: --no-such"),
        ("audit --seed x", "Invalid value for '--seed'"),
        ("train", "Missing argument"),
        ("audits model.pt", "no such command"),
        ("canary bury data.csv", "no such command"),
    ],
)
def test_what_does_not_parse_is_found(line, said):
    with pytest.raises((pytest.fail.Exception, AssertionError), match=said):
        parse(line.split())


def test_there_are_commands_to_check():
    assert len(WRITTEN) >= 30
    assert {words[0] for _, words in WRITTEN} >= {"audit", "train", "canary", "verify", "gap", "drill", "gate", "pack"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_named_in_the_text_exist(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", prose):
        if span.startswith(("-", "redteam ")):
            for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", span):
                assert option in OPTIONS, f"{option} in `{span}`"


def test_settings_named_anywhere_exist(tmp_path):
    listed = {}
    for kind in ("attacks", "defenses"):
        for plugin in re.findall(r"^R[TD]\d+", fast(kind, cwd=tmp_path).stdout, flags=re.MULTILINE):
            page = fast(kind, plugin, cwd=tmp_path).stdout
            listed[plugin] = set(re.findall(r"^  (\w+)=", page, flags=re.MULTILINE))
    listed["model"] = {field.name for kind in (train._OfModel, train._OfEncoder) for field in fields(kind)}
    for page in PAGES:
        for plugin, name in re.findall(r"--set[ \n](?:(\w+)\.)?(\w+)=", page.read_text(encoding="utf-8")):
            assert name in (listed[plugin] if plugin else set().union(*listed.values())), f"{page}: {plugin}.{name}"


def test_the_command_reference_is_that_of_the_command_line():
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make docs (or: python docs/make/commands.py)"
