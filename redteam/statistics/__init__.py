"""Arrays in, intervals out: what membership scores prove, with every error probability accounted for.

This module is standard library only, so that a saved report can be judged without the ML stack: an interval, what a
sample could ever show, and whether a model has learned anything.

A perfect attack separates the members from the non-members completely. The lower bound it would get is the
largest attainable bound of the sample: a limit at or above it cannot be found broken, whatever the model does.
`alpha` is always the two-sided error of the interval, as given to `auc_interval` and `tpr_at_fpr`.

A model that learned nothing has nothing to leak, and what attacks fail to find in it says nothing about one that did:
with the labels of another data set, another model's tokens or a training that failed, everything looks private. So a
model counts as trained where it is right on its own members more often than always answering their commonest label
would be, by an exact binomial test at 5 % (the lower end of Clopper and Pearson's one-sided 95 % interval lies above
that label's share). Thirty members suffice for a good model. Where all members have one label, no accuracy shows it.

Rows of one user are no independent draws, and that test would take a model that answers by user for a trained one. So
where rows name users who have several, each user counts once, by her shares: those lie in [0, 1], and the wealth of
bets on each lying above the commonest label's share multiplies by 1 / ALPHA at most with chance ALPHA where their mean
does not (an e-value; Waudby-Smith and Ramdas 2024, arXiv 2010.09686). Ten users suffice for a good model.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from redteam.core import StatisticsError

_FEWEST = 2  # on either side; with fewer there is no interval
MOST = 10**9  # on either side; beyond it "no sample would do" is the honest answer
_STEPS = 60  # of a bisection; fewer where the two ends agree
ALPHA = 0.05
POWER = 0.8  # of the smallest leak that an audit says it would have proven
_STAKES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the most that can be bet, fixed before any share is seen
MOST_EVIDENCE = 1e12  # what a file says of more evidence than anybody needs
_SURE = 1e-4  # of a model that is worse than the commonest label, as no untrained one is


@dataclass(frozen=True)
class Interval:
    """A measured value with a confidence interval that misses the truth at most `alpha` of the time."""

    value: float
    low: float
    high: float
    alpha: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:  # written so that NaN fails too
            raise ValueError(f"not an interval: {self.low} <= {self.value} <= {self.high}")


def require_rate(name: str, value: float) -> float:
    """Return `value` where it lies strictly between 0 and 1; raise StatisticsError where it does not."""
    if not 0.0 < value < 1.0:  # written so that NaN fails too
        raise StatisticsError(f"{name} is {value}; it must lie between 0 and 1, both excluded")
    return value


def normal_quantile(probability: float) -> float:
    """Return the quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def two_sided(error: float) -> float:
    """Return the alpha of an interval either end of which may miss that often."""
    return min(2 * error, 0.999)


def end_shares(error: float) -> tuple[float, float]:
    """Return how the error of a TPR's lower end is shared over the two ranks of `threshold_ranks`."""
    return 0.75 * error, 0.25 * error


def threshold_ranks(n: int, fpr: float) -> tuple[int, int]:
    """Return the rank at the FPR, and one so far inside that the true threshold is seldom further: at least 1 each."""
    expected = n * fpr
    inside = expected - 3.0 * math.sqrt(expected * (1 - fpr))
    return min(n, max(1, math.ceil(expected - 1e-9))), min(n, max(1, math.floor(inside)))


def smallest_resolvable_fpr(n: int, *, alpha: float = 0.05) -> float:
    """Return the smallest false-positive rate at which a perfect attack on `n` non-members proves a TPR of one half.

    With no non-member among the members, the share above the threshold is below 1 - error^(1 / n), some 5 / n at 5 %;
    an adversary who accuses half of those above it accuses half as many.
    """
    error = end_shares(require_rate("alpha", alpha) / 2)[1]
    return 1.0 if n < 1 else -math.expm1(math.log(error) / n) / 2


def attainable_auc(members: int, nonmembers: int, *, alpha: float) -> float:
    """Return the lower bound on the AUC that complete separation of so many examples supports.

    It is (alpha / 2)^(1 / min(members, nonmembers)), and no valid bound can be higher: where a share 1 - AUC
    of the smaller group scores on the wrong side of the whole other group, all of a sample misses that share
    with probability AUC^min. 0 below two examples on either side, where there is no interval.
    """
    smaller = min(members, nonmembers)
    return _root(require_rate("alpha", alpha) / 2, smaller) if smaller >= _FEWEST else 0.0


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
    both = smallest_size(lambda n: attainable_auc(n, n, alpha=alpha) > limit)
    return None if both is None else (both, both)


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


