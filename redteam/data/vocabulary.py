"""How a cell is spelled and what that means: one vocabulary for every file and every reader of it.

A number is what spells one: 1, 1.0, "1", " 1 " and 1e0 are the same. A name - of a label, an id, a user, a group - is
its spelling without the white space around it, and two spellings count as one where programs write the same value
both ways: whole numbers with zeros behind the point (pandas writes 1 as 1.0 beside a gap), and true and false in any
case. All else stays apart: 01, 1e5 and 10e4 are names. A side of the split is a word or a number.
"""

import json
import math
import re

NONMEMBER, MEMBER, REFERENCE, UNKNOWN = 0, 1, 2, -1
WORDS = {
    MEMBER: ("train", "training", "member", "members", "in", "1", "true", "t", "yes", "y"),
    NONMEMBER: (
        *("nonmember", "nonmembers", "non-member", "non-members", "test", "testing", "holdout", "held-out", "out"),
        *("0", "false", "f", "no", "n"),
    ),
    REFERENCE: ("reference", "ref", "population"),
}
KNOWN = ", ".join(word for words in WORDS.values() for word in words)
_SIDES = {word: side for side, words in WORDS.items() for word in words}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")


def spelled(value: object) -> str | None:
    """Return a value of JSON or Arrow as text files write it; None, an empty cell, stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Parquet turns whole numbers beside a gap into floats
    if isinstance(value, bytes):
        return value.decode()  # how some writers store texts
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def name_of(cell: str) -> str:
    """Return the name that a cell spells."""
    name = cell.strip()
    if name[-1:] == "0" and (whole := _WHOLE.fullmatch(name)):
        return "0" if whole[1] == "-0" else whole[1]
    lowered = name.lower() if name[:1] in "tTfF" else name
    return lowered if lowered in ("true", "false") else name


def number_of(cell: str) -> float | None:
    """Return the number that a cell spells, infinity and NaN too; None where it spells none."""
    word = cell.strip()
    if _NUMBER.fullmatch(word):
        return float(word)
    named = word.lower().lstrip("+-")
    if named not in ("nan", "inf", "infinity"):
        return None
    return math.nan if named == "nan" else -math.inf if word.startswith("-") else math.inf


def side_of(cell: str) -> int:
    """Return the side of the split that a cell names; UNKNOWN where it says nothing about membership."""
    word = cell.strip().lower().replace("_", "-")
    if _NUMBER.fullmatch(word):
        return {0.0: NONMEMBER, 1.0: MEMBER}.get(float(word), UNKNOWN)
    return _SIDES.get(word, UNKNOWN)
