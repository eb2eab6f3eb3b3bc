"""Does a target answer the texts in the order in which it is asked, and the same again?

A service that answers a batch in another order would pass every audit: its answers have nothing to do with the texts.
"""

import numpy as np

from redteam.core import TargetError
from redteam.core.arrays import BoolArray, FloatArray

_CLOSE = 1e-3  # of two logarithms: what batches of another size change, and no other model
_NOTHING = -69.0  # the logarithm of 1e-30, below which two probabilities are both none


def alike(before: FloatArray, now: FloatArray) -> BoolArray:
    """Tell which answers [..., k], labels or logarithms, are the same but for rounding; two refusals are."""
    with np.errstate(invalid="ignore"):  # two infinities
        close = (np.abs(before - now) <= _CLOSE) | ((before < _NOTHING) & (now < _NOTHING))
    return np.asarray((close | (np.isnan(before) & np.isnan(now))).all(axis=-1))


def check_order(name: str, before: FloatArray, now: FloatArray) -> tuple[str, ...]:
    """Compare the answers [n, k] to a batch with those to the same texts asked again in another order.

    Returns what to say of a target that answers otherwise. Raises TargetError where every answer is there again and
    many are another text's.
    """
    moved = int((~alike(before, now)).sum())
    if moved > len(now) // 4 and _same_ones(before, now):
        raise TargetError(
            f"{name}: answers a batch in another order than its texts ({moved} of {len(now)}, asked again and mixed, "
            "had the answer of another text); --batch-size 1 asks for one at a time"
        )
    if not moved:
        return ()
    return (
        f"{moved:,} of {len(now):,} texts that were asked again had another answer: it does not always say the same",
    )


def _same_ones(before: FloatArray, now: FloatArray) -> bool:
    """Tell whether each text can be given an answer of its own that is the same."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    same = csr_array(np.stack([alike(answer, now) for answer in before]))
    return bool((maximum_bipartite_matching(same, perm_type="column") >= 0).all())
