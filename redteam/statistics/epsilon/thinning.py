"""Fair inclusion out of one that was not: what the one-run bounds need where its probability was not 1/2."""

import hashlib

import numpy as np
import numpy.typing as npt

from redteam.core import StatisticsError
from redteam.statistics import require_rate

Bools = npt.NDArray[np.bool_]


def fair_inclusion(is_member: npt.ArrayLike, *, inclusion: float, seed: int) -> Bools:
    """Return which canaries to keep so that each kept one was included with probability 1/2.

    `is_member`: shape (n,), booleans, each True independently with the known probability `inclusion`, p. Those in are
    kept with probability min(1, (1 - p) / p), those out with min(1, p / (1 - p)), each on its own. "In and kept" and
    "out and kept" then both have probability min(p, 1 - p): given that it was kept, a canary was in with probability
    1/2, and as all draws are independent, so is the inclusion of the kept ones, given which were kept and all about the
    others. The others become fixed data. The lots follow from `seed` and who was included together: lots of a seed
    alone would keep the same places in every audit of one size, with an offset that never averages out. Give a seed
    that holds a fingerprint of the data where the order of `is_member` tells only how many were in. Raises
    StatisticsError where `inclusion` is not strictly within (0, 1).
    """
    p = require_rate("inclusion", inclusion)
    member = np.asarray(is_member)
    if member.ndim != 1 or member.dtype != np.bool_:
        raise StatisticsError(f"is_member has shape {member.shape} and type {member.dtype}; give booleans, shape (n,)")
    keep = np.where(member, min(1.0, (1.0 - p) / p), min(1.0, p / (1.0 - p)))
    digest = hashlib.blake2b(member.tobytes(), digest_size=16).digest()
    rng = np.random.default_rng([seed, 0xFA12, int.from_bytes(digest, "big")])
    return np.asarray(rng.random(len(member)) < keep)
