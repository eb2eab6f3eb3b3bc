"""What the README shows was really run: its console blocks are run again, its commands and options exist."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, run_redteam

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
LEFT_OUT = "[...]"
CHANGES = re.compile(r"^  audited ")  # the line that says when


def readme_commands():
    """Every redteam command of the README's code blocks, as lists of arguments."""
    code = "\n".join(re.findall(r"```(?:sh|yaml|console)\n(.*?)```", README, flags=re.DOTALL))
    for line in code.splitlines():
        for part in re.split(r"&&|\|\|", line.split("#")[0]):
            names = "audit|train|verify|gap|drill|canary|pack|unpack|gate|compare|attacks|selftest"
            found = re.search(rf"\bredteam ((?:{names})\b.*)", part)
            if found:
                yield shlex.split(found.group(1))


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def alike(shown, printed):
    """Tell whether two lines say the same but for numbers that another processor's rounding moves a little."""
    words = [" ".join(NUMBER.sub("#", line).split()) for line in (shown, printed)]
    pairs = zip(*([float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (shown, printed)), strict=False)
    return words[0] == words[1] and all(abs(a - b) <= max(0.011, 0.25 * abs(a)) for a, b in pairs)


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.splitlines()[0][:40])
def test_console_blocks_show_what_is_printed(block):
    """Lines between two `[...]` stand in the output one after the other, in this order."""
    command, *shown = block.splitlines()
    result = run_redteam(*shlex.split(command.removeprefix("$ redteam ")), cwd=ROOT)
    printed = [line.rstrip() for line in (result.stdout + result.stderr).splitlines()]
    position = 0
    for line in shown:
        if line.strip() == LEFT_OUT or CHANGES.match(line):
            continue
        found = [i for i, other in enumerate(printed[position:], start=position) if alike(line, other)]
        assert found, f"not printed (any more): {line!r}"
        position = found[0] + 1


def test_there_is_a_first_audit_to_check():
    assert any("redteam audit" in block for block in CONSOLE)


def test_every_command_and_option_of_the_readme_exists():
    commands = list(readme_commands())
    assert len(commands) >= 8
    named = {tuple(each): (*each[:2],) if each[0] == "canary" else (each[0],) for each in commands}
    helps = {name: run_redteam(*name, "--help").stdout for name in set(named.values())}
    for command, name in named.items():
        for word in command[1:]:
            if word.startswith("-") and word != "-":
                assert re.search(rf"(?<![\w-]){re.escape(word)}\b", helps[name]), (command, word)


def test_the_options_and_formats_it_names_are_all_there():
    names = [(name,) for name in ("audit", "train", "gate", "verify", "gap", "drill")]
    names += [("canary", "plant"), ("canary", "extract")]
    listed = "".join(run_redteam(*name, "--help").stdout for name in names)
    for option in re.findall(r"`(--[a-z-]+)", README):
        assert option in listed, option


@pytest.mark.parametrize(
    ("words", "printed"),
    [("PrivateTrainer(", r"epsilon 3\.50 at delta 1e-5"), ("judge(", r"leak A \['an outsider who thresholds loss")],
)
def test_the_python_examples_run(words, printed):
    (code,) = [each for each in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if words in each]
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.match(printed, result.stdout)
