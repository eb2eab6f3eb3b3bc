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
from redteam.plugins.fairness import Pairs, Placebos, SwapControl
from redteam.report import plural

_Found = tuple[int, str, Swapped, Placebos]  # unit, text, swap, placebos


class _Shares:
    """In what share of texts each word stands."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._counts: Counter[str] = Counter()
        self._of = 0
        for text in texts:
            self._counts.update({part.word for part in tokens(text)})
            self._of += 1

    def __call__(self, word: str) -> float:
        return self._counts[word] / max(1, self._of)

    def typical(self, pairs: Iterable[tuple[str, str]]) -> float:
        """Return the median share of the words in which texts differ, each counted once, 0 where they do not."""
        words = [
            self(word)
            for text, other in pairs
            for a, b in zip(tokens(text), tokens(other), strict=True)
            if a.word != b.word
            for word in (a.word, b.word)
        ]
        return float(np.median(words)) if words else 0.0


def pairs_of_rows(rows: Examples, by: SwapList, control: SwapControl) -> Pairs:
    """Return the rows that name a group of a list, with their swaps; DataError where none does.

    Left out and counted are repeated texts, those that no swap changes or whose counterfactual is another thing, those
    of a label that names a group, pronouns that may stand for two others, and texts without a word for the placebo.
    """
    units, share = _units(rows), _Shares(rows.texts or ())
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
        placebos = control.versions(text, swapped.text, share=share, keep=keep, names=by.names, kinds=by.kinds)
        if placebos is None:
            why["no placebo"] += 1
            continue
        found.append((int(units[i]), text, swapped, placebos))
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
    return _made(by, found, why, share, clustered=alike, of="texts")


def pairs_of_templates(templates: Sequence[str], by: SwapList, control: SwapControl, *, seed: int) -> Pairs:
    """Return filled templates with their swaps; of fewer than 30 each filling stands for itself, for these alone.

    Raises UsageError for a list of other groups than the templates name.
    """
    if by.sides != ("women", "men"):
        raise UsageError(f"swap list {by.name}: templates name women and men; give DATA with texts of these groups")
    found, seen = list[_Found](), set[str]()
    keep = by.vocabulary | frozenset(WOMEN) | frozenset(MEN)
    why: Counter[str] = Counter()
    filled = list(fill(tuple(templates), seed=seed))
    share = _Shares(text for *_, text, _ in filled)
    for number, side, text, other in filled:
        if text in seen or other in seen:
            why["repeated"] += 1
            continue
        seen.add(text)
        parts = tokens(text)
        places = tuple((a.start, a.end) for a, b in zip(parts, tokens(other), strict=True) if a.word != b.word)
        placebos = control.versions(text, other, share=share, keep=keep)
        if placebos is None:
            why["no placebo"] += 1
            continue
        found.append((number, text, Swapped(other, len(places), side, places), placebos))
    if not found:
        raise DataError(f"no template is left to swap: {_counted(why)}")
    many = len(templates) >= FEWEST
    of = "templates" if many else f"fillings of these {plural(len(templates), 'template')}"
    return _made(by, found, why, share, clustered=many, of=of)


def _made(
    by: SwapList, found: Sequence[_Found], why: Counter[str], share: _Shares, *, clustered: bool, of: str
) -> Pairs:
    matched = [each for each in found if each[3].matched]
    if 2 * len(matched) >= len(found) > len(matched):
        why["no placebo as common"], found = len(found) - len(matched), matched
    swaps = share.typical((text, swapped.text) for _, text, swapped, _ in found)
    placebo = share.typical((text, each) for _, text, _, placebos in found for each in placebos.texts)
    units = np.array([unit for unit, *_ in found], dtype=np.int64)
    return Pairs(
        by.name,
        by.sides,
        tuple(text for _, text, _, _ in found),
        tuple(swapped.text for _, _, swapped, _ in found),
        tuple(zip(*(placebos.texts for *_, placebos in found), strict=True)),
        tuple(swapped.side for _, _, swapped, _ in found),
        np.unique(units, return_inverse=True)[1].astype(np.int64) if clustered else None,
        tuple(sorted((reason, count) for reason, count in why.items() if count)),
        of,
        (swaps, placebo),
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
