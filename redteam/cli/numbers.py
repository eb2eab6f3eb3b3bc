"""Numbers as options: lists of them, and the error of a report."""

from redteam.core import UsageError


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """Read "1,10,100" into whole numbers, each once; UsageError for none at all and for what is none."""
    values: dict[int, None] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        if not (word.isascii() and word.isdigit() and len(word) < 20 and 0 < int(word) < 10**6):
            raise UsageError(f"{option} {word!r}: give whole numbers from 1 to 999999, such as 1,10,100")
        values[int(word)] = None
    if not values:
        raise UsageError(f"{option}: an empty list; give one such as 1,10,100")
    return tuple(values)


def check_alpha(alpha: float) -> None:
    """Raise UsageError where it is so small that nothing could ever be proven, or so large that anything could."""
    if not 0.001 <= alpha <= 0.2:
        raise UsageError(f"--alpha {alpha:g}: must lie between 0.001 and 0.2")
