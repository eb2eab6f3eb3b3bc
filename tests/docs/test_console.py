"""Every console block of the README and of docs/ is run again, and prints what it shows."""

import shlex
from contextlib import nullcontext
from itertools import groupby

import pytest
from conftest import ROOT
from excerpts import REGENERATE, alike, check, renewed, replace
from forks import fast
from pages import blocks, steps

pytestmark = pytest.mark.usefixtures("as_a_reader")
BY_PAGE = {
    name: tuple(each) for name, each in groupby(blocks("console"), lambda block: str(block.page.relative_to(ROOT)))
}
# These compute nothing with floating-point numbers of a model: they print the same everywhere.
EXACT = ("attacks", "defenses", "gate", "compare")


@pytest.mark.parametrize("page", BY_PAGE)
def test_the_console_blocks_of_a_page_print_what_they_show(page, tmp_path):
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    code = None
    for block in BY_PAGE[page]:
        for step in steps(block.text):
            if step.command == "echo $?":
                printed, same = [str(code)], str.__eq__
            else:
                program, name, *rest = shlex.split(step.command)
                assert program == "redteam", f"{block}: only redteam is run"
                result = fast(name, *rest, cwd=tmp_path)
                code = result.returncode
                printed = [line.rstrip() for line in (result.stdout + result.stderr).splitlines()]
                same = str.__eq__ if name in EXACT else alike
            if REGENERATE:
                block = replace(block, step.shown, renewed(step.shown, printed))
            else:
                check(step.shown, printed, same)


@pytest.mark.parametrize(
    ("shown", "held"),
    [
        (("one", "two 2.00", "three"), True),
        (("one", "[...]"), True),
        (("[...]", "three"), True),
        (("one", "[...]", "three"), True),
        (("one", "three"), False),  # a line is missing
        (("one", "two 2.00"), False),  # the end is missing
        (("two 2.00", "one", "[...]"), False),
        (("one", "two 3.00", "three"), False),
    ],
)
def test_lines_have_to_stand_where_they_are_shown(shown, held):
    with nullcontext() if held else pytest.raises(AssertionError):
        check(shown, ["one", "two 2.00", "three"], alike)


def test_lines_are_drawn_anew_around_what_is_left_out():
    printed = ["head", "", "Table", "  a  2", "  b  3", "more", "Notes", "  - all", "end"]
    shown = ("[...]", "Table", "  a  1", "  bb  3", "[...]", "Note", "  - al", "[...]")
    assert renewed(shown, printed) == ["[...]", "Table", "  a  2", "  b  3", "[...]", "Notes", "  - all", "[...]"]
    assert renewed(("Head", "[...]", "Notes"), printed) == ["head", "[...]", "Notes", "  - all", "end"]


def test_there_is_an_audit_to_check():
    assert any("redteam audit fixtures/" in block.text for block in BY_PAGE["README.md"])
    assert len(BY_PAGE) >= 3
