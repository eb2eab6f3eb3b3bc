"""What a sample could ever show, from its size alone: standard library only, so that a saved report can be judged.

A perfect attack separates the members from the non-members completely. The lower bound it would get is the ceiling
of the sample: a limit at or above the ceiling cannot be found broken, whatever the model does.
"""

import math
from statistics import NormalDist

_MOST = 10**9  # examples on either side; beyond it "no sample would do" is the honest answer


def smallest_resolvable_fpr(n: int, *, alpha: float = 0.05) -> float:
    """Return the smallest false-positive rate at which `n` non-members can support a lower bound on the TPR.

    Below it, even the highest non-member score is not above the true threshold with confidence 1 - alpha:
    (1 - fpr)^n > alpha, some 3/n at 5 %.
    """
    return 1.0 if n < 1 else -math.expm1(math.log(alpha) / n)
