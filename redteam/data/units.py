"""Whose data is one unit: an example, or a user with all of her rows.

The rows of one user are alike, so they are no independent draws: intervals that take rows for draws are too narrow
where whole users were trained on or left out. There the unit is the user, and her score is the mean of her rows'
scores (N. Kandpal et al., "User inference attacks on large language models", 2023), fixed before any score is seen: the
sum of log-likelihoods per row, which does not grow with the number of rows and uses all of them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import BoolArray, IntArray
from redteam.report import plural
from redteam.report.values import Unit, Users

_FEWEST = 20  # users that an audit can show anything of: with fewer, a perfect attack stays within the usual limits
_ALIKE = 0.5  # of the users of a side: more that differ from one of the other side by spelling alone are the same
_SURE = 4.0  # standard deviations: one split by rows in 30,000 is taken for one by users


Keys = Sequence[bytes]  # fingerprints of texts, one a row


@dataclass(frozen=True)
class Division:
    """Positions that are left of members, of non-members and of the rows kept apart, and what was left out.

    `moved` texts could not be told which side they speak of, `duplicates` are repeats. `alone` tells, members first,
    which texts stood in the data once.
    """

    inside: list[int]
    outside: list[int]
    apart: list[int]
    moved: int
    duplicates: int
    alone: BoolArray


def user_name(user: str) -> str:
    """Return the form under which two cells name the same user: white space around it does not matter."""
    return unicodedata.normalize("NFC", user.strip())


def user_key(user: str) -> bytes:
    """Return a 16-byte fingerprint of a user's name: what is drawn by instead of the name."""
    return hashlib.blake2b(user_name(user).encode("utf-8", "surrogatepass"), digest_size=16, person=b"user").digest()


def number_users(users: Sequence[str]) -> IntArray:
    """Number the users from 0 in the order in which they first come; raise DataError for a row without a user."""
    seen: dict[str, int] = {}
    names = {user: user_name(user) for user in set(users)}
    if "" in names.values():
        row = next(i for i, user in enumerate(users) if not names[user])
        raise DataError(f"row {row + 1} of {len(users)} has no user: name the user of every row, or of none")
    return np.array([seen.setdefault(names[user], len(seen)) for user in users], dtype=np.int64)


