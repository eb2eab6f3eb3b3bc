"""What a sample could ever show, from its size alone.

Standard library only, so that a saved report can be judged without the ML stack.

A perfect attack separates the members from the non-members completely. The lower bound it would get is the
largest attainable bound of the sample: a limit at or above it cannot be found broken, whatever the model does.
`alpha` is always the two-sided error of the interval, as given to `auc_interval` and `tpr_at_fpr`.
"""

import math
from collections.abc import Callable

from redteam.core.errors import StatisticsError

_FEWEST = 2  # on either side; with fewer there is no interval
_MOST = 10**9  # on either side; beyond it "no sample would do" is the honest answer
_STEPS = 60  # of a bisection; fewer where the two ends agree


def require_rate(name: str, value: float) -> float:
    """Return `value` where it lies strictly between 0 and 1; raise StatisticsError where it does not."""
    if not 0.0 < value < 1.0:  # written so that NaN fails too
        raise StatisticsError(f"{name} is {value}; it must lie between 0 and 1, both excluded")
    return value


def tpr_share(alpha: float) -> float:
    """Return the error that one of the four bounds inside a TPR interval may spend.

    Each side of the interval needs a bound on the threshold and a bound on the members above it.
    """
    return require_rate("alpha", alpha) / 4


def smallest_resolvable_fpr(n: int, *, alpha: float = 0.05) -> float:
    """Return the smallest false-positive rate at which `n` non-members can support a TPR above 0.

    Below it, not even the highest non-member score is above the true threshold with enough confidence, and
    `tpr_at_fpr(..., alpha=alpha)` has the lower end 0: (1 - fpr)^n > alpha / 4, some 4.4 / n at 5 %.
    """
    return 1.0 if n < 1 else -math.expm1(math.log(tpr_share(alpha)) / n)


def attainable_auc(members: int, nonmembers: int, *, alpha: float) -> float:
    """Return the lower bound on the AUC that complete separation of so many examples supports.

    It is (alpha / 2)^(1 / min(members, nonmembers)), and no valid bound can be higher: where a share 1 - AUC
    of the smaller group scores on the wrong side of the whole other group, all of a sample misses that share
    with probability AUC^min. 0 below two examples on either side, where there is no interval.
    """
    smaller = min(members, nonmembers)
    return _root(require_rate("alpha", alpha) / 2, smaller) if smaller >= _FEWEST else 0.0


def attainable_tpr(members: int, nonmembers: int, *, fpr: float, alpha: float) -> float:
    """Return the lower bound on the TPR at `fpr` that complete separation of so many examples supports.

    0 where so few non-members cannot resolve `fpr`; otherwise Clopper and Pearson (1934) with every member
    found.
    """
    require_rate("fpr", fpr)
    if min(members, nonmembers) < _FEWEST or fpr < smallest_resolvable_fpr(nonmembers, alpha=alpha):
        return 0.0
    return _root(tpr_share(alpha), members)


def attainable_epsilon(members: int, nonmembers: int, *, delta: float, alpha: float) -> float:
    """Return the lower bound on epsilon that right guesses about so many canaries support, with error `alpha`.

    One half of the canaries chooses how many to guess, the other is guessed at: with all n of its guesses right the
    p-value of (epsilon, delta)-DP is q^n + 2 n delta max over i of P[1 <= Bin(n, 1 - q) <= i] / i, q = e^epsilon / (1 +
    e^epsilon) (T. Steinke, M. Nasr, M. Jagielski, 2023). 0 below two canaries. Unlike the other intervals', `alpha`
    is one-sided: no attack bounds epsilon from above.
    """
    require_rate("alpha", alpha)
    canaries = members + nonmembers
    if canaries < _FEWEST:
        return 0.0
    n = canaries - first_part(canaries, 0.5)
    return largest_rejected(lambda epsilon: _all_right(epsilon, n, delta) < alpha)


