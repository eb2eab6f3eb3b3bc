"""Does the AUC interval miss the truth at most alpha of the time, where other intervals fail?

Observed: no population here misses more than alpha / 2 on either side beyond simulation error, and most miss
less. At 25+25 and alpha 0.05, DeLong on the logit scale with a Welch t misses 40 % of the time for "nearly
separated" and 51 % for "3 % fallen". Newcombe's method 5 as an envelope mends those and leaves 7 % above for
"10 % fallen".
"""

from unittest import mock

import numpy as np
import pytest
from populations import allowed, binormal, contaminated, count_misses, fallen, levels, risen
from scipy import stats

from redteam.core import StatisticsError
from redteam.statistics import Interval
from redteam.statistics import area as area_module
from redteam.statistics.area import area, area_interval
from redteam.statistics.ranking import rank

POPULATIONS = {
    "null": binormal(0.5),
    "weak": binormal(0.6),
    "clear": binormal(0.75),
    "strong": binormal(0.9),
    "stronger": binormal(0.97),
    "nearly separated": binormal(0.995),
    "wide members": binormal(0.95, 4),
    "narrow members": binormal(0.95, 0.25),
    "5 % huge": contaminated(0.05),
    "10 % huge": contaminated(0.1),
    "3 % fallen": fallen(0.03, 0.99999),
    "10 % fallen": fallen(0.1, 0.99999),
    "5 % fallen, overlap": fallen(0.05, 0.97),
    "10 % risen": risen(0.1),
    "binary null": levels([0.5, 0.5], [0.5, 0.5]),
    "binary, rare": levels([0.9, 0.1], [0.98, 0.02]),
    "binary, members only": levels([0.8, 0.2], [1.0, 0.0]),
    "binary, one-sided": levels([0.02, 0.98], [0.5, 0.5]),
    "binary, strong": levels([0.1, 0.9], [0.9, 0.1]),
    "3 levels": levels([0.1, 0.3, 0.6], [0.5, 0.4, 0.1]),
    "3 levels, nearly separated": levels([0.02, 0.03, 0.95], [0.9, 0.07, 0.03]),
    "5 levels": levels([0.2, 0.2, 0.2, 0.2, 0.2], [0.3, 0.3, 0.2, 0.1, 0.1]),
}


def interval(ranking, alpha, truth):
    """The interval, or, where the truth lies in it already, that by moments alone, which is part of it and quicker."""
    with mock.patch.object(area_module, "_FAR_OUT", 0.0):
        inner = area_interval(ranking, alpha=alpha)
    return inner if inner.low <= truth <= inner.high else area_interval(ranking, alpha=alpha)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "runs"),
    [((25, 25), 600), ((250, 25), 400), ((25, 250), 400), ((250, 250), 250), ((2500, 2500), 60)],
)
@pytest.mark.parametrize("name", POPULATIONS)
def test_the_interval_misses_at_most_alpha(name, sizes, runs):
    population = POPULATIONS[name]
    for alpha in (0.05, 0.005):
        above, below, made = count_misses(
            population, sizes, runs, lambda r, _, a=alpha: interval(r, a, population.auc), population.auc
        )
        print(f"{name:28} {sizes} alpha {alpha}: above {above}, below {below} of {made}")
        assert above + below <= allowed(alpha, made)
        assert max(above, below) <= allowed(alpha / 2, made)


def delong(ranking, alpha):
    """The usual interval: DeLong's variance and a normal quantile, on blocks."""
    m, n, auc = ranking.members, ranking.nonmembers, area(ranking)
    over = 1 - (np.cumsum(n) - n / 2) / ranking.n_nonmembers
    under = (np.cumsum(m) - m / 2) / ranking.n_members
    variance = m @ (over - auc) ** 2 / ranking.n_members**2 + n @ (under - auc) ** 2 / ranking.n_nonmembers**2
    reach = stats.norm.isf(alpha / 2) * np.sqrt(variance)
    return Interval(auc, auc - reach, auc + reach, alpha)


@pytest.mark.parametrize("name", ["nearly separated", "3 % fallen", "3 levels, nearly separated"])
def test_the_usual_interval_fails_the_same_simulation(name):
    population = POPULATIONS[name]
    above, below, made = count_misses(population, (25, 25), 400, lambda r, _: delong(r, 0.05), population.auc)
    assert above + below > allowed(0.05, made)


def test_separation_is_as_rare_as_its_bound_says():
    # With AUC exactly at the attainable of 25+25, all of a sample misses the fallen members 2.5 % of the time.
    population = fallen(1 - 0.025 ** (1 / 25), 0.9999999)
    above, _, made = count_misses(population, (25, 25), 2000, lambda r, _: area_interval(r, alpha=0.05), population.auc)
    assert above <= allowed(0.025, made)
    separated = sum(area(rank(*population.sample(np.random.default_rng(i), 25, 25))) == 1 for i in range(2000))
    assert separated == pytest.approx(0.025 * 2000, abs=3 * np.sqrt(0.025 * 2000))


def test_constant_scores_are_refused_rather_than_judged():
    with pytest.raises(StatisticsError, match="all 50 scores are equal"):
        rank(np.ones(50), np.arange(50) < 25)
