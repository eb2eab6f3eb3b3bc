"""Counterfactual pairs: from a user's rows or from templates, each with a placebo beside it, and what was left out."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from redteam.auditing.fairness.swaps import SwapList, Swapped, swap, tokens
from redteam.auditing.fairness.templates import FEWEST, fill
from redteam.auditing.fairness.words import MEN, WOMEN
from redteam.core import DataError, UsageError
from redteam.data import Examples, text_key
from redteam.data.units import number_users
from redteam.plugins.fairness import Pairs, SwapControl
from redteam.report import plural

_Found = tuple[int, str, Swapped, str]  # unit, text, swap, placebo


def pairs_of_rows(rows: Examples, by: SwapList, control: SwapControl, *, seed: int) -> Pairs:
    """Return the rows that name a group of a list, with their swaps; DataError where none does.

    Left out and counted are repeated texts, those that no swap changes or whose counterfactual is another thing, those
    of a label that names a group, pronouns that may stand for two others, and texts without a word for the placebo.
    """
    units = _units(rows)
    options, of_labels = by.options(), _words_of(set(rows.labels or ()))
    why: Counter[str] = Counter()
    seen: set[bytes] = set()
    found: list[_Found] = []
    for i, text in enumerate(rows.texts or ()):
        key = text_key(text)
        if key in seen:
            why["repeated"] += 1
            continue
        seen.add(key)
        if rows.labels is not None and _words_of([rows.labels[i]]) & by.vocabulary:
            why["label names a group"] += 1
            continue
        swapped = swap(text, by, options)
        if not isinstance(swapped, Swapped):
            why[swapped] += 1
            continue
        keep = by.vocabulary | of_labels
        changed = control.replace(text, swapped.places, keep=keep, seed=seed, names=by.names, kinds=by.kinds)
        if changed is None:
            why["no placebo"] += 1
            continue
        found.append((int(units[i]), text, swapped, changed))
    held = {part.word for text in rows.texts or () for part in tokens(text)} & by.vocabulary
    if not held:
        raise DataError(
            f"swap list {by.name}: none of {plural(len(rows), 'text')} holds one of its {len(by.vocabulary)} words, "
            f"such as {sorted(by.vocabulary)[0]!r}: give a list of words that the texts hold"
        )
    if not found:
        raise DataError(f"swap list {by.name}: no text is left to swap: {_counted(why)}")
    if why["no placebo"] > len(found):
        raise DataError(
            f"swap list {by.name}: {why['no placebo']:,} of {len(found) + why['no placebo']:,} texts have no word for "
            "the placebo swap: name some pairs that must not matter in the list, with placebo in its column use"
        )
    alike = len({unit for unit, *_ in found}) < len(found)
    return _made(by, found, why, clustered=alike, of="texts")


def pairs_of_templates(templates: Sequence[str], by: SwapList, control: SwapControl, *, seed: int) -> Pairs:
    """Return filled templates with their swaps; of fewer than 30 each filling stands for itself, for these alone.

    Raises UsageError for a list of other groups than the templates name.
    """
    if by.sides != ("women", "men"):
        raise UsageError(f"swap list {by.name}: templates name women and men; give DATA with texts of these groups")
    found, seen = list[_Found](), set[str]()
    keep = by.vocabulary | frozenset(WOMEN) | frozenset(MEN)
    why: Counter[str] = Counter()
    for number, side, text, other in fill(tuple(templates), seed=seed):
        if text in seen or other in seen:
            why["repeated"] += 1
            continue
        seen.add(text)
        parts = tokens(text)
        places = tuple((a.start, a.end) for a, b in zip(parts, tokens(other), strict=True) if a.word != b.word)
        changed = control.replace(text, places, keep=keep, seed=seed)
        if changed is None:
            why["no placebo"] += 1
            continue
        found.append((number, text, Swapped(other, len(places), side, places), changed))
    if not found:
        raise DataError(f"no template is left to swap: {_counted(why)}")
    many = len(templates) >= FEWEST
    of = "templates" if many else f"fillings of these {plural(len(templates), 'template')}"
    return _made(by, found, why, clustered=many, of=of)


def _made(by: SwapList, found: Sequence[_Found], why: Counter[str], *, clustered: bool, of: str) -> Pairs:
    units = np.array([unit for unit, *_ in found], dtype=np.int64)
    return Pairs(
        by.name,
        by.sides,
        tuple(text for _, text, _, _ in found),
        tuple(swapped.text for _, _, swapped, _ in found),
        tuple(placebo for *_, placebo in found),
        tuple(swapped.side for _, _, swapped, _ in found),
        np.unique(units, return_inverse=True)[1].astype(np.int64) if clustered else None,
        tuple(sorted((reason, count) for reason, count in why.items() if count)),
        of,
    )


def _units(rows: Examples) -> Sequence[int]:
    return list(range(len(rows))) if rows.users is None else number_users(rows.users).tolist()


def _words_of(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(part.word for text in texts for part in tokens(text))


def _counted(why: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(why.items()))


def one_row_a_user(rows: Examples, *, seed: int) -> Examples:
    """Return one row of each user, drawn by the seed, since rows of a user are no independent draws."""
    if rows.users is None:
        return rows
    order = np.random.default_rng([seed, 0xFA]).permutation(len(rows))
    _, first = np.unique(number_users(rows.users)[order], return_index=True)
    return rows.take(np.sort(order[first]))
