"""Epsilon of composed Gaussian steps: by privacy loss distributions, and by Rényi divergences as the cross-check.

Both come from dp-accounting. Privacy loss distributions are discretised pessimistically (Doroshenko et al. 2022,
"Connect the Dots", arXiv 2207.04380), so a coarser grid only says more; here the grid is refined until it no longer
shows, or until a finer one would cost seconds.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redteam.errors import UsageError

_ORDERS = (*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 256, 384, 512, 1024)
_MOST_LEVELS = 64  # of noise that are composed one by one
_FEW_ORDERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512)
_MOST_CELLS = 200_000  # of the privacy loss of one step
_WIDEST_CELL = 100.0  # of which the exponential is still a number, twice over


@dataclass(frozen=True, order=True)
class Event:
    """`steps` steps of the Gaussian mechanism, each on a Poisson sample at `rate` (1: on everything)."""

    rate: float
    noise_multiplier: float
    steps: int


@lru_cache(maxsize=1024)
def epsilon_by_pld(events: tuple[Event, ...], delta: float, near: float | None = None) -> float:
    """Return an upper bound on epsilon at `delta`, infinity where there is none.

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
    width = max(share * _composed("rdp", levels, delta, orders=_FEW_ORDERS), finest)
    if near is not None:
        width = max(8 * share * near, width / 10)
    while width <= _WIDEST_CELL:
        epsilon = _composed("pld", levels, delta, value_discretization_interval=width)
        wanted = max(share * epsilon, finest)
        if near is not None or width <= 1.5 * wanted or epsilon == math.inf:
            return epsilon
        width = wanted
    return epsilon_by_rdp(events, delta)


@lru_cache(maxsize=1024)
def epsilon_by_rdp(events: tuple[Event, ...], delta: float) -> float:
    """Return the looser upper bound on epsilon at `delta` by Rényi differential privacy of whole orders."""
    if not events:
        return 0.0
    if not all(event.noise_multiplier > 1e-100 for event in events):
        return math.inf
    return _composed("rdp", tuple(_rounded(events)), delta, orders=_ORDERS)


def _composed(kind: str, events: Iterable[Event], delta: float, **settings: Any) -> float:
    library = _dp_accounting()
    accountant = library.pld.PLDAccountant(**settings) if kind == "pld" else library.rdp.RdpAccountant(**settings)
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
        import dp_accounting.rdp
    except ImportError:
        raise UsageError("privacy accounting needs dp-accounting: pip install 'redteam[dp]'") from None
    return dp_accounting
