"""Epsilon from random inclusion in one training: which examples can serve as canaries, and what their guesses prove.

The method is `one_run` (T. Steinke, M. Nasr, M. Jagielski, 2023), the only one that is valid for one model whatever the
training does. It asks for inclusion with probability 1/2, so where it was another, examples are thinned until that of
those that are left is 1/2. A text that stood in the data more than once is no canary: it was included as several
examples, and the guarantee is about one. Where users were included with all of their rows, users are the canaries, and
the epsilon is theirs: it says nothing about one example, nor does one for examples about users.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from redteam.core.arrays import BoolArray, FloatArray
from redteam.data import Split, text_key
from redteam.report.values import Evidence, Guarantee
from redteam.statistics import Interval, thresholds
from redteam.statistics.epsilon import fair_inclusion, one_run

DELTA = 1e-5  # where no guarantee names one
_FEWEST = 2  # of either side


@dataclass(frozen=True, eq=False)
class Canaries:
    """The examples or users of the pool of fair inclusion (`kept`, in its order), and the delta to measure at."""

    kept: BoolArray
    members: int
    nonmembers: int
    delta: float

    def measure(
        self, attack: str, signal: str, scores: FloatArray, is_member: BoolArray, *, alpha: float, seed: int
    ) -> Evidence:
        """Return the lower bound on epsilon that one signal proves, wrong at most `alpha` of the time."""
        inside, outside = scores[self.kept & is_member], scores[self.kept & ~is_member]
        rule = thresholds.SingleSplit(seed=seed)
        bound = one_run(inside, outside, delta=self.delta, alpha=alpha, threshold=rule)
        interval = Interval(bound.low, bound.low, bound.attainable, alpha)
        sizes = self.members, self.nonmembers
        return Evidence(attack, signal, "epsilon", interval, *sizes, bound.attainable, delta=self.delta)


def fair_canaries(split: Split, is_member: BoolArray, guarantee: Guarantee | None, *, seed: int) -> Canaries | str:
    """Return the canaries among the pool of `split`, or why no epsilon can be measured on it.

    `is_member` is of the units of the split: its rows, or its users.
    """
    if not split.randomised:
        return "examples were not included at random"
    if split.inclusion is None:
        return "the probability with which examples were included is not known"
    users = split.unit == "user"  # each included by herself, whatever she wrote
    alone = np.ones(len(is_member), dtype=np.bool_) if users else split.stood_alone(seed)
    if alone is None:
        return "without the texts nothing tells which of them stood in the data more than once"
    kept = fair_inclusion(is_member, inclusion=split.inclusion, seed=_lots(split, seed)) & alone
    members, nonmembers = int((kept & is_member).sum()), int((kept & ~is_member).sum())
    if min(members, nonmembers) < _FEWEST:
        who = f"{members} members and {nonmembers} non-members"
        return f"{who} {'are users who' if users else 'stood in the data once and'} were included with probability 1/2"
    same = guarantee is not None and guarantee.accounted.covers(split.unit)
    return Canaries(kept, members, nonmembers, guarantee.accounted.delta if guarantee and same else DELTA)


def _lots(split: Split, seed: int) -> int:
    """Return what thinning is drawn from: `seed`, the texts of both sides, and the salt.

    The pool's order follows from the seed and the two sizes alone, so it would give each audit of such sizes the same
    lots; the texts say who was included.
    """
    digest = hashlib.blake2b(f"{seed} {split.salt}".encode(), digest_size=16)
    for side in (split.members, split.nonmembers):
        digest.update(b"".join(text_key(text) for text in side.texts or ()))
        digest.update(len(side).to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big")