def whole_secrets_p_value(hits: int, canaries: int, left: int) -> float:
    """Return the chance of so many whole secrets or more from guesses that know nothing of what was planted.

    The tail of Binomial(canaries, 1 / left). `left` secrets are still possible for one canary once all others that are
    in the data are known, those of decoys and users too. Take the guesses as given, however they hang together: all the
    same, all different, whatever a model likes. Secrets are dealt uniformly and independently of them, so look at one
    canary after the other: given the secrets before it, its own is uniform over `left` values at least, and its guess
    is right with a chance of 1 / left at most, whatever came before. So the number of hits is at most binomial in the
    stochastic order. Guesses that depend on the secrets of other canaries tested with them are not covered: two that
    each guess from the other's secret can be right together.
    """
    if not 0 <= hits <= canaries:
        raise StatisticsError(f"{hits} whole secrets of {canaries} canaries")
    if hits == 0 or left <= 1:
        return 1.0
    right = -math.log(left)
    wrong = math.log1p(-math.exp(right))
    total = 0.0
    for k in range(canaries, hits - 1, -1):  # the smallest first
        ways = math.lgamma(canaries + 1) - math.lgamma(k + 1) - math.lgamma(canaries - k + 1)
        total += math.exp(ways + k * right + (canaries - k) * wrong)
    return min(1.0, total)


def fewest_canaries(alpha: float, *, left: int | None = None) -> int:
    """Return the number of canaries below which nothing can be proven, one-sided, at `alpha`, whatever is extracted.

    By a win over every held-out secret; with `left`, as in `whole_secrets_p_value`, also by whole secrets.
    """
    by_sign = math.ceil(-math.log2(require_rate("alpha", alpha)))
    if left is None:
        return by_sign
    enough = (n for n in range(1, by_sign) if whole_secrets_p_value(n, n, left) <= alpha)
    return next(enough, by_sign)


def attainable_extraction_rate(canaries: int, *, alpha: float) -> float:
    """Return the lower bound on the extraction rate that supports it best: every one of so many secrets is extracted.

    Clopper and Pearson (1934).
    """
    return _root(require_rate("alpha", alpha) / 2, canaries)


def first_part(n: int, fraction: float) -> int:
    """Return how many of n canaries choose where `fraction` do: at least one, and not all."""
    return min(max(1, round(fraction * n)), n - 1)


def largest_rejected(rejected: Callable[[float], bool]) -> float:
    """Return where hypotheses 0 <= x stop being rejected, from below: 0 where not even 0 is."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2.0 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rejected(middle) else (low, middle)
        if high - low <= 1e-9 * high:
            break
    return low


def auc_examples_needed(limit: float, *, alpha: float) -> tuple[int, int] | None:
    """Return the fewest members and non-members, as many of each, whose attainable AUC exceeds `limit`; or None.

    None where no 10^9 do. The attainable AUC is that of the smaller group.
    """
    both = _smallest(lambda n: attainable_auc(n, n, alpha=alpha) > limit)
    return None if both is None else (both, both)


def tpr_examples_needed(limit: float, *, fpr: float, alpha: float) -> tuple[int, int] | None:
    """Return the fewest members and non-members whose attainable TPR at `fpr` exceeds `limit`; None where no 10^9 do.

    Each on its own: the non-members must resolve the FPR, and the members must carry the bound.
    """
    members = _smallest(lambda m: attainable_tpr(m, _MOST, fpr=fpr, alpha=alpha) > limit)
    nonmembers = _smallest(lambda n: attainable_tpr(_MOST, n, fpr=fpr, alpha=alpha) > limit)
    return None if members is None or nonmembers is None else (members, nonmembers)


def _all_right(epsilon: float, n: int, delta: float) -> float:
    """Return the p-value of (epsilon, delta)-DP where all n guesses are right."""
    log_q = -math.log1p(math.exp(-epsilon))
    log_rest = log_q - epsilon
    beta = math.exp(n * log_q)
    mean = n * math.exp(log_rest)
    i = max(1, int(mean - 12 * math.sqrt(mean)) - 12)  # fewer wrong guesses have no chance to speak of
    within = worst = 0.0
    while delta > 0 and i <= n:
        choose = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        mass = math.exp(choose + (n - i) * log_q + i * log_rest)
        within += mass
        worst = max(worst, within / i)
        if i > mean and mass < worst:  # masses only fall from here, and with them their average
            break
        i += 1
    return min(1.0, beta + 2.0 * n * delta * worst)


def _root(probability: float, n: int) -> float:
    return math.exp(math.log(probability) / n)


def _smallest(holds: Callable[[int], bool]) -> int | None:
    """Return the smallest n for which a condition holds that, once true, stays true."""
    high = _FEWEST
    while not holds(high):
        if high == _MOST:
            return None
        high = min(2 * high, _MOST)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return max(high, _FEWEST)
