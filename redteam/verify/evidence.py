"""From scores to bounds on epsilon: score and threshold are chosen on one training, another one judges."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from redteam.core import TargetError
from redteam.statistics.epsilon import (
    EpsilonBound,
    Sampled,
    clopper_pearson_from_counts,
    gdp_from_counts,
    one_run,
    subsampled_from_counts,
)
from redteam.statistics.epsilon.rates import epsilon_from_rates, mu_from_rates
from redteam.verify.adversary import Scores
from redteam.verify.dirac_canaries import Inclusion

_THRESHOLDS = 400
_SPARE = 3  # canaries on the wrong side that a choice allows for beyond those it sees: few are so by luck
_CLEARLY = 1.03  # how much more a later score must show: among equals, chance would choose

Bound = Callable[..., npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Rule:
    """Canaries whose `score` is at or above `threshold` are said to be in."""

    score: str
    threshold: float

    def counts(self, scores: Scores, included: Inclusion) -> tuple[int, int, int, int]:
        """Return how many were found of those that were in, and how many of those that were not."""
        found = scores[self.score] >= self.threshold
        n_in = int(included.sum())
        return int((found & included).sum()), n_in, int((found & ~included).sum()), len(included) - n_in


@dataclass(frozen=True)
class Rules:
    """The rule for each bound that has one, fixed before the canaries that it is tried on were drawn."""

    clopper_pearson: Rule
    gdp: Rule


@dataclass(frozen=True)
class Shown:
    """The lower bounds that one training showed, and by which score; each is wrong at most alpha of the time.

    `subsampled` is None of a training that does not say that its steps are Gaussian noise on Poisson samples.
    """

    score: str
    clopper_pearson: EpsilonBound
    gdp: EpsilonBound
    one_run: EpsilonBound
    subsampled: EpsilonBound | None = None


def choose(scores: Scores, included: Inclusion, *, delta: float, alpha: float) -> Rules:
    """Return the rules with the largest bounds on a training whose canaries' inclusion is known."""
    for name, values in scores.items():
        if not bool(np.isfinite(values).all()):
            raise TargetError(f"the updates are so large that the score {name!r} overflows")
    return Rules(
        _best(scores, included, partial(epsilon_from_rates, delta=delta), alpha),
        _best(scores, included, mu_from_rates, alpha),
    )


def shown(
    scores: Scores, included: Inclusion, rules: Rules, *, delta: float, alpha: float, sampled: Sampled | None = None
) -> Shown:
    """Return the bounds on a training that had no part in the choice of the rules; `sampled` is how it says it is."""
    values, counts = scores[rules.clopper_pearson.score], rules.gdp.counts(scores, included)
    how: dict[str, Any] = {"delta": delta, "alpha": alpha}
    return Shown(
        rules.clopper_pearson.score,
        clopper_pearson_from_counts(*rules.clopper_pearson.counts(scores, included), **how),
        gdp_from_counts(*counts, **how),
        one_run(values[included], values[~included], **how),
        None if sampled is None else subsampled_from_counts(*counts, sampled=sampled, **how),
    )


def _best(scores: Scores, included: Inclusion, bound: Bound, alpha: float) -> Rule:
    best, most = Rule("", 0.0), -1.0
    for name, values in scores.items():
        ins, outs = np.sort(values[included]), np.sort(values[~included])
        tried = np.unique(np.concatenate([_thresholds(ins), _thresholds(outs)]))
        tp, fp = (len(side) - np.searchsorted(side, tried, side="left") for side in (ins, outs))
        tp, fp = np.maximum(tp - _SPARE, 0), np.minimum(fp + _SPARE, len(outs))
        bounds = bound(tp, len(ins), fp, len(outs), alpha)
        at = int(np.argmax(bounds))
        if bounds[at] > _CLEARLY * most:
            best, most = Rule(name, float(tried[at])), float(bounds[at])
    return best


def _thresholds(ordered: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return some of the sorted values, dense at both ends, where few lie beyond."""
    reach = np.log(len(ordered) + 1)
    share = 1 / (1 + np.exp(-np.linspace(-reach, reach, _THRESHOLDS // 2)))
    return ordered[np.clip(np.round(share * len(ordered)).astype(np.intp), 0, len(ordered) - 1)]
