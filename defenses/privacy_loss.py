"""Epsilon of composed Gaussian steps: three upper bounds, of which the smallest is one too.

- By privacy loss distributions, from dp-accounting: nearly always the smallest. They are discretised pessimistically
  (Doroshenko et al. 2022, "Connect the Dots", arXiv 2207.04380), so a coarser grid only says more; here the grid is
  refined until it no longer shows, or until a finer one would cost seconds. Their Fourier transforms round, so that
  below a delta of some 1e-12 they say nothing.
- By Rényi divergences (Mironov, Talwar, Zhang 2019, arXiv 1908.10530, section 3.3), turned into epsilon by proposition
  12 of Canonne, Kamath, Steinke 2020 (arXiv 2004.00010): finite for every delta above 0.
- Without amplification: what a sample leaves out can only help, so steps on everything spend no less. They are one
  Gaussian of mu^2 = sum 1 / sigma^2 (Dong, Roth, Su 2019), whose epsilon is known exactly (Balle, Wang 2018, arXiv
  1805.06530, theorem 8). Of steps that are on everything, and of passes that are not amplified, it is the truth.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from redteam.core import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PLD, RDP, GAUSSIAN = "PLD (dp-accounting)", "RDP", "Gaussian without amplification"

_BROKEN_ORDERS = (
    1.02,
    1.05,
    *(tenths / 10 for tenths in range(11, 60) if tenths % 10),
    *(n + 0.5 for n in range(6, 12)),
)
_ORDERS = (*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)
_MOST_LEVELS = 64  # of noise that are composed one by one
_ROUNDING = 1e-9  # of a Rényi divergence, relative; its series has positive terms only
_SURE_MU = (1e-4, 1e6)  # between which the exact formula loses less than 1e-9 to rounding
_MOST_CELLS = 200_000  # of the privacy loss of one step
_WIDEST_CELL = 100.0  # of which the exponential is still a number, twice over


@dataclass(frozen=True, order=True)
class Event:
    """`steps` steps of the Gaussian mechanism, each on a Poisson sample at `rate` (1: on everything)."""

    rate: float
    noise_multiplier: float
    steps: int


def smallest_epsilon(events: tuple[Event, ...], delta: float, near: float | None = None) -> tuple[float, str]:
    """Return the smallest upper bound on epsilon at `delta`, and which: PLD, RDP or GAUSSIAN; infinity without noise.

    Of equals the first of these. `near` as in `epsilon_by_pld`.
    """
    found = (
        (epsilon_by_pld(events, delta, near), PLD),
        (epsilon_by_rdp(events, delta), RDP),
        (epsilon_without_amplification(events, delta), GAUSSIAN),
    )
    return min(found, key=lambda bound: bound[0])


@lru_cache(maxsize=1024)
def epsilon_by_pld(events: tuple[Event, ...], delta: float, near: float | None = None) -> float:
    """Return an upper bound on epsilon at `delta`, infinity where it says nothing.

    It is tight to about 0.1 % up to epsilon 1,000, and looser the further it is past that, where it means nothing any
    more. On the way to an epsilon `near` which it is wanted, one coarser grid has to do (about 3 % too much there).
    """
    if not events:
        return 0.0
    if not all(event.noise_multiplier > 1e-100 for event in events):
        return math.inf
    steps = sum(event.steps for event in events)
    # Fourier transforms round: of delta, at most 1e-17 a step was ever seen to be lost. Ten times that is kept back.
    delta -= 1e-13 + 1e-16 * steps
    if not delta > 0:
        return math.inf
    levels = tuple(_rounded(events))
    # The loss of one step, to nine standard deviations: what lies beyond weighs less than what is cut off anyway.
    reach = max(0.5 / each.noise_multiplier**2 + 9 / each.noise_multiplier for each in levels)
    # Cells of width h add about z^2 T h^2 / 8 to epsilon^2, z = 4 or so: the share of it that adds 0.03 %.
    share, finest = min(3e-4, max(3e-6, 0.012 / math.sqrt(steps))), reach / _MOST_CELLS
    width = max(share * epsilon_by_rdp(levels, delta), finest)
    if near is not None:
        width = max(8 * share * near, width / 10)
    while width <= _WIDEST_CELL:
        epsilon = _composed(levels, delta, width)
        wanted = max(share * epsilon, finest)
        if near is not None or width <= 1.5 * wanted or epsilon == math.inf:
            return epsilon
        width = wanted
    return math.inf


@lru_cache(maxsize=1024)
def epsilon_by_rdp(events: tuple[Event, ...], delta: float) -> float:
    """Return an upper bound on epsilon at `delta` by Rényi differential privacy."""
    if not events:
        return 0.0
    if not all(event.noise_multiplier > 1e-100 for event in events):
        return math.inf
    import numpy as np

    orders = np.array(_BROKEN_ORDERS + _ORDERS)
    spent = sum(each.steps * _renyi(each.rate, each.noise_multiplier) for each in _rounded(events)) * (1 + _ROUNDING)
    if np.any(np.log1p(-(delta**2)) < -spent):  # total variation is sqrt(1 - exp(-KL)) at most
        return 0.0
    epsilon = spent + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return max(0.0, float(epsilon.min()))


@lru_cache(maxsize=1024)
def epsilon_without_amplification(events: tuple[Event, ...], delta: float) -> float:
    """Return the epsilon of these steps on everything, one Gaussian; infinity where rounding would show."""
    mu = math.hypot(*(math.sqrt(each.steps) / max(each.noise_multiplier, 1e-100) for each in events))
    if not events:
        return 0.0
    if not _SURE_MU[0] <= mu <= _SURE_MU[1]:
        return math.inf
    from scipy.special import log_ndtr

    def spends_more(epsilon: float) -> bool:
        one, other = float(log_ndtr(mu / 2 - epsilon / mu)), epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
        return one + math.log(max(-math.expm1(min(other - one, 0.0)), 1e-300)) > math.log(delta)

    low, high = 0.0, mu * (mu / 2 + math.sqrt(-2 * math.log(delta)))
    if not spends_more(low):
        return 0.0
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spends_more(middle) else (low, middle)
    return high * (1 + _ROUNDING)


@lru_cache(maxsize=4096)
def _renyi(rate: float, noise: float) -> "npt.NDArray[np.float64]":
    """Return the Rényi divergences of one step, of all orders: log A / (order - 1)."""
    import numpy as np

    orders = np.array(_BROKEN_ORDERS + _ORDERS)
    if rate == 1:
        return np.asarray(orders / (2 * noise**2))
    broken = [_log_moment(rate, noise, order) for order in _BROKEN_ORDERS]
    logs = np.array(broken + [_log_moment_of_whole(rate, noise, order) for order in _ORDERS])
    return np.asarray(logs / (orders - 1))


def _log_moment_of_whole(rate: float, noise: float, order: int) -> float:
    """Return log A, A = 1 + sum over i >= 2 of binomial(order, i) rate^i (1 - rate)^(order - i) (e^x_i - 1).

    x_i = i (i - 1) / 2 sigma^2. All terms are positive: no noise is so large that rounding could hide what is spent.
    """
    import numpy as np
    from scipy.special import gammaln, logsumexp

    i = np.arange(2.0, order + 1)
    ways = gammaln(order + 1) - gammaln(i + 1) - gammaln(order - i + 1)
    x = np.maximum(i * (i - 1) / (2 * noise**2), 1e-300)
    logs = ways + i * math.log(rate) + (order - i) * math.log1p(-rate) + x + np.log(-np.expm1(-x))
    return float(np.logaddexp(0.0, logsumexp(logs)))


def _log_moment(rate: float, noise: float, order: float) -> float:
    """Return log A, A = E (1 - rate + rate e^((2 z - 1) / 2 sigma^2))^order, z normal of deviation sigma.

    By the trapezoidal rule, exact to rounding since the integrand is analytic up to pi sigma^2 from the real line; what
    rounding could take away is added. Infinity where it would be long.
    """
    import numpy as np

    if not 0.01 <= noise <= 1e6:
        return math.inf
    step = min(noise / 4, noise**2 / 2)
    z = np.arange(-12 * noise, order + 12 * noise, step)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * noise**2))
    logs = order * ratio - z**2 / (2 * noise**2) + math.log(step / noise) - math.log(2 * math.pi) / 2
    return float(np.logaddexp(np.logaddexp.reduce(logs), math.log(1e-10)))


def _composed(events: Iterable[Event], delta: float, width: float) -> float:
    library = _dp_accounting()
    accountant = library.pld.PLDAccountant(value_discretization_interval=width)
    for event in events:
        step = library.GaussianDpEvent(event.noise_multiplier)
        sampled = library.PoissonSampledDpEvent(event.rate, step) if event.rate < 1 else step
        accountant.compose(sampled, event.steps)
    return max(0.0, float(accountant.get_epsilon(delta)))


def _rounded(events: tuple[Event, ...]) -> Iterator[Event]:
    """Yield the events with at most so many levels of noise, each rounded down: less noise never spends less."""
    noises = sorted({event.noise_multiplier for event in events})
    if len(noises) <= _MOST_LEVELS:
        yield from events
        return
    least, width = noises[0], math.log(noises[-1] / noises[0]) / (_MOST_LEVELS - 1)
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        level = least * math.exp(width * math.floor(math.log(event.noise_multiplier / least) / width))
        steps[event.rate, min(event.noise_multiplier, level)] += event.steps
    for (rate, noise), count in sorted(steps.items()):
        yield Event(rate, noise, count)


def _dp_accounting() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
    except ImportError:
        raise UsageError("privacy accounting needs dp-accounting: pip install '.[dp]'") from None
    return dp_accounting
