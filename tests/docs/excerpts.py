"""Lines of an output as a page shows them, `[...]` for what it leaves out: held to the output, or drawn anew."""

import dataclasses
import os
import re
from difflib import SequenceMatcher
from itertools import groupby

REGENERATE = "REDTEAM_REGENERATE" in os.environ
LEFT_OUT = "[...]"
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def alike(shown, printed):
    """Tell whether two lines say the same but for numbers that another processor's rounding moves a little."""
    words = [" ".join(_NUMBER.sub("#", line).split()) for line in (shown, printed)]
    if words[0] != words[1]:
        return False
    pairs = zip(*([float(n.replace(",", "")) for n in _NUMBER.findall(line)] for line in (shown, printed)), strict=True)
    return all(abs(a - b) <= max(0.011, 0.25 * abs(a)) for a, b in pairs)


def check(shown, printed, same=str.__eq__):
    """Fail unless the lines stand in the output one after the other, but for those that `[...]` leaves out."""
    places = {0}  # where the next line may stand
    gap = False
    for line in shown:
        if line == LEFT_OUT:
            gap = True
            continue
        at = range(min(places), len(printed)) if gap else [i for i in places if i < len(printed)]
        places, gap = {i + 1 for i in at if same(line, printed[i])}, False
        assert places, f"not printed here (any more): {line!r}; say REDTEAM_REGENERATE=1 and read what changes"
    assert gap or len(printed) in places, "more was printed than is shown; [...] leaves lines out"


def renewed(shown, printed):
    """Return what is printed today from the line most like the first to that most like the last of each run shown."""
    lines, position = [], 0
    runs = [(left_out, [*run]) for left_out, run in groupby(shown, lambda line: line == LEFT_OUT)]
    for i, (left_out, run) in enumerate(runs):
        if left_out:
            lines.append(LEFT_OUT)
            continue
        start = _most_like(run[0], printed, range(position, len(printed))) if i else 0
        nearest = sorted(range(start, len(printed)), key=lambda k: abs(k - start - len(run) + 1))
        position = _most_like(run[-1], printed, nearest) + 1 if i + 1 < len(runs) else len(printed)
        lines += printed[start:position]
    return lines


def _most_like(line, printed, places):
    return max(places, key=lambda i: SequenceMatcher(None, line, printed[i]).ratio())


def replace(block, old, new):
    """Put other lines into a block of a page; return the block as it is then."""
    page = block.page.read_text(encoding="utf-8")
    text = block.text.replace("\n".join(old), "\n".join(new), 1)
    assert page.count(block.text) == 1, f"{block}: stands twice on its page"
    block.page.write_text(page.replace(block.text, text), encoding="utf-8")
    return dataclasses.replace(block, text=text)
