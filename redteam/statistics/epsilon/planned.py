"""Rules fixed before any score is seen: which canaries to call "in", from the claim and the number of canaries alone.

A rule chosen on the scores it judges has to be paid for, mostly by a half of the canaries (`redteam.statistics.
thresholds`). One that is planned costs nothing and any plan is valid; this one takes what would show most if the
mechanism were Gaussian and spent the claimed epsilon, or as much of that as an adversary is expected to see.

A threshold stands at a fixed rank of the canaries that were left out. Given their scores it is fixed, so that the count
above it of those that were in is binomial, and the share of all left-out ones above it is bounded as in
`thresholds.Bonferroni`. Guesses about inclusion are a fixed number at either end.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.optimize import brentq

from redteam.core import StatisticsError
from redteam.statistics import require_rate
from redteam.statistics.epsilon.bound import EpsilonBound, require_delta
from redteam.statistics.epsilon.gaussian import gdp_epsilon
from redteam.statistics.epsilon.guessing import Guesses, promise
from redteam.statistics.epsilon.one_run import one_run
from redteam.statistics.epsilon.one_run_fdp import one_run_fdp
from redteam.statistics.epsilon.rates import (
    clopper_pearson_from_counts,
    epsilon_from_rates,
    gdp_from_counts,
    mu_from_rates,
)
from redteam.statistics.epsilon.subsampled import Sampled, subsampled_from_counts
from redteam.statistics.ranking import Floats, finite_scores

FEWEST = 20  # canaries; with fewer no rule shows anything of interest
_SHARES = 80  # tried
_UNCLAIMED = 32.0  # what is planned for where nothing is claimed, which is mostly a training without noise
_MOST_MU = 10.0  # standard deviations; further apart no more is to be seen


@dataclass(frozen=True)
class PlannedRules:
    """The rule of each bound.

    `clopper_pearson` and `gdp` (also that of the noise that is ruled out) are shares of the left-out canaries at and
    above the threshold; `one_run`, for both bounds from one training, is how many canaries of either end to guess.
    """

    clopper_pearson: float
    gdp: float
    one_run: int

    def __post_init__(self) -> None:
        """Raise ValueError for what is no rule."""
        if not (0 < self.clopper_pearson < 1 and 0 < self.gdp < 1 and self.one_run >= 1):
            raise ValueError(f"not rules: {self.clopper_pearson}, {self.gdp}, {self.one_run}")


def plan(canaries: int, *, claim: float | None, delta: float, alpha: float, seen: float = 1.0) -> PlannedRules:
    """Return the rules for so many canaries, each in with probability 1/2, and a claimed epsilon at `delta` > 0.

    `seen` is the part of the signal, as a mean in standard deviations of the noise, that an adversary is expected to
    see; `claim` None plans for a training that claims nothing. Raises StatisticsError for fewer canaries than FEWEST.
    """
    require_delta(delta, positive=True)
    require_rate("alpha", alpha)
    if canaries < FEWEST:
        raise StatisticsError(f"{canaries} canaries; no bound shows anything of fewer than {FEWEST}")
    wanted = _UNCLAIMED if claim is None else claim
    most = gdp_epsilon(_MOST_MU, delta=delta)
    mu = seen * float(brentq(lambda x: gdp_epsilon(x, delta=delta) - min(wanted, most), 0.0, _MOST_MU + 1e-6))
    by_rates = partial(epsilon_from_rates, delta=delta)
    return PlannedRules(
        _share(by_rates, mu, canaries, alpha),
        _share(mu_from_rates, mu, canaries, alpha),
        _guesses(mu, canaries, delta, alpha),
    )


def _share(bound: Callable[..., Floats], mu: float, canaries: int, alpha: float) -> float:
    """Return the share of the left-out canaries at and above the threshold at which a bound on rates shows most."""
    half = max(1, canaries // 2)
    shares = 1 / (1 + np.exp(np.linspace(-0.5, math.log(half), _SHARES)))
    fp = np.minimum(np.ceil(half * shares), half).astype(np.int64)
    for each in _signals(mu):
        tp = np.floor(half * special.ndtr(each + special.ndtri(shares))).astype(np.int64)
        shown = bound(tp, half, fp, half, alpha)
        if shown.any():
            break
    return float(shares[int(np.argmax(shown))])


def _guesses(mu: float, canaries: int, delta: float, alpha: float) -> int:
    """Return how many canaries of either end to guess."""
    half = max(1, canaries // 2)
    certain = max(1, math.floor(half - 1.5 * math.sqrt(canaries)))  # 3 deviations of how many were in are no surprise
    guesses = np.unique(np.geomspace(1, certain, _SHARES).astype(np.int64))
    for each in _signals(mu):
        top = 2 * half * _right_at_top(each, guesses / (2 * half)) + 1e-6  # what is certain is so in spite of rounding
        right = np.minimum(np.floor(top), 2 * guesses).astype(np.int64)
        promised = promise(right, 2 * guesses, canaries, delta, alpha)
        if promised.max() >= 1.0:  # below it, nothing is shown
            break
    return int(guesses[int(np.argmax(promised))])


def _signals(mu: float) -> Iterator[float]:
    """Yield the signal to plan for, and larger ones in case so few canaries show nothing of that."""
    while mu < _MOST_MU:
        yield mu
        mu = max(1.2 * mu, 0.05)
    yield _MOST_MU


def planned_bounds(
    in_scores: npt.ArrayLike,
    out_scores: npt.ArrayLike,
    rules: PlannedRules,
    *,
    delta: float,
    alpha: float,
    sampled: Sampled | None = None,
    only: tuple[str, ...] = (),
) -> dict[str, EpsilonBound]:
    """Return each bound by its planned rule, by name, each wrong at most `alpha` of the time by itself.

    `sampled` adds the bound by the noise that is ruled out, "subsampled"; `only` names the bounds to make [default:
    all]. Raises StatisticsError for scores that are missing or not finite, or delta or alpha out of range.
    """
    members, others = finite_scores("in_scores", in_scores), finite_scores("out_scores", out_scores)
    usual = {"delta": delta, "alpha": alpha}
    found: dict[str, EpsilonBound] = {}
    for name, share, bound in (
        ("clopper_pearson", rules.clopper_pearson, clopper_pearson_from_counts),
        ("gdp", rules.gdp, gdp_from_counts),
    ):
        if not only or name in only:
            tp, n_in, fp, n_out = counts_at_rank(members, others, share)
            most = bound(n_in, n_in, fp, n_out, **usual).low  # the rank is fixed, and with it how many lie above
            found[name] = replace(bound(tp, n_in, fp, n_out, **usual), attainable=most)
    if sampled is not None and (not only or "subsampled" in only):
        counts = counts_at_rank(members, others, rules.gdp)
        found["subsampled"] = subsampled_from_counts(*counts, sampled=sampled, delta=delta, alpha=alpha)
    guesses = min(rules.one_run, (len(members) + len(others)) // 2)
    for name, run in (("one_run", one_run), ("one_run_fdp", one_run_fdp)):
        if not only or name in only:
            found[name] = run(members, others, threshold=Guesses(guesses, guesses), **usual)
    return found


def counts_at_rank(in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, share: float) -> tuple[int, int, int, int]:
    """Return how many of either side lie at or above the rank that leaves `share` of those left out there.

    In the order of `clopper_pearson_from_counts`. Equal scores, as those of canaries that nothing moved, are put in an
    order by lot, which the scores themselves draw: fixed lots would prefer one side in every audit of one size.
    """
    members, others = finite_scores("in_scores", in_scores), finite_scores("out_scores", out_scores)
    require_rate("share", share)
    scores = np.concatenate([members, others])
    digest = hashlib.blake2b(scores.tobytes() + len(members).to_bytes(8, "big"), digest_size=16).digest()
    lots = np.random.default_rng(int.from_bytes(digest, "big")).random(len(scores))
    places = np.empty(len(scores), dtype=np.int64)
    places[np.lexsort((lots, scores))] = np.arange(len(scores))
    inside, outside = places[: len(members)], np.sort(places[len(members) :])
    fp = min(len(others), max(1, round(share * len(others))))
    tp = int(np.count_nonzero(inside > outside[len(others) - fp]))
    return tp, len(members), fp, len(others)


def _right_at_top(mu: float, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return which part of the canaries in is among the highest `shares` of all, where being in moves them by mu."""
    t = np.linspace(mu + 8.0, -8.0, 4000)
    above: npt.NDArray[np.float64] = special.ndtr(mu - t)
    return np.interp(shares, (above + special.ndtr(-t)) / 2, above)
