"""Numbers and findings in plain words, for readers who have never seen a ROC curve."""

from collections.abc import Sequence

from redteam.report.values import Unit
from redteam.statistics import Interval

LOW_BOUND = "A low bound is not evidence of privacy."

LUCK = "which is not proven to be more than luck"


def number(value: float, *, digits: int = 2) -> str:
    """Write a number with so many decimals, or in whole thousands where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: `1 limit`, `2 limits`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def of_either(members: int, nonmembers: int, unit: Unit) -> str:
    """Write how many there are of either side: `1 member and 2 non-members`, or users who are that."""
    if unit == "user":
        return f"{plural(members, 'user')} who are members and {nonmembers:,} who are not"
    return f"{plural(members, 'member')} and {plural(nonmembers, 'non-member')}"


def range_of(interval: Interval, *, digits: int = 2) -> str:
    """Write an interval as `0.93 [0.91, 0.95]`."""
    low, high = number(interval.low, digits=digits), number(interval.high, digits=digits)
    return f"{number(interval.value, digits=digits)} [{low}, {high}]"


def decimals(interval: Interval, limit: float) -> int:
    """Return how many decimals it takes, from two to six, to see on which side of `limit` the bounds are."""
    for digits in range(2, 6):
        shown = round(limit, digits)
        if all(
            (round(end, digits) > shown) == (end > limit) and (round(end, digits) < shown) == (end < limit)
            for end in (interval.low, interval.high)
        ):
            return digits
    return 6


def some(names: Sequence[str]) -> str:
    """Name the first of many: `a`, `a and b`, `a and 4 more`."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def accusation(fpr: float, unit: Unit = "example") -> str:
    """Say a false-positive rate as a price: `1 false accusation per 100 non-members`."""
    whom = "non-members" if unit == "example" else "users who are no members"
    return f"1 false accusation per {number(1 / fpr, digits=0 if fpr <= 0.1 else 1)} {whom}"


def share(rate: float) -> str:
    """Write a rate as whole people: `20 of 100`, `3 of 1,000`."""
    rate = min(max(rate, 0.0), 1.0)
    for whole in (100, 1000, 10_000, 1_000_000):
        if rate == 0 or abs(rate * whole - round(rate * whole)) < 0.05 or rate * whole >= 10:
            return f"{rate * whole:.0f} of {whole:,}"
    return "fewer than 1 of 1,000,000"


def lacking(needed: tuple[int, int], have: tuple[int, int], unit: Unit) -> str:
    """Write how many it takes, of one side only where the other has enough."""
    short = [side for side in (0, 1) if have[side] < needed[side]]
    if len(short) != 1:
        return f"at least {of_either(*needed, unit)}"
    (side,) = short
    names = ("members", "non-members") if unit == "example" else ("users who are members", "users who are not")
    return f"at least {needed[side]:,} {names[side]}"


def shown(value: str) -> str:
    """Return a cell as a message may quote it: one short word, and of anything longer, which may be a text, its length.

    Training texts have no place in logs.
    """
    word = value.strip()
    return repr(value) if len(word) <= 20 and len(word.split()) <= 1 else f"a text of {len(value)} characters"
