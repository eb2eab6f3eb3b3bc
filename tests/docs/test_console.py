"""Every console block of the README and of docs/ is run again, and prints what it shows."""

import os
import re
import shlex
from difflib import SequenceMatcher
from itertools import groupby, takewhile

import pytest
from conftest import ROOT
from forks import fast
from pages import blocks, steps

BY_PAGE = {
    name: tuple(each) for name, each in groupby(blocks("console"), lambda block: str(block.page.relative_to(ROOT)))
}
REGENERATE = "REDTEAM_REGENERATE" in os.environ
LEFT_OUT = "[...]"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
# These compute nothing with floating-point numbers of a model: they print the same everywhere.
EXACT = ("attacks", "defenses", "gate", "compare")


def alike(shown, printed):
    """Tell whether two lines say the same but for numbers that another processor's rounding moves a little."""
    words = [" ".join(NUMBER.sub("#", line).split()) for line in (shown, printed)]
    if words[0] != words[1]:
        return False
    pairs = zip(*([float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (shown, printed)), strict=True)
    return all(abs(a - b) <= max(0.011, 0.25 * abs(a)) for a, b in pairs)


def holds(shown, printed, same):
    """Tell whether the lines stand in the output one after the other, but for those that `[...]` leaves out."""
    places = {0}  # where the next line may stand
    gap = False
    for line in shown:
        if line.strip() == LEFT_OUT:
            gap = True
            continue
        at = range(min(places), len(printed)) if gap else [i for i in places if i < len(printed)]
        places, gap = {i + 1 for i in at if same(line, printed[i])}, False
        assert places, f"not printed here (any more): {line!r}; say REDTEAM_REGENERATE=1 and read what changes"
    assert gap or len(printed) in places, "more was printed than is shown; [...] leaves lines out"


def renewed(shown, printed):
    """Return what is printed today from the line most like the first to that most like the last of each run shown."""
    lines = list(shown)
    position = 0
    for i, line in enumerate(lines):
        if line.strip() != LEFT_OUT and (i == 0 or lines[i - 1].strip() == LEFT_OUT):
            run = [*takewhile(lambda each: each.strip() != LEFT_OUT, lines[i:])]
            start = most_like(line, printed, range(position, len(printed)))
            position = most_like(
                run[-1], printed, sorted(range(start, len(printed)), key=lambda k: abs(k - start - len(run) + 1))
            )
            yield from printed[start : position + 1]
        elif line.strip() == LEFT_OUT:
            yield LEFT_OUT


def most_like(line, printed, places):
    return max(places, key=lambda i: SequenceMatcher(None, line, printed[i]).ratio())


@pytest.mark.parametrize("page", BY_PAGE)
def test_the_console_blocks_of_a_page_print_what_they_show(page, tmp_path):
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    code = None
    for block in BY_PAGE[page]:
        today = []
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
            today += [f"$ {step.command}", *renewed(step.shown, printed)]
            if not REGENERATE:
                holds(step.shown, printed, same)
        if REGENERATE:
            text = block.page.read_text(encoding="utf-8")
            block.page.write_text(text.replace(block.text, "\n".join(today) + "\n"), encoding="utf-8")


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
    def check():
        holds(shown, ["one", "two 2.00", "three"], alike)

    if held:
        check()
    else:
        with pytest.raises(AssertionError):
            check()


def test_there_is_an_audit_to_check():
    assert any("redteam audit fixtures/" in block.text for block in BY_PAGE["README.md"])
    assert len(BY_PAGE) >= 3