def guessed_users(
    users: tuple[str, ...] | None, name: str | None, *, named: bool
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return a user column that was named, or guessed where it can be meant; else None and a note that says why not."""
    if users is None or named:
        return users, ()
    lacking, found = sum(not user_name(user) for user in users), how_many(users)
    if not lacking and found >= _FEWEST:
        return users, ()
    why = f"{lacking} rows name no user" if lacking else f"it names {plural(found, 'user')}"
    return None, (f"column {name!r} is not taken for the user of a row, since {why}; --user-column says otherwise",)


def how_many(users: Sequence[str] | None) -> int:
    """Return the number of different users."""
    return len({user_name(user) for user in set(users or ())})


def unit_of(
    members: Sequence[str] | None, nonmembers: Sequence[str] | None, unit: Unit | None
) -> tuple[IntArray, Users | None, Unit]:
    """Return the users of all rows as numbers, members first, how they stand, and what was drawn as a whole.

    Raises DataError where that are users (`unit`) and rows do not say whose they are.
    """
    if members is None or nonmembers is None:
        if unit == "user":
            raise DataError("membership was drawn by user, but the rows do not say whose they are")
        return np.empty(0, dtype=np.int64), None, "example"
    owners = number_users((*members, *nonmembers))
    is_member = np.arange(len(owners)) < len(members)
    users = count_users(owners, is_member)
    if unit is None:
        _check_spelling(members, nonmembers)
        unit = "user" if users.most > 1 and stand_together(owners, is_member) else "example"
    return owners, users, unit


def _check_spelling(members: Sequence[str], nonmembers: Sequence[str]) -> None:
    """Raise DataError where most users of a side stand on the other in another spelling: they would be told apart.

    Case, leading zeros and a decimal part of nothing but zeros, as a table of numbers with a gap is written, are
    spelling.
    """
    inside, outside = ({user_name(user) for user in set(side)} for side in (members, nonmembers))
    other = {_spelled(user) for user in outside - inside}
    alike = sum(_spelled(user) in other for user in inside - outside)
    if alike > _ALIKE * min(len(inside), len(outside)):
        raise DataError(
            f"{alike} of {plural(len(inside), 'user')} of the members are among the non-members in another spelling "
            "(case, zeros in front, or .0 behind): write users alike on both sides"
        )


def _spelled(user: str) -> str:
    plain = user.casefold()
    number = re.fullmatch(r"0*([0-9]+?)(?:\.0+)?", plain)
    return number[1] if number else plain


def check_enough(members: int, nonmembers: int, unit: Unit, *, moved_out: int) -> None:
    """Raise DataError where fewer than two of either side are left."""
    for side, count in (("members", members), ("non-members", nonmembers)):
        if count < 2:
            where = "found on both sides" if unit == "example" else "of several users"
            why = f" after {moved_out} texts {where} were moved out" if moved_out else ""
            of = "" if unit == "example" else "users who are "
            raise DataError(f"{count} {of}{side}{why}: an audit needs at least 2 of either")


def count_users(owners: IntArray, is_member: BoolArray) -> Users:
    """Count the users on either side of rows [n] with the users `owners` [n], numbered from 0 without gaps."""
    rows, inside = np.bincount(owners), np.bincount(owners, weights=is_member)
    both = (inside > 0) & (inside < rows)
    return Users(int((inside == rows).sum()), int((inside == 0).sum()), int(both.sum()), int(rows.max()))


def stand_together(owners: IntArray, is_member: BoolArray) -> bool:
    """Tell whether the rows of a user are on one side more often than if each row had been put there by itself.

    Compares the pairs of one user's rows that stand on one side with what independent rows would give, of which the
    number has mean and variance that follow from how many rows each user has.
    """
    rows, inside = np.bincount(owners), np.bincount(owners, weights=is_member).astype(np.int64)
    share, surplus, variance = float(is_member.mean()), 0.0, 0.0
    for size in np.unique(rows[rows > 1]).tolist():
        found = inside[rows == size]
        mean, spread = _pairs(size, share)
        together = found * (found - 1) / 2 + (size - found) * (size - found - 1) / 2
        surplus += float(together.sum()) - mean * len(found)
        variance += spread * len(found)
    return surplus > _SURE * sqrt(variance) if variance > 0 else surplus > 0


def _pairs(size: int, share: float) -> tuple[float, float]:
    """Return mean and variance of the pairs on one side among so many rows, each a member with chance `share`.

    As sums over the pairs: two pairs that share a row are both on one side with chance p^3 + q^3, others are
    independent.
    """
    p, q = share, 1 - share
    same, three = p * p + q * q, p**3 + q**3
    pairs, touching = comb(size, 2), size * (size - 1) * (size - 2)
    return pairs * same, pairs * (same - same**2) + touching * (three - same**2)


def divide_rows(members: Keys, nonmembers: Keys, apart: Keys) -> Division:
    """Leave texts that stand on both sides out, and keep one of each repeated text; `apart` gives way to both."""
    inside, outside, beside = (_places(side) for side in (members, nonmembers, apart))
    both, used = inside.keys() & outside.keys(), inside.keys() | outside.keys()
    kept = [[where for key, where in side.items() if key not in both] for side in (inside, outside)]
    return Division(
        [where[0] for where in kept[0]],
        [where[0] for where in kept[1]],
        [where[0] for key, where in beside.items() if key not in used],
        len(both),
        len(members) + len(nonmembers) - len(inside) - len(outside),
        np.array([len(where) == 1 for where in (*kept[0], *kept[1])], dtype=np.bool_),
    )


def _places(keys: Keys) -> dict[bytes, list[int]]:
    """Map each distinct text to its positions."""
    places: dict[bytes, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    return places


def divide_users(owners: IntArray, members: Keys, nonmembers: Keys, apart: Keys) -> Division:
    """Keep what speaks of one user alone: users on one side, and of their texts those that no other user has.

    `owners` numbers the users of members, then of non-members. A text of two users is left out on whichever sides they
    are: were it left out only where they differ, what is left of a user would tell her side. A repeated text of one
    user is kept once.
    """
    keys, split = (*members, *nonmembers), len(members)
    both = np.intersect1d(owners[:split], owners[split:])
    straddles = np.isin(owners, both).tolist()
    owner: dict[bytes, int] = {}
    several = set(apart)
    for user, key in zip(owners.tolist(), keys, strict=True):
        if owner.setdefault(key, user) != user:
            several.add(key)
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        if not straddles[row] and key not in several:
            first.setdefault(key, row)
    kept = list(first.values())
    left = [row for row, key in enumerate(keys) if not straddles[row] and key in several]
    return Division(
        [row for row in kept if row < split],
        [row - split for row in kept if row >= split],
        list({key: row for row, key in reversed(list(enumerate(apart))) if key not in owner}.values())[::-1],
        len({keys[row] for row in left}),
        len(keys) - sum(straddles) - len(left) - len(kept),
        np.ones(len(kept), dtype=np.bool_),
    )
