"""How labelled texts divide into members and non-members of a training set."""

from dataclasses import dataclass, replace

import numpy as np

from redteam.core import DataError
from redteam.core.arrays import BoolArray, IntArray
from redteam.data.examples import Examples, join, text_key
from redteam.data.units import check_enough, divide_rows, divide_users, how_many, unit_of
from redteam.report.values import Unit, Users


@dataclass(frozen=True)
class Split:
    """Members and non-members of one training set, no text twice and none on both sides.

    `randomised`: every unit was included independently at random, with probability `inclusion` where that is known;
    `redrawn` says that this was drawn again and agrees. `alone` tells, members first, which texts stood in the data
    once: a repeated text put in several examples at once. `salt` keys the hashes
    in reports. `unit` is what was put in or left out as a whole, `users` how those of the rows stand, where known.
    """

    members: Examples
    nonmembers: Examples
    reference: Examples | None = None
    randomised: bool = False
    moved_out: int = 0
    duplicates: int = 0
    salt: str | None = None
    inclusion: float | None = None
    redrawn: bool = False
    alone: BoolArray | None = None
    unit: Unit = "example"
    users: Users | None = None

    @classmethod
    def of(
        cls,
        members: Examples,
        nonmembers: Examples,
        reference: Examples | None = None,
        *,
        randomised: bool = False,
        salt: str | None = None,
        inclusion: float | None = None,
        redrawn: bool = False,
        unit: Unit | None = None,
    ) -> "Split":
        """Divide `members`, `nonmembers` and `reference` honestly: no text on two sides, one of each repeated text.

        `salt` keys the hashes of reports. `randomised`, `inclusion` and `redrawn` are taken from the caller. Where the
        rows of users were put in or left out together (`unit`; None finds out), users on both sides are moved out
        instead, and all texts of several users. Raises DataError where fewer than 2 are left on either side,
        `inclusion` is no probability between 0 and 1, a row lacks its user, or a random split of whole users left one
        on both sides.
        """
        if inclusion is not None and not 0 < inclusion < 1:
            raise DataError(
                f"inclusion is {inclusion}; a probability of random inclusion lies between 0 and 1, both excluded"
            )
        owners, users, unit = unit_of(members.users, nonmembers.users, unit)
        if unit == "user" and randomised and users is not None and users.both:
            raise DataError(
                f"{users.both} users have rows on both sides: no random split of whole users put them there"
            )
        moved, duplicates, alone = 0, 0, None
        textless = members.texts is None or nonmembers.texts is None
        if not textless or unit == "user":
            keys = _keys(members, nonmembers, reference)
            found = divide_users(owners, *keys) if unit == "user" else divide_rows(*keys)
            members, nonmembers = members.take(found.inside), nonmembers.take(found.outside)
            moved, duplicates, alone = found.moved, found.duplicates, None if textless else found.alone
            reference = None if reference is None else reference.take(found.apart)
        sizes = len(members), len(nonmembers)
        if unit == "user" and users is not None:
            sizes = how_many(members.users), how_many(nonmembers.users)
            users = replace(users, members=sizes[0], nonmembers=sizes[1])
            unit = "user" if users.most > 1 else "example"  # a user with one row is an example
        check_enough(*sizes, unit, moved_out=moved)
        return cls(
            members, nonmembers, reference, randomised, moved, duplicates, salt, inclusion, redrawn, alone, unit, users
        )

    def pool(self, seed: int) -> tuple[Examples, BoolArray]:
        """Return members and non-members shuffled together by `seed`, and apart from them who is a member, bool [n]."""
        together = join(self.members, self.nonmembers)
        order = self._order(seed)
        return together.take(order), order < len(self.members)

    def stood_alone(self, seed: int) -> BoolArray | None:
        """Return which texts stood in the data once, in the order of `pool(seed)`; None where it is not known."""
        return None if self.alone is None else self.alone[self._order(seed)]

    def _order(self, seed: int) -> IntArray:
        return np.random.default_rng([seed, 0x9001]).permutation(len(self.members) + len(self.nonmembers))


def _keys(*sides: Examples | None) -> list[list[bytes]]:
    """Return the fingerprints of the texts of each side; a row without one has its own, as if none were like it."""
    return [
        [text_key(side.texts[row]) if side.texts else b"%d %d" % (i, row) for row in range(len(side))] if side else []
        for i, side in enumerate(sides)
    ]