def smallest_size(holds: Callable[[int], bool]) -> int | None:
    """Return the smallest n for which a condition holds that, once true, stays true."""
    high = _FEWEST
    while not holds(high):
        if high == MOST:
            return None
        high = min(2 * high, MOST)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return max(high, _FEWEST)


def has_learned(right: float, of: int, commonest: float) -> bool:
    """Tell whether `right` of `of` members are significantly more than the share `commonest` of them; NaN never is."""
    return 0 <= commonest < 1 and commonest * of < right <= of and _at_least(round(right), of, commonest) <= ALPHA


def fewest_right(of: int, commonest: float) -> int | None:
    """Return how many of `of` members must be right to show that something was learned; None where none suffice."""
    low, high = math.floor(commonest * of), of
    if not has_learned(of, of, commonest):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_learned(middle, of, commonest) else (middle, high)
    return high


def wealth(shares: Sequence[float], commonest: float) -> float:
    """Return the evidence that the mean of users' shares of right rows lies above `commonest`: an e-value.

    The mean over fixed stakes of what betting on each share, in [0, 1], has made of 1; 0 where nothing can be bet.
    """
    if not 0 < commonest < 1:
        return 0.0
    bets = [stake / commonest for stake in _STAKES]
    logs = [math.fsum(math.log1p(bet * (share - commonest)) for share in shares) for bet in bets]
    if not all(math.isfinite(log) for log in logs):
        return 0.0
    return min(MOST_EVIDENCE, sum(math.exp(min(log, 100.0)) for log in logs) / len(logs))


def users_show(evidence: float) -> bool:
    """Tell whether a `wealth` shows that something was learned; NaN never does."""
    return evidence >= 1 / ALPHA


def least_share(users: int, commonest: float) -> float | None:
    """Return which share of rows must be right, of all users alike, to show it; None where not even all would do."""
    if not users_show(wealth([1.0] * users, commonest)):
        return None
    low, high = commonest, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if users_show(wealth([middle] * users, commonest)) else (middle, high)
    return high


def surely_worse(right: float, of: int, commonest: float) -> bool:
    """Tell whether `right` of `of` members are far fewer than always answering the commonest label would get."""
    if not (0 < commonest <= 1 and 0 <= right < commonest * of):
        return False
    return _at_least(of - round(right), of, 1 - commonest) <= _SURE


def same_share(first: int, second: int, of_first: int, of_second: int) -> float:
    """Return the p-value of one share for both sides, two-sided, from so many of each (Fisher's exact test)."""
    total = first + second
    low, high = max(0, total - of_second), min(total, of_first)
    if not 0 <= low <= first <= high:
        return 1.0

    def log(k: int) -> float:
        return _choose(of_first, k) + _choose(of_second, total - k) - _choose(of_first + of_second, total)

    seen = log(first) + 1e-9
    mode = min(high, max(low, (of_first + 1) * (total + 1) // (of_first + of_second + 2)))
    below = bisect.bisect_right(range(low, mode), seen, key=log) + low  # counts below it are as rare, and those from
    above = bisect.bisect_left(range(mode, high + 1), -seen, key=lambda k: -log(k)) + mode
    rare = itertools.chain(_falling(log, range(below - 1, low - 1, -1)), _falling(log, range(above, high + 1)))
    return min(1.0, math.fsum(rare))


def _falling(log: Callable[[int], float], counts: range) -> Iterator[float]:
    """Yield chances that fall from one count to the next, until nothing is left that could be seen in their sum."""
    most = log(counts[0]) if counts else 0.0
    yield from itertools.takewhile(lambda p: p > math.exp(max(most, -700.0) - 45.0), (math.exp(log(k)) for k in counts))


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _at_least(k: int, n: int, p: float) -> float:
    """Return P[Bin(n, p) >= k] for k above the mean n p, exact but for rounding."""
    if not 0 < p < 1:
        return float(k <= 0 or p >= 1)
    odds, mode = p / (1 - p), int((n + 1) * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    total, term = 0.0, math.exp(log)
    for i in range(k, n + 1):
        total += term
        if i > mode and term <= total * 1e-17:  # from here on, terms only fall
            break
        term *= (n - i) / (i + 1) * odds
    return min(1.0, total)
