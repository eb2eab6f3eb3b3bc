"""What choosing a threshold on the same data costs.

A bound that holds at a threshold fixed in advance does not hold at the threshold that looks best: the best of
many is best partly by luck. Each strategy here turns a bound for a fixed threshold into one number that is
wrong at most `alpha` of the time, and pays for the choice in its own way. An example counts as found where
its score is at or above the threshold.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from redteam.core import StatisticsError
from redteam.statistics import first_part, require_rate
from redteam.statistics.ranking import Counts, Floats, finite_scores

_CANDIDATES = 500  # thresholds tried on the half that chooses; any choice is valid there, so a few hundred do


class Bound(Protocol):
    """A lower bound on leakage from the counts at one fixed threshold, for arrays of counts."""

    def __call__(self, tp: Counts, n_in: int, fp: Counts, n_out: int, alpha: float) -> Floats:
        """Return bounds of the shape of `tp` and `fp`, each wrong at most `alpha` of the time, none NaN.

        Not falling as `tp` grows, and not rising as `fp` grows.
        """


class ThresholdStrategy(ABC):
    """A way to pick thresholds that keeps the error of the bound."""

    @abstractmethod
    def lower_bound(self, in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, bound: Bound, *, alpha: float) -> float:
        """Return a lower bound on leakage that is wrong at most `alpha` of the time.

        `in_scores`: shape (n_in,), scores of members; `out_scores`: shape (n_out,), of non-members; higher
        says "member". Raises StatisticsError for NaN or infinite scores, too few of them, or alpha not within
        (0, 1).
        """

    @abstractmethod
    def attainable(self, n_in: int, n_out: int, bound: Bound, *, alpha: float) -> float:
        """Return the largest lower bound that so many scores could ever give: that of complete separation."""


@dataclass(frozen=True)
class Explicit(ThresholdStrategy):
    """One threshold, fixed before the scores were seen: costs nothing."""

    threshold: float

    def __post_init__(self) -> None:
        """Raise StatisticsError where the threshold is not a number."""
        if not np.isfinite(self.threshold):
            raise StatisticsError(f"threshold is {self.threshold}; give a finite number")

    def lower_bound(self, in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, bound: Bound, *, alpha: float) -> float:
        """Return the bound at the threshold."""
        return Bonferroni((self.threshold,)).lower_bound(in_scores, out_scores, bound, alpha=alpha)

    def attainable(self, n_in: int, n_out: int, bound: Bound, *, alpha: float) -> float:
        """Return the bound where every member and no non-member is found."""
        return _most(n_in, 0, n_out, bound, alpha)


@dataclass(frozen=True)
class SingleSplit(ThresholdStrategy):
    """Choose on a random part of the scores, bound on the rest: costs the part that chose.

    `fraction` of the members and of the non-members choose.
    """

    seed: int
    fraction: float = 0.5

    def __post_init__(self) -> None:
        """Raise StatisticsError where one part would be empty."""
        require_rate("fraction", self.fraction)

    def lower_bound(self, in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, bound: Bound, *, alpha: float) -> float:
        """Return the bound on the second part, at the threshold that was best on the first."""
        members, others = _both(in_scores, out_scores, alpha, fewest=2)
        rng = np.random.default_rng(self.seed)
        chooses_in, judges_in = _cut(members, self.fraction, rng)
        chooses_out, judges_out = _cut(others, self.fraction, rng)
        candidates = _candidates(np.sort(np.concatenate([chooses_in, chooses_out])))
        # At the level of one of many: at alpha, some threshold far out would often look best by luck alone.
        strict = alpha / len(candidates)
        best = candidates[np.argmax(_at(candidates, chooses_in, chooses_out, bound, strict))]
        return float(_at(np.array([best]), judges_in, judges_out, bound, alpha)[0])

    def attainable(self, n_in: int, n_out: int, bound: Bound, *, alpha: float) -> float:
        """Return the bound where the second part is separated completely."""
        return _most(n_in - first_part(n_in, self.fraction), 0, n_out - first_part(n_out, self.fraction), bound, alpha)


HALVES = SingleSplit(seed=0)


@dataclass(frozen=True)
class MultiSplit(ThresholdStrategy):
    """The median over many splits, each at alpha / 2: steadier than one split, for twice the error.

    Valid since the median can be wrong only where half of the splits are wrong at once, and by Markov's
    inequality that happens at most 2 x alpha / 2 of the time, however the splits depend on each other. N.
    Meinshausen, L. Meier, P. Bühlmann, "p-values for high-dimensional regression", JASA 104, 2009.
    """

    seed: int
    splits: int = 25
    fraction: float = 0.5

    def __post_init__(self) -> None:
        """Raise StatisticsError where there is nothing to split or nothing to repeat."""
        require_rate("fraction", self.fraction)
        if self.splits < 1:
            raise StatisticsError(f"splits is {self.splits}; at least 1 is needed")

    def lower_bound(self, in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, bound: Bound, *, alpha: float) -> float:
        """Return the median of the bounds of `splits` splits, the lower of the two middle ones if even."""
        members, others = _both(in_scores, out_scores, alpha, fewest=2)
        seeds = np.random.SeedSequence(self.seed).generate_state(self.splits, np.uint64)
        bounds = [
            SingleSplit(int(seed), self.fraction).lower_bound(members, others, bound, alpha=alpha / 2) for seed in seeds
        ]
        return sorted(bounds)[(self.splits - 1) // 2]

    def attainable(self, n_in: int, n_out: int, bound: Bound, *, alpha: float) -> float:
        """Return that of a single split at alpha / 2."""
        return SingleSplit(self.seed, self.fraction).attainable(n_in, n_out, bound, alpha=alpha / 2)


@dataclass(frozen=True)
class Bonferroni(ThresholdStrategy):
    """The best of k thresholds, each at alpha / k: uses every score, costs a log of k.

    `thresholds` is a tuple fixed in advance, or how many to take at fixed ranks of the non-members, dense at
    both ends. Fixed ranks keep the level for a bound made of a Clopper-Pearson lower limit on the TPR and an
    upper limit on the FPR. Given the non-members such a threshold is fixed, so the members' count is
    binomial. The FPR above the r-th of n non-members has the distribution Beta(r, n - r + 1), which an upper
    limit from Beta(r + 1, n - r) covers; where scores tie, it covers at the first tie that the count reaches,
    and from there on the count only grows.

    Quantiles of the pooled scores look more neutral, but there each group's count depends on the other's, and
    with ties we know of no such argument. A bound of any other make needs thresholds fixed in advance, or a
    split.
    """

    thresholds: tuple[float, ...] | int

    def __post_init__(self) -> None:
        """Raise StatisticsError where there is no threshold to try."""
        given = self.thresholds
        usable = given >= 1 if isinstance(given, int) else len(given) > 0 and bool(np.all(np.isfinite(given)))
        if not usable:
            raise StatisticsError(f"thresholds is {given}; give finite numbers, or how many (at least 1)")

    def lower_bound(self, in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, bound: Bound, *, alpha: float) -> float:
        """Return the best bound over the thresholds, each at alpha over their number."""
        members, others = _both(in_scores, out_scores, alpha, fewest=1)
        if isinstance(self.thresholds, int):
            tried = np.sort(others)[_ranks(len(others), self.thresholds)]
        else:
            tried = np.array(self.thresholds, dtype=np.float64)
        return float(_at(tried, members, others, bound, alpha / len(tried)).max())

    def attainable(self, n_in: int, n_out: int, bound: Bound, *, alpha: float) -> float:
        """Return the bound where the best threshold finds every member and as few non-members as it can.

        At the rank of a non-member that is this non-member and all above it.
        """
        if not isinstance(self.thresholds, int):
            return _most(n_in, 0, n_out, bound, alpha / len(self.thresholds))
        ranks = _ranks(n_out, self.thresholds)
        return _most(n_in, n_out - int(ranks[-1]), n_out, bound, alpha / len(ranks))


def _both(in_scores: npt.ArrayLike, out_scores: npt.ArrayLike, alpha: float, *, fewest: int) -> tuple[Floats, Floats]:
    require_rate("alpha", alpha)
    members = finite_scores("in_scores", in_scores, fewest=fewest)
    return members, finite_scores("out_scores", out_scores, fewest=fewest)


def _at(thresholds: Floats, members: Floats, others: Floats, bound: Bound, alpha: float) -> Floats:
    """Return the bound at each threshold, shape (thresholds,)."""
    return bound(_found(members, thresholds), len(members), _found(others, thresholds), len(others), alpha)


def _found(scores: Floats, thresholds: Floats) -> Counts:
    """Return how many scores are at or above each threshold."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")).astype(np.int64)


def _cut(scores: Floats, fraction: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a random `fraction` of the scores, at least one, and the rest, at least one."""
    shuffled = rng.permutation(scores)
    first = first_part(len(scores), fraction)
    return shuffled[:first], shuffled[first:]


def _most(n_in: int, fp: int, n_out: int, bound: Bound, alpha: float) -> float:
    return float(bound(np.array([n_in]), n_in, np.array([fp]), n_out, alpha)[0])


def _candidates(ordered: Floats) -> Floats:
    return np.unique(ordered[_ranks(len(ordered), _CANDIDATES)])


def _ranks(n: int, count: int) -> npt.NDArray[np.intp]:
    """Return at most `count` different indices into n sorted scores, evenly spaced in log odds.

    Leakage sits where few non-members, or few members, are on the wrong side: there the ranks are dense. They
    depend on n and count alone.
    """
    if count >= n:
        return np.arange(n)
    reach = np.log(n)
    share = 1.0 / (1.0 + np.exp(-np.linspace(-reach, reach, count))) if count > 1 else np.array([0.5])
    return np.unique(np.clip(np.round(share * n).astype(np.intp) - 1, 0, n - 1))
