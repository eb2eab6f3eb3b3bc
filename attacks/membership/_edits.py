"""Small changes of a text that leave its meaning: slips of the keyboard, one after the other."""

import numpy as np

_TRIES = 20  # until a slip gives a text that was not there before


def edited(text: str, count: int, *, seed: int) -> str:
    """Return the text with `count` slips; those of a smaller count are among those of a larger one.

    Each swaps two letters, leaves one out or doubles one, inside a word. What is drawn depends on the text and the seed
    alone. A text without a letter stays as it is.
    """
    rng = np.random.default_rng([seed, *text.encode()])
    seen = [text]
    for _ in range(count):
        made = next((new for new in (_slip(seen[-1], rng) for _ in range(_TRIES)) if new not in seen), None)
        if made is None:
            break
        seen.append(made)
    return seen[-1]


def _slip(text: str, rng: np.random.Generator) -> str:
    """Return the text with one slip at a random place between two letters."""
    inside = [i for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not inside:
        return text
    at, kind = inside[rng.integers(len(inside))], rng.integers(3)
    middle = (text[at + 1] + text[at], text[at + 1], text[at] + text[at : at + 2])[kind]
    return text[:at] + middle + text[at + 2 :]
